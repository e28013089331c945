"""A picture of clusterings side by side."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from gsegkit.colours import class_palette, overlay
from gsegkit.images import grid

TILE, MARGIN, LINE = 112, 4, 14  # of the sheet, in pixels; a tile is at least so wide


def draw_sheet(
    path: Path, count: int, k: int, found: Mapping[str, list[Tensor]], pictures: Tensor, masks: Tensor | None
) -> None:
    """Images in rows, methods in columns; clusters of equal place have nearly equal colours in all columns."""
    columns = [("image", pictures[:count])]
    if masks is not None:
        columns.append(("reference", overlay(pictures[:count], masks[:count], 0.6)))
    first: Tensor | None = None
    palette = class_palette()
    palette[0] = torch.tensor([70, 70, 70])
    for method, parts in found.items():
        labels = torch.cat(parts)
        if first is None:
            first = labels
        labels = _recoloured(labels, first, k)[:count]
        # class 0 is shown uncoloured by overlay(): every cluster gets a colour here
        columns.append((f"{method}, k={k}", overlay(pictures[:count], labels + 1, 0.65, torch.roll(palette, 1, 0))))
    scale = -(-TILE // pictures.shape[-1])
    tiles = torch.cat([column[:, None] for _, column in columns], dim=1).flatten(0, 1)
    tiles = tiles.repeat_interleave(scale, dim=2).repeat_interleave(scale, dim=3)
    sheet = grid(tiles, len(columns), MARGIN).permute(1, 2, 0).numpy()
    picture = Image.new("RGB", (sheet.shape[1], sheet.shape[0] + LINE), "white")
    picture.paste(Image.fromarray(sheet), (0, LINE))
    draw = ImageDraw.Draw(picture)
    for i, (name, _) in enumerate(columns):
        draw.text((i * (tiles.shape[-1] + MARGIN) + 2, 1), name, fill="black")
    picture.save(path, optimize=True)


def _recoloured(labels: Tensor, pattern: Tensor, k: int) -> Tensor:
    """The labels renumbered so that as many pixels as possible have the pattern's number."""
    pairs = torch.bincount(labels.flatten().long() * k + pattern.flatten().long(), minlength=k * k).view(k, k)
    _, columns = linear_sum_assignment(pairs.numpy(), maximize=True)
    return torch.from_numpy(columns).to(torch.uint8)[labels.long()]
