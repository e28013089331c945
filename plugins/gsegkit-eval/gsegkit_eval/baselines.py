"""Two trivial predictors to print beside every result."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from gsegkit.dataset import Sample
from gsegkit.images import luma, otsu
from gsegkit.types import IGNORE

GRID = 64  # side of the grid on which the masks are averaged


def otsu_foreground(pixels: Tensor) -> NDArray[np.bool_]:
    """Otsu's threshold on the luma; the side that is rarer on the image's border is foreground.

    Args:
        pixels: [3, H, W] uint8.

    Returns:
        [H, W] bool; empty for an image of one grey level.
    """
    grey = luma(pixels)[0].round().clamp(0, 255).to(torch.uint8)
    counts = torch.bincount(grey.flatten(), minlength=256).double()
    bright: NDArray[np.bool_] = (grey > otsu(counts)).numpy()
    border = np.concatenate([bright[0], bright[-1], bright[1:-1, 0], bright[1:-1, -1]])
    return ~bright if border.mean() > 0.5 else bright


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
        foreground = ((mask != 0) & (mask != IGNORE)).float()
        self._sum += F.interpolate(foreground[None, None], size=(GRID, GRID), mode="bilinear", antialias=True)
        self._count += 1

    def mask(self, size: tuple[int, int]) -> NDArray[np.bool_]:
        """The constant mask at (height, width)."""
        mean = self._sum / max(self._count, 1)
        return (F.interpolate(mean, size=size, mode="bilinear", align_corners=False)[0, 0] > 0.5).numpy()


def foreground_iou(predicted: NDArray[np.bool_], sample: Sample) -> tuple[int, int]:
    """Intersection and union with the true foreground, without 255."""
    mask = sample.mask.numpy()
    valid = mask != IGNORE
    truth = (mask != 0) & valid
    return int((predicted & truth).sum()), int(((predicted & valid) | truth).sum())
