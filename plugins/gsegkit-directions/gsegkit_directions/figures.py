"""Figures that the extractors leave for the report."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from gsegkit.context import RunContext
from gsegkit.images import grid, to_pixels, write_png
from gsegkit.interfaces import Generator, MaskExtractor
from gsegkit.storage import atomic_write
from gsegkit.types import GeneratedBatch, MaskBatch
from gsegkit_directions.losses import luma

SHOWN = 8  # pictures in a row


class Directions(Protocol):
    """What the figure needs of a fitted extractor."""

    found: dict[str, Any]

    def shifted(self, batch: GeneratedBatch, generator: Generator, index: int) -> Tensor:
        """Pictures moved along one of the two directions, [N, 3, H, W] float."""

    def unshifted(self, batch: GeneratedBatch, generator: Generator) -> Tensor:
        """The same pictures as they are, [N, 3, H, W] float."""

    def extract(self, batch: GeneratedBatch, generator: Generator) -> MaskBatch:
        """Their masks."""


def grey_pixels(planes: Tensor) -> Tensor:
    """[N, H, W] float in [-1, 1] -> grey [N, 3, H, W] uint8; 0 is middle grey."""
    return to_pixels(planes.unsqueeze(1).expand(-1, 3, -1, -1))


def mask_pixels(masks: Tensor) -> Tensor:
    """[N, H, W], foreground true or not 0 -> white on black, [N, 3, H, W] uint8."""
    return ((masks != 0).to(torch.uint8) * 255).unsqueeze(1).expand(-1, 3, -1, -1)


@torch.no_grad()
def direction_rows(extractor: Directions, generator: Generator, batch: GeneratedBatch) -> dict[str, Tensor]:
    """Rows of the method's figure, [N, 3, H, W] uint8 each: original, light, dark, difference, mask."""
    light, dark = extractor.shifted(batch, generator, 0), extractor.shifted(batch, generator, 1)
    masks = extractor.extract(batch, generator).probs.argmax(dim=1)
    return {
        "original": to_pixels(extractor.unshifted(batch, generator)),
        "light": to_pixels(light),
        "dark": to_pixels(dark),
        "difference": grey_pixels(luma(light)[:, 0] - luma(dark)[:, 0]),
        "mask": mask_pixels(masks),
    }


def write_directions(extractor: Directions, generator: Generator, ctx: RunContext) -> None:
    """figures/directions.png: what the two directions do to samples that were not chosen."""
    rows = direction_rows(extractor, generator, generator.sample(ctx.seeds("preview", SHOWN)))
    caption = (
        "Rows: original; the light direction; the dark direction; their difference (grey = none); the mask. "
        f"Cosine of the two directions {extractor.found['cosine']:.2f}."
    )
    write_figure(ctx, "directions", torch.cat([row.cpu() for row in rows.values()]), caption)


@torch.no_grad()
def write_masks(extractor: MaskExtractor, generator: Generator, shifted: Tensor, batch: GeneratedBatch, ctx: RunContext,
                caption: str) -> None:  # fmt: skip
    """figures/colour-maps.png: original, shifted, mask."""
    masks = extractor.extract(batch, generator).probs.argmax(dim=1)
    rows = [to_pixels(batch.images), to_pixels(shifted), mask_pixels(masks)]
    write_figure(ctx, "colour-maps", torch.cat([row.cpu() for row in rows]), caption)


def write_figure(ctx: RunContext, name: str, pixels: Tensor, caption: str) -> None:
    """A sheet of `SHOWN` pictures a row with its caption, where the report looks for it."""
    folder = ctx.folder / "figures"
    write_png(folder / f"{name}.png", grid(pixels, SHOWN))
    atomic_write(folder / f"{name}.txt", (caption + "\n").encode())
