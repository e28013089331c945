"""The README's picture: photographs, and the parts that a run of default options finds in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from benchmarks.protocols.common import Lab
from benchmarks.protocols.photographs import our_run
from gsegkit import api
from gsegkit.classes.class_map import stored_class_map
from gsegkit.classes.in_parts import InParts
from gsegkit.colours import display_palette, overlay
from gsegkit.images import grid, list_images, read_image, resize_pixels
from gsegkit.refining import Predictor

TILE, GAP = 128, 3  # pixels


def picture(
    lab: Lab,
    cases: dict[str, str],
    file: str,
    names: dict[str, str] | None = None,
    shown: int = 5,
    first: int = 0,
    every: int = 1,
) -> dict[str, Any]:
    """Draw docs/figures/readme/FILE: a row for each case, every photograph beside its parts; nobody chose them.

    Args:
        lab: see `Lab`; its first seed makes the runs.
        cases: weights of the zoo -> `samples:NAME` that ship with a plugin, or a data set.
        file: name of the picture.
        names: weights -> class names that ship with them; the others show parts without names.
        shown: photographs of each case.
        first: the first of them, in the order of their names.
        every: and each so many after it.
    """
    rows, found = [], {}
    for weights, source in cases.items():
        named = (names or {}).get(weights, "")
        folder = our_run(lab, [f"gen.weights={weights}"], lab.seeds[0], classes=named)
        paths = _photographs(lab, source)[first::every][:shown]
        segmenter = api.load(folder)
        given = stored_class_map(folder)
        palette = display_palette(given.colours(segmenter.classes) if given else None)
        predictor = Predictor(segmenter if given else InParts(segmenter, api.load(folder, "extractor")), "colours")
        for path in paths:
            pixels = read_image(path)[None]
            rows += [_tile(pixels), _tile(overlay(pixels, predictor.label(pixels).masks, 0.6, palette))]
        found[weights] = {"parts": len(predictor.classes), "photographs": [path.stem for path in paths]}
    sheet = grid(torch.cat(rows), 2 * shown, GAP).permute(1, 2, 0).numpy()
    path = lab.figures("readme") / file
    Image.fromarray(sheet).save(path, quality=88, optimize=True)
    return {"file": path.name, "cases": found}


def _photographs(lab: Lab, source: str) -> list[Path]:
    kind, _, name = source.partition(":")
    if kind != "samples":
        return list_images(lab.data(source) / "images")
    folder = lab.work / "samples" / name
    if not folder.exists():
        api.copy_samples(name, folder)
    return list_images(folder)


def _tile(pixels: Tensor) -> Tensor:
    """[1, 3, H, W] whole, in the middle of a white square `TILE` wide."""
    height, width = pixels.shape[-2:]
    scale = TILE / max(height, width)
    inner = resize_pixels(pixels, (round(height * scale), round(width * scale)))
    down, right = TILE - inner.shape[-2], TILE - inner.shape[-1]
    return F.pad(inner, (right // 2, right - right // 2, down // 2, down - down // 2), value=255)
