"""A contact sheet: one row a cluster, on the images that show most of it, the rest of each image dark."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from gsegkit.classes.page.look import Shown
from gsegkit.images import png_bytes, resize_pixels, scaled_size
from gsegkit.records.ours import marked_png
from gsegkit.storage import atomic_write

CELL = 128  # longer side of an image
LABEL = 120  # width of the first column
GAP = 4
DIM = 0.22  # brightness of what does not belong to the cluster


def write_sheet(shown: Shown, path: Path, columns: int = 8) -> None:
    """Draw the first level of `shown` as a PNG: a row for each cluster in class order, its id and share in front."""
    atomic_write(path, marked_png(png_bytes(draw_sheet(shown, columns))))


def draw_sheet(shown: Shown, columns: int = 8) -> Tensor:
    """The sheet, [3, H, W] uint8.

    Args:
        shown: its first level is drawn, on its `columns` images with most of each cluster.
        columns: images in a row; the first row has the first ones as they are.
    """
    view = shown.levels[0]
    pixels, maps = _cells(shown.pixels, view.maps)
    labels = ["generated"] + [
        f"cluster {cluster}\n{share:.1%}" for cluster, share in zip(view.ids, view.shares, strict=True)
    ]
    if not shown.has_levels:
        labels[1:] = [f"{name}\n{label}" for name, label in zip(shown.names, labels[1:], strict=True)]
    rows = [_row("generated", pixels[:columns])]
    for position, label in enumerate(labels[1:]):
        inside = (maps == position)[:, None]
        best = inside.flatten(1).float().mean(dim=1).sort(descending=True, stable=True).indices[:columns]
        chosen = pixels[best].float()
        grey = chosen.mean(dim=1, keepdim=True).expand_as(chosen) * DIM
        rows.append(_row(label, torch.where(inside[best], chosen, grey).round().to(torch.uint8)))
    return torch.cat(rows, dim=1)


def _row(label: str, pixels: Tensor) -> Tensor:
    height = int(pixels.shape[2])
    cells = [F.pad(picture, (0, GAP, 0, GAP), value=255) for picture in pixels]
    return torch.cat([_text(label, height + GAP), *cells], dim=2)


def _text(label: str, height: int) -> Tensor:
    image = Image.new("L", (LABEL, height), 255)
    ImageDraw.Draw(image).multiline_text((6, 6), label, fill=0, font=ImageFont.load_default(size=14), spacing=4)
    grey = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(height, LABEL)
    return grey.expand(3, -1, -1)


def _cells(pixels: Tensor, maps: Tensor) -> tuple[Tensor, Tensor]:
    """Images and maps at the size of a cell."""
    height, width = pixels.shape[2:]
    size = scaled_size(height, width, CELL / max(height, width))
    grown = F.interpolate(maps[:, None].float(), size=size, mode="nearest-exact")[:, 0].to(torch.uint8)
    return resize_pixels(pixels, size), grown
