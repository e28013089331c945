"""Refiner `holes`."""

from __future__ import annotations

import numpy as np
import torch

from gsegkit.interfaces import Refiner
from gsegkit.types import LabelledBatch
from gsegkit_refine.config import HolesConfig
from gsegkit_refine.pieces import fill_holes


class Holes(Refiner):
    """Fills small holes with the class around them; drops no image. See `gsegkit_refine.pieces.fill_holes`."""

    config: HolesConfig

    def refine(self, batch: LabelledBatch) -> LabelledBatch:
        """Fill the holes of every mask."""
        masks = batch.masks.cpu().numpy()
        filled = np.empty_like(masks)
        for row, mask in enumerate(masks):
            filled[row] = fill_holes(mask, self.config.share)
        return batch.with_masks(torch.from_numpy(filled).to(batch.masks.device))
