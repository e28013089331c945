"""Cutting and sizing photographs and masks alike, as the papers do before they train or score."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from gsegkit.dataset import UnlabelledImages
from gsegkit.images import centre_crop, fit_pixels, resize_pixels
from gsegkit.reading.images import Photograph, read_photograph

Box = tuple[float, float, float, float]  # left, top, width, height in pixels
BOX_REACH = 0.75  # of the longer side of a box: half the side of the square, as FineGAN and those after it cut


def crop_window(height: int, width: int, crop: str, box: Box | None) -> tuple[int, int, int, int]:
    """(top, bottom, left, right) of what a crop keeps.

    Args:
        height: of the photograph.
        width: of the photograph.
        crop: "none", "centre-square" (side = the short side), or "box-1.5": a square of 1.5 times the longer side of
            the box around its centre, clipped to the photograph.
        box: of the object; None = all is kept by "box-1.5".
    """
    if crop == "centre-square":
        side = min(height, width)
        top, left = round((height - side) / 2), round((width - side) / 2)
        return top, top + side, left, left + side
    if crop == "box-1.5" and box is not None:
        x, y, w, h = box
        reach, middle_x, middle_y = int(max(w, h) * BOX_REACH), int((2 * x + w) / 2), int((2 * y + h) / 2)
        top, bottom = max(0, middle_y - reach), min(height, middle_y + reach)
        left, right = max(0, middle_x - reach), min(width, middle_x + reach)
        if top < bottom and left < right:
            return top, bottom, left, right
    return 0, height, 0, width


def cropped(pixels: Tensor, crop: str, box: Box | None) -> Tensor:
    """[..., H, W] -> what a crop keeps of it, [..., h, w]; see `crop_window`."""
    top, bottom, left, right = crop_window(int(pixels.shape[-2]), int(pixels.shape[-1]), crop, box)
    return pixels[..., top:bottom, left:right]


def sized(pixels: Tensor, mask: Tensor, size: int | None, square: bool) -> tuple[Tensor, Tensor]:
    """A photograph and its mask with `size` as short side, the photograph antialiased, the mask nearest.

    Args:
        pixels: [3, H, W] uint8.
        mask: [H, W] uint8.
        size: None = as they are.
        square: keep the centre `size` x `size`.
    """
    if size is None:
        return pixels, mask
    height, width = int(mask.shape[0]), int(mask.shape[1])
    short = min(height, width)
    wanted = (size * height // short, size * width // short)
    pixels, mask = resize_pixels(pixels[None], wanted)[0], resize_mask(mask, wanted)
    return (centre_crop(pixels, (size, size)), centre_crop(mask, (size, size))) if square else (pixels, mask)


def resize_mask(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """[H, W] uint8 at (height, width), each pixel the nearest one."""
    return F.interpolate(mask[None, None].float(), size, mode="nearest-exact")[0, 0].to(torch.uint8)


@dataclass(frozen=True)
class CroppedImages(UnlabelledImages):
    """Image files of which a part is kept, before they are fitted.

    Attributes:
        crop: see `crop_window`.
        boxes: image file -> box of its object.
    """

    crop: str = "none"
    boxes: Mapping[Path, Box] = field(default_factory=dict)

    def read(self, index: int) -> Photograph:
        """One photograph, cut and fitted."""
        path = self.paths[index]
        found = read_photograph(path, self.scaling)
        pixels = cropped(found.pixels, self.crop, self.boxes.get(path))
        if self.size is not None:
            pixels = centre_crop(fit_pixels(pixels[None], self.size, self.fit_rule), self.size)[0]
        return replace(found, pixels=pixels)
