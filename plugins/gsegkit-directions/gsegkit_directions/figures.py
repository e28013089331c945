"""Figures for the report, drawn from tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from gsegkit.images import to_pixels
from gsegkit_directions.losses import luma

SHOWN = 8  # images in a row


def grey_pixels(planes: Tensor) -> Tensor:
    """[N, H, W] float in [-1, 1] -> grey [N, 3, H, W] uint8; 0 is middle grey."""
    return to_pixels(planes.unsqueeze(1).expand(-1, 3, -1, -1))


def mask_pixels(masks: Tensor) -> Tensor:
    """[N, H, W], foreground true or not 0 -> white on black, [N, 3, H, W] uint8."""
    return ((masks != 0).to(torch.uint8) * 255).unsqueeze(1).expand(-1, 3, -1, -1)


def direction_rows(original: Tensor, light: Tensor, dark: Tensor, masks: Tensor) -> dict[str, Tensor]:
    """Rows of the method's figure, [N, 3, H, W] uint8 each.

    Args:
        original: [N, 3, H, W] float32 in [-1, 1], before the shift.
        light: the same along the light direction.
        dark: the same along the dark direction.
        masks: [N, H, W], foreground not 0.
    """
    return {
        "original": to_pixels(original),
        "light": to_pixels(light),
        "dark": to_pixels(dark),
        "difference": grey_pixels(luma(light)[:, 0] - luma(dark)[:, 0]),
        "mask": mask_pixels(masks),
    }


def mask_rows(original: Tensor, shifted: Tensor, masks: Tensor) -> Tensor:
    """Rows original, shifted, mask as one batch [3 * N, 3, H, W] uint8; arguments as for `direction_rows`."""
    return torch.cat([to_pixels(original), to_pixels(shifted), mask_pixels(masks)])
