"""What is measured on one photograph, and on all of them together."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gsegkit.comparing.criteria import lab
from gsegkit.images import luma, resize_pixels

SIDE = 64  # photographs are looked at in this size, squashed
RING = 6  # pixels of it that count as border
HASH_SIDE = 16
COLOURLESS = 3.0  # mean chroma in Lab below which a photograph is grey; a scanner's tint is about 1


@dataclass(frozen=True)
class Measured:
    """One photograph.

    Attributes:
        size: (height, width).
        hash: [256] bool, difference hash: which of two neighbours is brighter, at 16 x 17.
        tiny: [3, 16, 16] uint8, to confirm what the hash says.
        grey: it has no colour.
        plain: it is of one colour.
        contrast: distance in Lab between the middle and the border, in standard deviations of the border.
    """

    size: tuple[int, int]
    hash: Tensor
    tiny: Tensor
    grey: bool
    plain: bool
    contrast: float


def measure(pixels: Tensor) -> tuple[Measured, Tensor]:
    """Measure a photograph, [3, H, W] uint8.

    Returns:
        The numbers, and the photograph at 64 x 64 in Lab, [3, 64, 64] float32.
    """
    small = resize_pixels(pixels[None], (SIDE, SIDE))[0]
    colours = lab(small)
    light = luma(resize_pixels(pixels[None], (HASH_SIDE, HASH_SIDE + 1)))[0, 0]
    measured = Measured(
        size=(int(pixels.shape[1]), int(pixels.shape[2])),
        hash=(light[:, 1:] > light[:, :-1]).flatten(),
        tiny=resize_pixels(pixels[None], (HASH_SIDE, HASH_SIDE))[0],
        grey=float(colours[1:].square().sum(dim=0).sqrt().mean()) < COLOURLESS,
        plain=bool((small.flatten(1) == small.flatten(1)[:, :1]).all()),
        contrast=_contrast(colours),
    )
    return measured, colours


def _contrast(colours: Tensor) -> float:
    quarter = SIDE // 4
    ring = torch.ones(SIDE, SIDE, dtype=torch.bool)
    ring[RING:-RING, RING:-RING] = False
    border, middle = colours[:, ring], colours[:, quarter:-quarter, quarter:-quarter].flatten(1)
    distance = (border.mean(dim=1) - middle.mean(dim=1)).square().sum().sqrt()
    return float(distance / (border.var(dim=1).sum().sqrt() + 1.0))  # 1: below what an eye tells apart


class Average:
    """Mean and variance over photographs of each pixel, in Lab, [3, 64, 64]."""

    def __init__(self) -> None:
        self.count = 0
        self._sum = torch.zeros(3, SIDE, SIDE, dtype=torch.float64)
        self._squares = torch.zeros(3, SIDE, SIDE, dtype=torch.float64)

    def add(self, colours: Tensor) -> None:
        """One photograph more, [3, 64, 64] in Lab."""
        self.count += 1
        self._sum += colours
        self._squares += colours.double().square()

    def alignment(self) -> float:
        """How much of the photographs' variance is a picture that all share: near 0 for things anywhere, 1 for copies.

        Variance within the mean image, less what chance gives for so many, as a share of the mean square distance from
        the mean colour.
        """
        mean = self._sum / self.count
        within = (mean - mean.mean(dim=(1, 2), keepdim=True)).square().sum()
        total = (self._squares / self.count - mean.mean(dim=(1, 2), keepdim=True).square()).sum()
        return max(0.0, float(within / total.clamp_min(1e-9)) - 1 / self.count)

    def asymmetry(self) -> float:
        """How unlike the mean image is itself flipped left to right, 0 to about 1.

        Their mean square difference, less what chance gives for so many photographs, as a share of the variance.
        """
        mean = self._sum / self.count
        variance = (self._squares / self.count - mean.square()).clamp_min(0)
        chance = 2 * variance.sum() / self.count
        difference = (mean - mean.flip(-1)).square().sum()
        return float((difference - chance).clamp_min(0) / (4 * variance.sum()).clamp_min(1e-9))
