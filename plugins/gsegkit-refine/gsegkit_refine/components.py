"""Refiner `components`."""

from __future__ import annotations

import numpy as np
import torch

from gsegkit.interfaces import Refiner
from gsegkit.types import IGNORE, LabelledBatch
from gsegkit_refine.config import ComponentsConfig
from gsegkit_refine.pieces import Mask, small_pieces


class Components(Refiner):
    """Keeps the connected pieces of more than a share of the largest one's area; drops no image."""

    config: ComponentsConfig

    def refine(self, batch: LabelledBatch) -> LabelledBatch:
        """Take small pieces out of every mask."""
        masks = batch.masks.cpu().numpy().copy()
        for mask in masks:
            self._clean(mask)
        return batch.with_masks(torch.from_numpy(masks).to(batch.masks.device))

    def _clean(self, mask: Mask) -> None:
        labelled = (mask != 0) & (mask != IGNORE)
        if self.config.per == "foreground":
            regions = [labelled]
        else:
            regions = [mask == number for number in np.unique(mask[labelled])]
        for region in regions:
            small = small_pieces(region, self.config.share, self.config.connectivity)
            mask[small] = IGNORE if self.config.dropped == "ignore" else 0
