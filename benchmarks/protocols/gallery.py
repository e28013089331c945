"""The README's picture: photographs, and the parts that a run of default options finds in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from benchmarks.protocols.common import Lab
from benchmarks.protocols.photographs import colour_step, our_run
from gsegkit import api
from gsegkit.classes.match import predicted_clusters
from gsegkit.classes.targets import coarse_parts
from gsegkit.colours import overlay
from gsegkit.images import grid, list_images, read_image, resize_pixels
from gsegkit.interfaces import MaskExtractor, Predict, Segmenter

TILE, GAP = 128, 3  # pixels


def picture(
    lab: Lab, cases: dict[str, str], file: str, shown: int = 5, first: int = 0, every: int = 1
) -> dict[str, Any]:
    """Draw docs/figures/readme/FILE: a row for each case, every photograph beside its parts; nobody chose them.

    Args:
        lab: see `Lab`; its first seed makes the runs.
        cases: weights of the zoo -> `samples:NAME` that ship with a plugin, or a data set.
        file: name of the picture.
        shown: photographs of each case.
        first: the first of them, in the order of their names.
        every: and each so many after it.
    """
    rows, found = [], {}
    for weights, source in cases.items():
        folder = our_run(lab, [f"gen.weights={weights}"], lab.seeds[0])
        paths = _photographs(lab, source)[first::every][:shown]
        predict, count = _parts(folder)
        step = colour_step("colours")
        for path in paths:
            pixels = read_image(path)[None]
            labels = step(pixels, predict(pixels)).argmax(dim=1).to(torch.uint8)
            rows += [_tile(pixels), _tile(overlay(pixels, labels, 0.6))]
        found[weights] = {"parts": count, "photographs": [path.stem for path in paths]}
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


def _parts(run: Path) -> tuple[Predict, int]:
    """A run's segmenter with its clusters added up to parts, and how many."""
    segmenter: Segmenter = api.load(run)
    extractor: MaskExtractor = api.load(run, "extractor")
    cut, parts, _ = coarse_parts(extractor)
    groups = predicted_clusters(segmenter.classes, extractor, None, cut)
    targets = torch.tensor(groups.group)

    def predict(pixels: Tensor) -> Tensor:
        probs = segmenter.probs(pixels)
        return probs.new_zeros(len(probs), cut, *probs.shape[2:]).index_add_(1, targets, probs)

    return predict, len(parts)


def _tile(pixels: Tensor) -> Tensor:
    """[1, 3, H, W] whole, in the middle of a white square `TILE` wide."""
    height, width = pixels.shape[-2:]
    scale = TILE / max(height, width)
    inner = resize_pixels(pixels, (round(height * scale), round(width * scale)))
    down, right = TILE - inner.shape[-2], TILE - inner.shape[-1]
    return F.pad(inner, (right // 2, right - right // 2, down // 2, down - down // 2), value=255)
