"""Foregrounds that need no training: the border rule, Otsu's threshold, the mean mask.

Evaluators print two of them beside every result, and `gsegkit-baselines` makes segmenters of them.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from gsegkit.images import luma, otsu
from gsegkit.types import IGNORE

GRID = 64  # side of the grid on which the masks are averaged
Mask = NDArray[np.bool_]


def off_the_border(region: Mask) -> Mask:
    """The border rule: of a region and the rest, [H, W] bool, the one that is rarer on the border is foreground."""
    border = np.concatenate([region[0], region[-1], region[1:-1, 0], region[1:-1, -1]])
    return ~region if border.mean() > 0.5 else region


def otsu_foreground(pixels: Tensor) -> Mask:
    """Otsu's threshold on the luma; the side that is rarer on the image's border is foreground.

    Args:
        pixels: [3, H, W] uint8.

    Returns:
        [H, W] bool; empty for an image of one grey level.
    """
    grey = luma(pixels)[0].round().clamp(0, 255).to(torch.uint8)
    counts = torch.bincount(grey.flatten(), minlength=256).double()
    bright: Mask = (grey > otsu(counts)).numpy()
    return off_the_border(bright)


class CentrePrior:
    """One constant mask: where more than half of the true masks have foreground.

    Masks of any size are averaged on a grid of 64 x 64; ignored pixels count as no foreground there. It uses the
    labels, so it is about the best that "the object is in the middle and has the usual shape" can give.
    """

    def __init__(self) -> None:
        self._sum = torch.zeros(1, 1, GRID, GRID)
        self._count = 0

    def add(self, mask: Tensor) -> None:
        """Count one true mask, [H, W] uint8."""
        self.add_shares(self.shares(mask))

    @staticmethod
    def shares(mask: Tensor) -> Tensor:
        """[1, 1, 64, 64] float32: how much of each cell of the grid is foreground in one true mask."""
        foreground = ((mask != 0) & (mask != IGNORE)).float()
        return F.interpolate(foreground[None, None], size=(GRID, GRID), mode="bilinear", antialias=True)

    def add_shares(self, shares: Tensor) -> None:
        """Count one true mask, given as its `shares`."""
        self._sum += shares
        self._count += 1

    @property
    def mean(self) -> Tensor:
        """[1, 1, 64, 64] float32: share of the masks that have foreground there."""
        return self._sum / max(self._count, 1)

    def mask(self, size: tuple[int, int]) -> Mask:
        """The constant mask at (height, width)."""
        return (F.interpolate(self.mean, size=size, mode="bilinear", align_corners=False)[0, 0] > 0.5).numpy()
