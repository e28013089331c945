"""Photographs for the training: read once, fitted, shown as random parts."""

from __future__ import annotations

import torch
from torch import Tensor

from gsegkit.context import RunContext
from gsegkit.dataset import UnlabelledImages
from gsegkit.errors import DataError, GsegkitError, and_more
from gsegkit.images import resize_pixels, to_images
from gsegkit_layered.config import TrainConfig

MEMORY = 4 << 30  # bytes of decoded photographs
LEVELS = 5  # sizes between the smallest and the largest part that is shown
NAMED = 10  # broken files that are named


class Photos:
    """All photographs in memory; a batch is a function of torch's global generator.

    Args:
        images: the files.
        config: side, fit rule, crop, mirror, and the limits of bad input.
        ctx: progress, warnings.
        device: where batches go.

    Raises:
        DataError: too few, too many for the memory, or too many that cannot be read; names up to ten of those.
    """

    def __init__(self, images: UnlabelledImages, config: TrainConfig, ctx: RunContext, device: torch.device) -> None:
        self.config, self.device = config, device
        shares = torch.linspace(config.crop_min, config.crop_max, LEVELS).tolist()
        self.sides = sorted({max(config.resolution, round(config.resolution / share)) for share in shares})
        needed = len(images) * 3 * sum(side**2 for side in self.sides)
        if needed > MEMORY:
            raise DataError(
                f"{len(images)} photographs of {self.sides[-1]} px need {needed >> 20} MB of memory",
                "give fewer of them, or set gen.crop_min = gen.crop_max",
            )
        largest = self._read(images.fitted((self.sides[-1],) * 2, config.fit), ctx)
        #: Side -> all photographs at that size, [M, 3, side, side] uint8: a smaller one shows a larger part.
        self.pixels = {side: resize_pixels(largest, (side, side)) for side in self.sides}

    def __len__(self) -> int:
        return len(self.pixels[self.sides[0]])

    def batch(self, count: int) -> Tensor:
        """[N, 3, R, R] float32 in [-1, 1]: random photographs, each cut at a random place and mirrored or not.

        The parts vary in size as the paper's "random resized crop": composites whose object was scaled and moved must
        not look less real than photographs for that alone.
        """
        sizes = torch.randint(len(self.sides), (count,))
        parts = [self._cut(side, int((sizes == i).sum())) for i, side in enumerate(self.sides)]
        return to_images(torch.cat(parts).permute(0, 3, 1, 2).contiguous().to(self.device))

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
        return self.pixels[stored][chosen[:, None, None], :, rows[:, :, None], columns[:, None, :]]

    def _read(self, images: UnlabelledImages, ctx: RunContext) -> Tensor:
        read: list[Tensor] = []
        broken: list[str] = []
        for index in ctx.track(range(len(images)), "reading photographs"):
            try:
                read.append(images[index])
            except GsegkitError as error:
                broken.append(error.message)
        if broken:
            what = f"{len(broken)} of {len(images)} photographs cannot be read: {and_more(broken, NAMED)}"
            if len(broken) > self.config.max_broken * len(images):
                raise DataError(what, "remove them, copy them again, or raise gen.max_broken")
            ctx.warn(f"{what}; they are skipped")
        if len(read) < self.config.min_images:
            raise DataError(
                f"{len(read)} photographs are too few for a layered GAN",
                f"give at least {self.config.min_images}, some thousands for good masks, or lower gen.min_images",
            )
        return torch.stack(read)
