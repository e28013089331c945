"""Painters beside each other at the same CPU time: on new masks of the same runs, by the same scoring segmenter."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.protocols.common import Lab, say
from benchmarks.protocols.photographs import our_run
from gsegkit import api
from gsegkit.rundir import stage_key
from gsegkit.storage import atomic_write_json, read_json

SCORER, SCORER_SEED = "fpn", 12345  # another architecture and another seed than the run's own segmenter
PACE = (4, 24)  # steps of two short trainings, whose difference is the time of a step
NUMBERS = ("share_of_ceiling", "miou", "miou_true", "accuracy", "accuracy_true", "distance", "distance_floor",
           "diversity", "colour_diversity", "colour_diversity_true", "faithfulness")  # fmt: skip


def compare(
    lab: Lab,
    cases: Mapping[str, Mapping[str, str]],
    painters: Mapping[str, Mapping[str, Any]],
    seconds: float,
    scored: int = 500,
) -> dict[str, Any]:
    """Agreement, distance, diversity and faithfulness of painters that were trained for the same CPU time.

    How many steps that is follows from two short trainings of each painter, and is stated.

    Args:
        lab: see `Lab`.
        cases: weights of the zoo -> `names` that ship with them, or `matched`: annotated photographs by which the
            run's clusters are named.
        painters: name -> options.
        seconds: of CPU, for each training.
        scored: masks that are painted.
    """
    found: dict[str, Any] = {}
    for weights, naming in cases.items():
        each: dict[str, dict[str, Any]] = {name: {} for name in painters}
        for seed in lab.seeds:
            run = our_run(lab, [f"gen.weights={weights}"], seed, classes=naming.get("names", ""))
            classes = _named(lab, run, naming.get("matched", ""), seed)
            scorer = lab.work / "scorers" / run.name
            api.train(run, SCORER, scorer, classes=classes, options=_tiny(lab), seed=SCORER_SEED, update=True)
            for name, options in painters.items():
                each[name][str(seed)] = _measured(lab, run, classes, scorer, name, options, seconds, scored, seed)
                say(f"{weights} / {name} / seed {seed}: {each[name][str(seed)]}")
        rows = [{"painter": name, "mean": _mean(numbers), "seeds": numbers} for name, numbers in each.items()]
        found[weights] = {"rows": rows, **naming}
    return {"cases": found, "seconds": seconds, "scorer": SCORER, "scored": scored}


def _measured(
    lab: Lab,
    run: Path,
    classes: Path | None,
    scorer: Path,
    painter: str,
    options: Mapping[str, Any],
    seconds: float,
    scored: int,
    seed: int,
) -> dict[str, Any]:
    """One painter of one run; kept when it is finished."""
    key = stage_key(run.name, painter, dict(options), seconds, scored, seed, lab.tiny)
    folder = lab.work / "painters" / key
    kept = lab.work / "painters" / f"{key}.json"
    if kept.exists():
        return dict(read_json(kept))
    given: dict[str, Any] = {"painter": painter, "classes": classes, "seed": seed, "device": str(lab.device)}
    pace = _pace(lab, run, folder, dict(options), given)
    steps = PACE[0] if lab.tiny else max(1, round(seconds / pace))
    say(f"    {painter}: {pace:.3f} s a step, so {steps} steps in {seconds:.0f} s")
    began = time.process_time()
    api.train_painter(run, folder, options={**options, "steps": steps}, **given)
    spent = time.process_time() - began
    report = api.evaluate_painter(folder, run, num_samples=8 if lab.tiny else scored, scorer=scorer)
    numbers = {name: report.metrics[name] for name in NUMBERS}
    rounded = {name: round(value, 4) for name, value in numbers.items() if value is not None}
    rounded |= {"steps": steps, "seconds_a_step": round(pace, 3), "seconds": round(spent, 1)}
    atomic_write_json(kept, rounded)
    return rounded


def _pace(lab: Lab, run: Path, folder: Path, options: dict[str, Any], given: dict[str, Any]) -> float:
    """CPU seconds of a step."""
    spent = []
    for steps in PACE:
        began = time.process_time()
        short = {**options, "steps": steps, "statistics_batches": 1}
        api.train_painter(run, folder.with_name(f"{folder.name}-{steps}"), options=short, update=True, **given)
        spent.append(time.process_time() - began)
    return max(spent[1] - spent[0], 1e-3) / (PACE[1] - PACE[0])


def _named(lab: Lab, run: Path, data: str, seed: int) -> Path | None:
    """Names for the run's clusters by the labels of a few photographs; None = it has names, or stays as it is."""
    if not data or lab.tiny:  # the clusters of a smoke run are those of three steps
        return None
    path = run.with_name(f"{run.name}.yaml")
    if not path.exists():
        api.match(run, lab.data(data), save=path, seed=seed)
    return path


def _tiny(lab: Lab) -> dict[str, Any]:
    return {"steps": 3} if lab.tiny else {}


def _mean(each: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    names = [name for name in next(iter(each.values())) if all(name in numbers for numbers in each.values())]
    return {name: round(statistics.mean(numbers[name] for numbers in each.values()), 4) for name in names}
