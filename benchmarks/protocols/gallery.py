"""Pictures of what runs of default options do: the README's photographs and parts, and where they fail."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from gsegkit_eval.scores import class_ious
from PIL import Image
from torch import Tensor

from benchmarks.protocols.colours import probabilities
from benchmarks.protocols.common import Lab
from benchmarks.protocols.photographs import colour_step, our_run
from gsegkit import api
from gsegkit.classes.class_map import stored_class_map
from gsegkit.classes.in_parts import in_parts
from gsegkit.colours import display_palette, overlay
from gsegkit.images import grid, list_images, read_image, resize_pixels
from gsegkit.refining import Predictor

TILE, GAP = 128, 3  # pixels
STRENGTH = 0.6  # of the colours over a photograph


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
        predictor, palette = _predictor(folder)
        for path in paths:
            pixels = read_image(path)[None]
            rows += [_tile(pixels), _tile(overlay(pixels, predictor.label(pixels).masks, STRENGTH, palette))]
        found[weights] = {"parts": len(predictor.classes), "photographs": [path.stem for path in paths]}
    path = lab.figures("readme") / file
    _save(torch.cat(rows), 2 * shown, path)
    return {"file": path.name, "cases": found}


def failures(
    lab: Lab,
    cases: dict[str, str],
    file: str,
    names: dict[str, str] | None = None,
    shown: int = 6,
    scored: int = 100,
) -> dict[str, Any]:
    """Draw docs/figures/readme/FILE: for each case the photographs that came out worst, beside what was found in them.

    With masks (photograph, truth, prediction): those of least mean IoU over the classes that are or are said to be in
    them. Without (photograph, parts): those whose pixels' highest probabilities are lowest on average.

    Args:
        lab: see `Lab`; its first seed makes the runs.
        cases: weights of the zoo -> `samples:NAME` that ship with a plugin, or a data set with masks.
        file: name of the picture.
        names: see `picture`.
        shown: tiles of photographs in a row without masks; with masks two thirds of them.
        scored: most images looked at of each case.
    """
    rows: list[Tensor] = []
    found: dict[str, Any] = {}
    for weights, source in cases.items():
        if source.startswith("samples:"):
            tiles, said = _least_sure(lab, weights, source, (names or {}).get(weights, ""), shown)
        else:
            tiles, said = _least_iou(lab, weights, source, 2 * shown // 3, 3 if lab.tiny else scored)
        rows += tiles + [torch.full_like(tiles[0], 255)] * (2 * shown - len(tiles))
        found[weights] = said
    path = lab.figures("readme") / file
    Image.fromarray(grid(torch.cat(rows), 2 * shown, GAP).permute(1, 2, 0).numpy()).save(
        path, quality=88, optimize=True
    )
    return {"file": path.name, "cases": found}


def _least_sure(lab: Lab, weights: str, source: str, named: str, shown: int) -> tuple[list[Tensor], dict[str, float]]:
    """Tiles of the photographs of least confidence, and that of each."""
    predictor, palette = _predictor(our_run(lab, [f"gen.weights={weights}"], lab.seeds[0], classes=named))
    sure = {path: float(predictor(read_image(path)[None]).amax(dim=1).mean()) for path in _photographs(lab, source)}
    worst = sorted(sure, key=lambda path: sure[path])[:shown]
    tiles = []
    for path in worst:
        pixels = read_image(path)[None]
        tiles += [_tile(pixels), _tile(overlay(pixels, predictor.label(pixels).masks, STRENGTH, palette))]
    return tiles, {path.stem: round(sure[path], 3) for path in worst}


def _least_iou(lab: Lab, weights: str, data: str, shown: int, scored: int) -> tuple[list[Tensor], dict[str, float]]:
    """Tiles of the photographs of least mean IoU, and that of each."""
    predictions, refine = probabilities(lab, data, weights, [], scored), colour_step("colours")
    with np.errstate(invalid="ignore"):
        each = np.nanmean(class_ious(predictions.counts(refine)[0]), axis=1)
    worst = each.argsort()[:shown].tolist()
    palette, tiles = display_palette(None), []
    for index in worst:
        sample = predictions.data[index]
        pixels = sample.pixels[None]
        said = refine(pixels, predictions.probs[index][None]).argmax(dim=1).to(torch.uint8)
        drawn = [overlay(pixels, masks, STRENGTH, palette) for masks in (sample.mask[None], said)]
        tiles += [_tile(shot) for shot in (pixels, *drawn)]
    return tiles, {predictions.data[index].name: round(float(each[index]), 3) for index in worst}


def _save(tiles: Tensor, columns: int, path: Path) -> None:
    Image.fromarray(grid(tiles, columns, GAP).permute(1, 2, 0).numpy()).save(path, quality=88, optimize=True)


def _predictor(folder: Path) -> tuple[Predictor, Any]:
    """What predicts with a run's names, or with a few parts where it has none; and its colours."""
    segmenter, given = api.load(folder), stored_class_map(folder)
    palette = display_palette(given.colours(segmenter.classes) if given else None)
    return Predictor(segmenter if given else in_parts(segmenter, api.load(folder, "extractor")), "colours"), palette


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
