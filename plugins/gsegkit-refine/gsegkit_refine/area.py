"""Refiner `area`."""

from __future__ import annotations

from gsegkit.interfaces import Refiner
from gsegkit.types import IGNORE, LabelledBatch
from gsegkit_refine.config import AreaConfig


class Area(Refiner):
    """Keeps the images whose foreground share lies in a window.

    The share is that of the pixels of class != 0 among those that are not 255; an image of 255 only is dropped. It
    is added as the score `area`.
    """

    config: AreaConfig

    def refine(self, batch: LabelledBatch) -> LabelledBatch:
        """Drop the rows outside of the window."""
        valid = (batch.masks != IGNORE).flatten(1).sum(dim=1)
        foreground = ((batch.masks != 0) & (batch.masks != IGNORE)).flatten(1).sum(dim=1)
        share = foreground / valid.clamp(min=1)
        inside = (valid > 0) & (share >= self.config.min) & (share <= self.config.max)
        return batch.with_scores(area=share.float()).keep(inside)
