"""The refiner `colours` on development sets: one factor at a time from its defaults, and its time for a photograph.

`ablation`: for each set a run with a generator of the zoo; 20 images match its clusters to classes, the others are
scored, with the same probabilities for every row. `speed`: least seconds over repeats, on noise.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.protocols.common import Lab, say
from benchmarks.protocols.photographs import Predictions, annotated, colour_step, matched, our_run, scores, split
from gsegkit import api
from gsegkit.interfaces import Predict
from gsegkit.refining import Predictor

LABELLED = 20  # images whose labels match clusters to classes
FOREGROUND = ("directions", "labels4free", "native")  # extractors whose two classes need no matching

#: Name of a row -> options of `colours`; None = the segmenter alone.
ROWS: dict[str, dict[str, Any] | None] = {
    "segmenter alone": None,
    "defaults": {},
    "1 round": {"rounds": 1},
    "2 rounds": {"rounds": 2},
    "weight 0.5": {"weight": 0.5},
    "weight 1": {"weight": 1.0},
    "weight 2": {"weight": 2.0},
    "2 components": {"components": 2},
    "no floor": {"floor": 0.0},
    "spread 4": {"spread": 4.0},
    "area free": {"mass": 1e6},
    "no neighbours": {"coupling": 0.0},
    "coupling 30": {"coupling": 30.0},
    "128 px": {"side": 128},
}


def ablation(
    lab: Lab,
    sets: dict[str, str],
    options: list[str] | None = None,
    scored: int = 25,
    rows: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Foreground and mIoU of every row on every set.

    Args:
        lab: see `Lab`; the first seed is used.
        sets: name of a set (see `photographs.annotated`) -> weights of the zoo.
        options: of the runs, as after `-o`; None = the defaults.
        scored: images scored of each set.
        rows: name -> options of `colours`, or {"alone": true}; None = `ROWS`.
    """
    chosen = ROWS if rows is None else {n: None if o.get("alone") else o for n, o in rows.items()}
    found: dict[str, dict[str, Any]] = {name: {} for name in chosen}
    for data, weights in sets.items():
        predictions = probabilities(lab, data, weights, options or [], scored)
        for name, refiner in chosen.items():
            tables, seconds = predictions.counts(None if refiner is None else colour_step("colours", refiner))
            numbers = scores(tables, predictions.data.classes)
            found[name][data] = {**numbers, "seconds": round(seconds, 4)}
            say(f"{data} / {name}: foreground {numbers['foreground']:.3f}, mIoU {numbers['miou']:.3f}")
    for numbers in found.values():
        numbers["mean"] = {
            score: sum(numbers[data][score] for data in sets) / len(sets) for score in ("foreground", "miou")
        }
    return {"rows": found, "sets": sets, "options": options or [], "labelled": LABELLED}


def probabilities(
    lab: Lab,
    data: str,
    weights: str,
    options: list[str],
    scored: int,
    extractor: str = "klish",
    seed: int | None = None,
) -> Predictions:
    """What the segmenter of a run says of the scored images, its clusters matched to classes.

    Background and foreground need no matching: foreground counts as the first class after the background.
    `seed`: of the run and of the choice of images; None = the first one of the recipe.
    """
    seed = lab.seeds[0] if seed is None else seed
    annotations = annotated(lab, data)
    few, others = split(annotations, 5 if lab.tiny else LABELLED, 3 if lab.tiny else scored, seed)
    run = our_run(lab, [f"gen.weights={weights}", *options], seed, extractor=extractor)
    predict, count = Predictor(api.load(run)), len(annotations.classes)
    if extractor in FOREGROUND:
        return Predictions.make(functools.partial(with_empty_classes, predict, count), others)
    return Predictions.make(matched(predict, few, count), others)


def with_empty_classes(predict: Predict, count: int, pixels: Tensor) -> Tensor:
    """Probabilities of background and foreground, and of further classes that never are."""
    return F.pad(predict(pixels), (0, 0, 0, 0, 0, count - 2))


def speed(lab: Lab, sides: list[int], classes: list[int], repeats: int = 7) -> dict[str, Any]:
    """Least CPU milliseconds of one photograph over repeats, on one thread.

    Args:
        lab: see `Lab`.
        sides: of square photographs, in pixels.
        classes: numbers of classes.
        repeats: of which the shortest counts, since other work disturbs the clock.
    """
    refine = colour_step("colours")
    generator = torch.Generator().manual_seed(lab.seeds[0])
    found = {}
    for side in sides[:1] if lab.tiny else sides:
        pixels = torch.randint(0, 256, (1, 3, side, side), generator=generator).to(torch.uint8)
        for k in classes:
            probs = torch.randn(1, k, side, side, generator=generator).softmax(dim=1)
            found[f"{side} px, {k} classes"] = round(_least_ms(functools.partial(refine, pixels, probs), repeats), 2)
    return {"milliseconds": found, "threads": torch.get_num_threads()}


def _least_ms(call: Callable[[], Any], repeats: int) -> float:
    """The shortest of several calls, after one that warms up."""
    call()
    times = []
    for _ in range(repeats):
        began = time.process_time()
        call()
        times.append(time.process_time() - began)
    return 1000 * min(times)
