"""Refiner `guided`: class borders follow the image's edges (He et al., Guided Image Filtering)."""

from __future__ import annotations

from dataclasses import replace

import torch
from kornia.filters import guided_blur
from torch import Tensor

from gsegkit.errors import ConfigError
from gsegkit.images import LUMA
from gsegkit.interfaces import Refiner
from gsegkit.types import IGNORE, LabelledBatch
from gsegkit_refine.config import GuidedConfig


class Guided(Refiner):
    """Filters the class probabilities with the image as guide, and takes the most probable class again.

    Where an earlier refiner changed a pixel, that decision (probability 1) is filtered instead of the extractor's
    probability; 255 stays 255. The filtered probabilities replace the batch's, so that a later `confidence` sees
    them. The share of pixels that changed class is added as the score `guided_changed`. Drops no image.
    """

    config: GuidedConfig

    def refine(self, batch: LabelledBatch) -> LabelledBatch:
        """Filter every row."""
        side = min(batch.pixels.shape[-2:])
        if self.config.radius >= side:
            raise ConfigError(
                f"guided.radius is {self.config.radius}, but the images are only {side} pixels wide or high",
                f"give at most {side - 1}; about a sixteenth of the side works well",
            )
        probs = batch.decided()
        rows = [self._filter(batch.pixels[i : i + 1], probs[i : i + 1]) for i in range(len(batch))]
        probs = torch.cat(rows) if rows else probs
        masks = torch.where(batch.masks == IGNORE, IGNORE, probs.argmax(dim=1)).to(torch.uint8)
        changed = (masks != batch.masks).flatten(1).float().mean(dim=1)
        return replace(batch, masks=masks, probs=probs).with_scores(guided_changed=changed)

    def _filter(self, pixels: Tensor, probs: Tensor) -> Tensor:
        """One row at a time, so that a row's result cannot depend on its batch: [1, K, H, W]."""
        guide = pixels.float() / 255
        if not self.config.colour:
            weights = torch.tensor(LUMA, device=guide.device).view(1, 3, 1, 1)
            guide = (guide * weights).sum(dim=1, keepdim=True)
        size = 2 * self.config.radius + 1
        filtered = guided_blur(guide, probs, (size, size), self.config.eps).clamp(min=0)
        return filtered / filtered.sum(dim=1, keepdim=True).clamp(min=1e-8)
