"""Runs on the zoo's generators, scored on photographs that nobody trained on.

`ablation`: defaults of a run, one changed at a time. `methods`: the foreground that each extractor finds;
`layered`: that of the generator which paints masks.
"""

from __future__ import annotations

import functools
import statistics
from typing import Any

from benchmarks.protocols.colours import LABELLED, Predictions, probabilities, with_empty_classes
from benchmarks.protocols.common import Lab, say
from benchmarks.protocols.photographs import annotated, colour_step, scores, split
from gsegkit import api
from gsegkit.refining import Predictor

HOW = ("alone", "colours")  # the segmenter, and with the photograph's colours after it


def ablation(lab: Lab, sets: dict[str, str], rows: dict[str, list[str]], scored: int = 100) -> dict[str, Any]:
    """Foreground and mIoU of runs, the segmenter alone and with the photograph's colours.

    Args:
        lab: see `Lab`; scores are means over its seeds, with their standard deviations where there are several.
        sets: name of a set (see `photographs.annotated`) -> weights of the zoo.
        rows: name -> options of the run, as after `-o`.
        scored: images scored of each set; 20 others match clusters to classes.
    """
    found: dict[str, dict[str, Any]] = {name: {} for name in rows}
    for data, weights in sets.items():
        for name, options in rows.items():
            each = [_scored(probabilities(lab, data, weights, options, scored, seed=seed)) for seed in lab.seeds]
            mean = {what: statistics.fmean(one[what] for one in each) for what in each[0]}
            found[name][data] = mean
            if len(each) > 1:
                spread = {what: statistics.stdev([one[what] for one in each]) for what in mean}
                found[name][data] = {**mean, "deviation": spread}
            say(f"{data} / {name}: {', '.join(f'{what} {value:.3f}' for what, value in mean.items())}")
    for numbers in found.values():
        numbers["mean"] = {what: statistics.fmean(numbers[data][what] for data in sets) for what in mean}
    return {"rows": found, "sets": sets, "options": rows}


def methods(lab: Lab, sets: dict[str, str], extractors: list[str], scored: int = 100) -> dict[str, Any]:
    """Foreground of runs with default options, by extractor; the segmenter alone and with the photograph's colours.

    Args:
        lab: see `Lab`; the first seed is used.
        sets: as in `ablation`.
        extractors: of which `klish` needs 20 labelled images to say which cluster is ground; the others do not.
        scored: images scored of each set.
    """
    rows = []
    for data, weights in sets.items():
        for extractor in extractors:
            numbers = _scored(probabilities(lab, data, weights, [], scored, extractor))
            found = {how: numbers[f"{how} foreground"] for how in HOW}
            rows.append({"set": data, "weights": weights, "extractor": extractor, **found})
            say(f"{data} / {extractor}: {found}")
    return {"rows": rows}


def layered(lab: Lab, sets: dict[str, dict[str, Any]], scored: int = 100) -> dict[str, Any]:
    """Foreground of the generator `layered`, trained on photographs; the segmenter alone and with colours.

    Args:
        lab: see `Lab`; the first seed is used.
        sets: as in `ablation` -> photos (name of a folder), and options of the run, as after `-o`.
        scored: images scored of each set, without the 20 that `methods` leaves out.
    """
    rows, seed = [], lab.seeds[0]
    for data, given in sets.items():
        found = annotated(lab, data)
        _, others = split(found, LABELLED, 3 if lab.tiny else scored, seed)
        folder = lab.work / "runs" / f"layered-{data}-{seed}"
        api.run("layered", "native", "unet", out=folder, options=given.get("options", []), seed=seed, update=True,
                smoke=lab.tiny, images=lab.data(given["photos"]), train_generator=True)  # fmt: skip
        predict = functools.partial(with_empty_classes, Predictor(api.load(folder)), len(found.classes))
        numbers = _scored(Predictions.make(predict, others))
        rows.append({"set": data, "extractor": "layered", **{how: numbers[f"{how} foreground"] for how in HOW}})
        say(f"{rows[-1]}")
    return {"rows": rows, "sets": sets}


def _scored(predictions: Predictions) -> dict[str, float]:
    numbers: dict[str, float] = {}
    for how, refine in (("alone", None), ("colours", colour_step("colours"))):
        counts = scores(predictions.counts(refine)[0], predictions.data.classes)
        numbers |= {f"{how} {score}": counts[score] for score in ("foreground", "miou")}
    return numbers
