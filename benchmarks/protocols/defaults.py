"""Runs on the zoo's generators, scored on photographs that nobody trained on.

`ablation`: defaults of a run, one changed at a time. `methods`: the foreground that each extractor finds.
"""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks.protocols.colours import Predictions, probabilities
from benchmarks.protocols.common import Lab, say
from benchmarks.protocols.photographs import colour_step, scores


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
            found = {how: numbers[f"{how} foreground"] for how in ("alone", "colours")}
            rows.append({"set": data, "weights": weights, "extractor": extractor, **found})
            say(f"{data} / {extractor}: {found}")
    return {"rows": rows}


def _scored(predictions: Predictions) -> dict[str, float]:
    numbers: dict[str, float] = {}
    for how, refine in (("alone", None), ("colours", colour_step("colours"))):
        counts = scores(predictions.counts(refine)[0], predictions.data.classes)
        numbers |= {f"{how} {score}": counts[score] for score in ("foreground", "miou")}
    return numbers
