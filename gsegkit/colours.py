"""Colours of classes: palettes, and masks drawn over images."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def class_palette(num_classes: int = 256) -> Tensor:
    """[num_classes, 3] uint8 colours: 0 is black, neighbours differ strongly (the VOC bit pattern)."""
    colours = torch.zeros(num_classes, 3, dtype=torch.long)
    index = torch.arange(num_classes)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= (index >> (3 * bit + channel) & 1) << (7 - bit)
    return colours.to(torch.uint8)


def overlay(pixels: Tensor, masks: Tensor, alpha: float = 0.5, palette: Tensor | None = None) -> Tensor:
    """Colour the classes over the images; class 0 stays as it is, 255 (ignore) turns white.

    Args:
        pixels: [N, 3, H, W] uint8.
        masks: [N, H, W] uint8.
        alpha: weight of the colour in [0, 1].
        palette: [256, 3] uint8 colours of the classes; None = `class_palette`.

    Returns:
        [N, 3, H, W] uint8.

    Example:
        >>> masks = torch.tensor([[[0, 1]]], dtype=torch.uint8)
        >>> overlay(torch.zeros(1, 3, 1, 2, dtype=torch.uint8), masks)[0, :, 0].tolist()
        [[0, 64], [0, 0], [0, 0]]
    """
    palette = class_palette() if palette is None else palette.clone()
    palette[255] = 255
    colours = palette[masks.cpu().long()].permute(0, 3, 1, 2).float()
    base = pixels.cpu().float()
    mixed = base * (1 - alpha) + colours * alpha
    return torch.where((masks.cpu() == 0).unsqueeze(1), base, mixed).round().to(torch.uint8)


#: Colours of classes 1 .. 12 in images: bright, and neighbours in the list far apart.
BRIGHT: tuple[str, ...] = ("ff3b5c", "2f8cff", "ffd21f", "1ecb7b", "b45cff", "ff8a1f")

BRIGHT += ("19d3e6", "ff6bd6", "9be22d", "8b5a2b", "7f8cff", "00897b")


def voc_palette() -> Tensor:
    """[256, 3] uint8: VOC's colours; 255 (ignore) is its cream."""
    palette = class_palette()
    palette[255] = torch.tensor([224, 224, 192], dtype=torch.uint8)
    return palette


def display_palette(colours: Mapping[int, str] | None = None) -> Tensor:
    """[256, 3] uint8: what overlays and reports colour classes with; 0 is black, 255 (ignore) white.

    Args:
        colours: mask value -> "#rrggbb" for classes whose colours were chosen.
    """
    palette = class_palette()
    palette[1 : len(BRIGHT) + 1] = torch.tensor([list(bytes.fromhex(colour)) for colour in BRIGHT], dtype=torch.uint8)
    for value, colour in (colours or {}).items():
        palette[value] = torch.tensor(list(bytes.fromhex(colour.removeprefix("#"))), dtype=torch.uint8)
    palette[255] = 255
    return palette
