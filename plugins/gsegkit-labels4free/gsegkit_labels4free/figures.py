"""Figures that the extractor leaves for the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from gsegkit.context import RunContext
from gsegkit.images import grid, to_pixels, write_png
from gsegkit.interfaces import Generator
from gsegkit.storage import atomic_write
from gsegkit.types import GeneratedBatch, GeneratorInfo

SHOWN = 8  # pictures in a row
ROWS = ("picture", "soft alpha", "mask", "background generator", "object on another ground", "object alone")
GREY = 0.0  # ground of the last row


class Labels4Free(Protocol):
    """What the figure needs of a fitted extractor."""

    config: Any
    found: dict[str, Any]

    def features(self, info: GeneratorInfo) -> tuple[str, ...]:
        """Names of the features that it reads."""

    def soft(self, features: Mapping[str, Tensor]) -> Tensor:
        """Opacity of the foreground, [N, 1, H, W] in [0, 1]."""

    def emptied(self, batch: GeneratedBatch, generator: Generator) -> Tensor:
        """Pictures of the background generator, [N, 3, H, W] in [-1, 1]."""


@torch.no_grad()
def composite_rows(extractor: Labels4Free, generator: Generator, seeds: Tensor) -> dict[str, Tensor]:
    """The method in pictures, each row [N, 3, H, W] float32 in [-1, 1]; grounds are those of the next sample."""
    batch = generator.sample(seeds, features=extractor.features(generator.info))
    soft = extractor.soft(batch.features)  # [N,1,H,W]
    mask = (soft > extractor.config.threshold).float()
    emptied = extractor.emptied(batch, generator)
    other = emptied.roll(1, dims=0)
    rows = (
        batch.images,
        (soft * 2 - 1).expand(-1, 3, -1, -1),
        (mask * 2 - 1).expand(-1, 3, -1, -1),
        emptied,
        soft * batch.images + (1 - soft) * other,
        soft * batch.images + (1 - soft) * GREY,
    )
    return dict(zip(ROWS, rows, strict=True))


def write_composites(extractor: Labels4Free, generator: Generator, ctx: RunContext) -> None:
    """figures/labels4free.png, with its caption, where the report looks for it."""
    rows = composite_rows(extractor, generator, ctx.seeds("preview", SHOWN))
    found = extractor.found
    caption = (
        f"Rows: {', '.join(ROWS)}. Background generator: edit point {found['background']}. "
        f"Real pictures: {found['reals']}. Iteration {found['snapshot']}, separation {found['separation']:.2f}."
    )
    folder = ctx.folder / "figures"
    write_png(folder / "labels4free.png", grid(to_pixels(torch.cat(list(rows.values()))).cpu(), SHOWN))
    atomic_write(folder / "labels4free.txt", (caption + "\n").encode())
