"""Refiner `confidence`."""

from __future__ import annotations

from gsegkit.interfaces import Refiner
from gsegkit.types import IGNORE, LabelledBatch
from gsegkit_refine.config import ConfidenceConfig


class Confidence(Refiner):
    """Turns uncertain pixels into 255, and drops the images of which too little is left.

    The share of 255 in an image, whoever set it, is added as the score `ignored`.
    """

    config: ConfidenceConfig

    def refine(self, batch: LabelledBatch) -> LabelledBatch:
        """Ignore pixels, then drop rows."""
        uncertain = batch.probs.amax(dim=1) < self.config.threshold  # [N,H,W]
        masks = batch.masks.masked_fill(uncertain, IGNORE)
        ignored = (masks == IGNORE).flatten(1).float().mean(dim=1)
        return batch.with_masks(masks).with_scores(ignored=ignored).keep(ignored <= self.config.max_ignored)
