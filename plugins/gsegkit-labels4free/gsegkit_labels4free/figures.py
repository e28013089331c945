"""The figure for the report, drawn from tensors."""

from __future__ import annotations

from torch import Tensor

SHOWN = 8  # images in a row
ROWS = ("image", "soft alpha", "mask", "background generator", "object on another background", "object alone")
GREY = 0.0  # background of the last row


def composite_rows(images: Tensor, soft: Tensor, emptied: Tensor, threshold: float) -> dict[str, Tensor]:
    """The method as rows of images, each [N, 3, H, W] float32 in [-1, 1]; backgrounds are those of the next sample.

    Args:
        images: [N, 3, H, W] float32 in [-1, 1].
        soft: [N, 1, H, W] float32, alpha in [0, 1].
        emptied: the same images by the background generator.
        threshold: alpha above which a pixel belongs to the mask.
    """
    mask = (soft > threshold).float()
    rows = (
        images,
        (soft * 2 - 1).expand(-1, 3, -1, -1),
        (mask * 2 - 1).expand(-1, 3, -1, -1),
        emptied,
        soft * images + (1 - soft) * emptied.roll(1, dims=0),
        soft * images + (1 - soft) * GREY,
    )
    return dict(zip(ROWS, rows, strict=True))
