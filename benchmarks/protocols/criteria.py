"""Criteria that need no annotations, against annotations: does the order that they give agree with the true one?

For every set the same methods segment the same photographs: what one would do without us, and our runs, each alone and
with the photograph's own colours. No method is told a label. A criterion's worth is its rank correlation (Spearman)
with the true IoU over the methods of a set, averaged over the sets. Combinations are mean ranks; a combination is
chosen on all sets but one and counts on that one.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gsegkit_eval.scores import class_ious, mean_defined, two_segments
from scipy.stats import rankdata, spearmanr
from torch import Tensor

from benchmarks.protocols.common import Lab, say
from benchmarks.protocols.photographs import annotated, our_run, split
from benchmarks.protocols.trivial import INSETS
from gsegkit import api
from gsegkit.classes.greedy import contingency, greedy_targets
from gsegkit.comparing import criteria, foreground, measure
from gsegkit.comparing.material import InMemory
from gsegkit.context import RunContext
from gsegkit.dataset import LabelledDataset
from gsegkit.interfaces import PhotographSegmenter, Segmenter
from gsegkit.plugins import installed
from gsegkit.rundir import stage_key
from gsegkit.seeds import isolated_rng
from gsegkit.storage import atomic_write_json, read_json
from gsegkit.tensors import load_tree, save_tree

IMAGES = 30  # photographs of a set
LABELLED = 20  # photographs that match clusters to classes, for the true mIoU alone
ALONE = ("consensus", "agreement", "separation", "edges", "stability", "plausibility")
MOST = 3  # criteria in a combination
SHARED = 4  # fewest methods over which a rank correlation means anything


#: Without us: name of the row, segmenter, its options. Those of one segmenter are one family.
BASELINES: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("Otsu", "otsu", {}),
    ("two-means", "two-means", {}),
    *((f"GrabCut, {inset}", "grabcut", {"inset": inset}) for inset in INSETS),
    ("colour k-means", "colour-kmeans", {}),
    ("feature k-means", "feature-kmeans", {}),
    ("normalised cut", "ncut-head", {}),
    ("normalised cut, GrabCut", "ncut-head", {"grabcut": True}),
)


@dataclass(frozen=True)
class Entrant:
    """A method on one set.

    Attributes:
        name: of the row.
        family: its variants share it.
        segmenter: fitted.
        ours: a run of this project.
    """

    name: str
    family: str
    segmenter: Segmenter
    ours: bool = False


@dataclass(frozen=True)
class Row:
    """A method, alone or with colours, on one set.

    Attributes:
        name, family, ours: see `Entrant`.
        masks: foregrounds, [H, W] bool.
        numbers: "true" IoU of the foreground, "miou" (NaN without parts), criteria that look at one method.
    """

    name: str
    family: str
    ours: bool
    masks: list[Tensor]
    numbers: dict[str, float]


# ---- methods -------------------------------------------------------------------------------------------------------


def entrants(
    lab: Lab, data: str, weights: str, runs: Sequence[str], photographs: Sequence[Tensor]
) -> Iterator[Entrant]:
    """What is compared on a set; nothing learns from its labels."""
    images = InMemory(tuple(Path(str(i)) for i in range(len(photographs))), pixels=tuple(photographs))
    for name, family, options in BASELINES:
        segmenter: PhotographSegmenter = installed().build("segmenter", family, options)
        ctx = lab.context(stage_key(data, family, options, lab.tiny), "fits", lab.seeds[0])
        with isolated_rng(lab.seeds[0]):
            segmenter.fit_photographs(images, ctx)
        yield Entrant(name, family, segmenter.eval())
    for extractor in runs:
        for number in lab.seeds if extractor == "klish" else lab.seeds[:1]:
            run = our_run(lab, [f"gen.weights={weights}"], number, extractor=extractor)
            yield Entrant(f"{extractor}, seed {number}", extractor, api.load(run), ours=True)


# ---- one set -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Photographs:
    """A set: what is scored, and the few whose labels match clusters to classes for the true mIoU."""

    name: str
    scored: LabelledDataset
    few: LabelledDataset

    def rows(self, lab: Lab, entrant: Entrant, looked: Sequence[criteria.Looked]) -> list[Row]:
        """The method alone and with colours; kept in the work folder."""
        key = stage_key(self.name, entrant.name, lab.seeds, lab.tiny, len(self.scored), _code())
        folder = lab.work / "criteria" / key
        if not (folder / "numbers.json").exists():
            masks, numbers = self._look(entrant, looked, lab.context(key, "criteria", lab.seeds[0]))
            save_tree(folder / "masks.safetensors", masks)
            atomic_write_json(folder / "numbers.json", numbers)
        stored, kept = load_tree(folder / "masks.safetensors"), read_json(folder / "numbers.json")
        found = []
        for step, numbers in kept.items():
            name = entrant.name if step == measure.ALONE else f"{entrant.name}, {step}"
            own = [stored[step][str(i)] for i in range(len(self.scored))]
            filled = {k: math.nan if v is None else float(v) for k, v in numbers.items()}
            say(f"{self.name} / {name}: IoU {filled['true']:.3f}")
            found.append(Row(name, entrant.family, entrant.ours, own, filled))
        return found

    def _look(
        self, entrant: Entrant, looked: Sequence[criteria.Looked], ctx: RunContext
    ) -> tuple[dict[str, dict[str, Tensor]], dict[str, dict[str, float | None]]]:
        """Foregrounds and numbers by step."""
        asked = measure.Asked(entrant.segmenter, installed())
        answers = [asked.answer(sample.pixels)[0] for sample in self.scored]
        labels = {step: [answer[step] for answer in answers] for step in asked.steps}
        inside = foreground.foreground_classes(entrant.segmenter.classes, labels[measure.ALONE])
        stable = measure.stability(asked, labels, [sample.pixels for sample in self.scored], ctx)
        masks, numbers = {}, {}
        for step in asked.steps:
            own = [inside[one.long()] for one in labels[step]]
            masks[step] = {str(i): mask for i, mask in enumerate(own)}
            tables = np.stack([contingency(sample.mask, mask.long(), len(self.scored.classes), 2)
                               for sample, mask in zip(self.scored, own, strict=True)])  # fmt: skip
            miou = self._miou(asked, step, labels[step])
            numbers[step] = {
                "true": float(mean_defined(class_ious(two_segments(tables))[:, 1])),
                "miou": None if math.isnan(miou) else miou, "stability": stable[step],
                "separation": float(np.mean([criteria.separation(p, m) for p, m in zip(looked, own, strict=True)])),
                "edges": float(np.mean([criteria.edges(p, m) for p, m in zip(looked, own, strict=True)])),
                "plausibility": float(np.mean([criteria.plausibility(m) for m in own])),
            }  # fmt: skip
        return masks, numbers

    def _miou(self, asked: measure.Asked, step: str, labels: Sequence[Tensor]) -> float:
        """True mIoU of parts, clusters matched on the few; NaN of methods or sets without parts."""
        count, classes = len(self.scored.classes), asked.segmenter.classes
        if count < 3 or not foreground.are_clusters(classes):
            return math.nan
        tables = [contingency(sample.mask, asked.answer(sample.pixels)[0][step], count, len(classes))
                  for sample in self.few]  # fmt: skip
        targets = torch.tensor(greedy_targets(np.stack(tables)))
        scored = [contingency(s.mask, targets[one.long()], count, count)
                  for s, one in zip(self.scored, labels, strict=True)]  # fmt: skip
        return float(mean_defined(mean_defined(class_ious(np.stack(scored)), axis=0)))


@functools.cache
def _code() -> str:
    """What kept rows depend on beside their settings."""
    parts = {installed().find("segmenter", family).target_class().__module__ for _, family, _ in BASELINES}
    modules = [criteria, foreground, measure, *(sys.modules[name] for name in sorted(parts))]
    return stage_key(BASELINES, *(inspect.getsource(module) for module in modules))


# ---- correlations --------------------------------------------------------------------------------------------------


Columns = Mapping[str, Sequence[float]]


def columns(rows: Sequence[Row]) -> dict[str, list[float]]:
    """Every criterion, and the truth, in the order of the rows; "consensus" and "agreement" are among these rows."""
    masks, families = {row.name: row.masks for row in rows}, {row.name: row.family for row in rows}
    found = {name: [row.numbers[name] for row in rows] for name in rows[0].numbers}
    for name, criterion in (("consensus", criteria.consensus), ("agreement", criteria.agreement)):
        each = criterion(masks, families)
        found[name] = [float(np.mean(each[row.name])) for row in rows]
    return found


def rank_correlation(one: Sequence[float], truth: Sequence[float]) -> float:
    """Spearman's, over the methods that have a truth; 0 where one of them is constant, NaN of too few methods."""
    there = [i for i, value in enumerate(truth) if not math.isnan(value)]
    a, b = [one[i] for i in there], [truth[i] for i in there]
    if len(there) < SHARED:
        return math.nan
    return 0.0 if len(set(a)) < 2 or len(set(b)) < 2 else float(spearmanr(a, b)[0])


def combined(found: Columns, names: Sequence[str]) -> list[float]:
    """Mean rank over several criteria, higher is better."""
    return [float(value) for value in np.mean([rankdata(found[name]) for name in names], axis=0)]


def judged(sets: Mapping[str, Columns]) -> dict[str, Any]:
    """Rank correlations of single criteria and of the best combinations, on every set, and leave-one-set-out."""
    choices = [names for n in range(1, MOST + 1) for names in itertools.combinations(ALONE, n)]
    on = {names: {data: rank_correlation(combined(found, names), found["true"]) for data, found in sets.items()}
          for names in choices}  # fmt: skip
    parts = {name: {data: rank_correlation(found[name], found["miou"]) for data, found in sets.items()}
             for name in ALONE}  # fmt: skip
    best = sorted(choices, key=lambda names: -_mean(on[names].values()))[:5]
    return {
        "single": {name: _line(on[(name,)]) for name in ALONE},
        "single, mIoU": {name: _line(parts[name]) for name in ALONE},
        "combined": [{"criteria": list(names), **_line(on[names])} for names in best],
        "left_out": {"single": _left_out({n: v for n, v in on.items() if len(n) == 1}), "combined": _left_out(on)},
        "taken": {name: _taken(sets, name) for name in ALONE},
    }


def _left_out(on: Mapping[tuple[str, ...], Mapping[str, float]]) -> dict[str, Any]:
    """For every set the choice that is best on the others, and what it is worth on this one."""
    found, chosen = {}, {}
    for data in next(iter(on.values())):
        best = max(on, key=lambda names: _mean([v for other, v in on[names].items() if other != data]))
        found[data], chosen[data] = on[best][data], " + ".join(best)
    return {**_line(found), "chosen": chosen}


def _taken(sets: Mapping[str, Columns], name: str) -> dict[str, Any]:
    """True IoU of the method that a criterion puts first, beside the best and the mean of all."""
    each = {}
    for data, found in sets.items():
        truth = found["true"]
        first = int(np.argmax(found[name]))
        each[data] = {"taken": round(truth[first], 4), "best": round(max(truth), 4), "mean": round(_mean(truth), 4)}
    return {"sets": each, "lost": round(_mean([n["best"] - n["taken"] for n in each.values()]), 4),
            "gained": round(_mean([n["taken"] - n["mean"] for n in each.values()]), 4)}  # fmt: skip


def _line(on: Mapping[str, float]) -> dict[str, Any]:
    there = {data: round(value, 4) for data, value in on.items() if not math.isnan(value)}
    return {"sets": there, "mean": round(_mean(there.values()), 4), "least": min(there.values())} if there else {}


def _mean(values: Any) -> float:
    values = [value for value in values if not math.isnan(value)]
    return sum(values) / len(values)


# ---- the protocol --------------------------------------------------------------------------------------------------


def validate(lab: Lab, sets: dict[str, dict[str, Any]], images: int = IMAGES) -> dict[str, Any]:
    """Every criterion against the truth on every set.

    Args:
        lab: see `Lab`; runs of klish for every seed, the others for the first.
        sets: name of a set (see `photographs.annotated`) -> "weights" of the zoo and "runs", extractors; {} = none.
        images: photographs of a set.
    """
    pools: dict[str, dict[str, Columns]] = {"all": {}, "baselines": {}}
    tables = {}
    for data, given in sets.items():
        annotations = annotated(lab, data)
        few, others = split(annotations, 3 if lab.tiny else LABELLED, 3 if lab.tiny else images, lab.seeds[0])
        here = Photographs(data, others, few)
        looked = [criteria.Looked.at(sample.pixels) for sample in others]
        pixels = [sample.pixels for part in (few, others) for sample in part]
        runs = given.get("runs", [])
        rows = [row for entrant in entrants(lab, data, given.get("weights", ""), runs, pixels)
                for row in here.rows(lab, entrant, looked)]  # fmt: skip
        pools["all"][data] = columns(rows)
        pools["baselines"][data] = columns([row for row in rows if not row.ours])
        tables[data] = {row.name: {k: round(v[i], 4) for k, v in pools["all"][data].items() if not math.isnan(v[i])}
                        for i, row in enumerate(rows)}  # fmt: skip
        say(f"{data}: " + ", ".join(f"{n} {rank_correlation(pools['all'][data][n], pools['all'][data]['true']):.2f}"
                                    for n in ALONE))  # fmt: skip
    methods = sum(len(found["true"]) for found in pools["all"].values())
    return {**{pool: judged(found) for pool, found in pools.items()}, "sets": tables, "methods": methods}
