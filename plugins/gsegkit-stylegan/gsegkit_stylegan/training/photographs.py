"""Real images for the trainer: which ones a step shows, at its resolution, mirrored; a function of (seed, step)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from gsegkit.images import to_images
from gsegkit.seeds import child_seed
from gsegkit.training import EpochOrder, ImageBank, flip_where, upload


class RealImages:
    """Square photographs of one side, in an order that is a function of (seed, epoch).

    Args:
        bank: the photographs at the network's resolution.
        batch_size: images of a step.
        mirror: "none", "x" or "xy": axes along which half of the images are flipped.
        seed: of order and flips.
    """

    def __init__(self, bank: ImageBank, batch_size: int, mirror: str, seed: int) -> None:
        self.bank, self.mirror, self.seed = bank, mirror, seed
        self.order = EpochOrder(len(bank), batch_size, seed, "epoch")

    def batch(self, step: int, side: int, rows: Tensor | None = None) -> Tensor:
        """The real images of one step: [batch_size, 3, side, side] float32 in [-1, 1]; or these `rows` of them."""
        every = torch.tensor(self.order.rows(step))
        rows = torch.arange(len(every)) if rows is None else rows
        batch = to_images(self.bank.batch(every[rows]))
        if side < batch.shape[-1]:
            batch = F.avg_pool2d(batch, batch.shape[-1] // side)
        return self._flip(batch, step, rows, len(every))

    def labels(self, step: int) -> Tensor | None:
        """Class labels of the same images, [batch_size] int64; None when unconditional."""
        labels = self.bank.labels
        return None if labels is None else upload(labels[self.order.rows(step)], self.bank.device)

    def _flip(self, batch: Tensor, step: int, rows: Tensor, count: int) -> Tensor:
        generator = torch.Generator().manual_seed(child_seed(self.seed, "flip", step))
        down, across = torch.rand(2, count, generator=generator)[:, rows] < 0.5
        return flip_where(batch, across if "x" in self.mirror else None, down if "y" in self.mirror else None)
