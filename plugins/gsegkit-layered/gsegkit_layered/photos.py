"""Photographs for the training: shown as random parts."""

from __future__ import annotations

import torch
from torch import Tensor

from gsegkit.context import RunContext
from gsegkit.dataset import UnlabelledImages
from gsegkit.images import to_images
from gsegkit.training import MEMORY_LIMIT, ImageBank, upload
from gsegkit_layered.config import TrainConfig

LEVELS = 5  # sizes between the smallest and the largest part that is shown


class Photos:
    """The photographs at several sizes; a batch is a function of torch's global generator.

    Args:
        images: the files.
        config: side, fit rule, crop, mirror, and the limits of bad input.
        ctx: progress, warnings.
        device: where batches go.

    Attributes:
        banks: side -> all photographs at that size: a smaller one shows a larger part.

    Raises:
        DataError: too few, or too many that cannot be read; names up to ten of those.
    """

    def __init__(self, images: UnlabelledImages, config: TrainConfig, ctx: RunContext, device: torch.device) -> None:
        self.config, self.device = config, device
        shares = torch.linspace(config.crop_min, config.crop_max, LEVELS).tolist()
        self.sides = sorted({max(config.resolution, round(config.resolution / share)) for share in shares})
        largest = self.sides[-1]
        limit = MEMORY_LIMIT * largest**2 // sum(side**2 for side in self.sides)  # of all sizes together
        bank = ImageBank(
            images, (largest, largest), config.fit, ctx, least=config.min_images, device=device,
            max_broken=config.max_broken, limit=limit,
        )  # fmt: skip
        self.banks = {side: bank.resized((side, side)) for side in self.sides}

    def __len__(self) -> int:
        return len(self.banks[self.sides[0]])

    def batch(self, count: int) -> Tensor:
        """[N, 3, R, R] float32 in [-1, 1]: random photographs, each cut at a random place and mirrored or not.

        The parts vary in size as the paper's "random resized crop": composites whose object was scaled and moved must
        not look less real than photographs for that alone.
        """
        sizes = torch.randint(len(self.sides), (count,))
        parts = [self._cut(side, int((sizes == i).sum())) for i, side in enumerate(self.sides)]
        return to_images(torch.cat(parts).permute(0, 3, 1, 2).contiguous())

    def _cut(self, stored: int, count: int) -> Tensor:
        """Parts of photographs of one size, [N, R, R, 3] uint8."""
        side = self.config.resolution
        chosen = torch.randint(len(self), (count,))
        corner = torch.randint(stored - side + 1, (2, count, 1))
        span = torch.arange(side)
        rows, columns = corner[0] + span, corner[1] + span
        coins = torch.rand(2, count, 1) < 0.5
        if "x" in self.config.mirror:
            columns = torch.where(coins[0], columns.flip(1), columns)
        if "y" in self.config.mirror:
            rows = torch.where(coins[1], rows.flip(1), rows)
        whole = self.banks[stored].batch(chosen)  # [N,3,stored,stored]
        here = whole.device
        n, rows, columns = (upload(index, here) for index in (torch.arange(count), rows, columns))
        return whole[n[:, None, None], :, rows[:, :, None], columns[:, None, :]]
