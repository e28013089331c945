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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gsegkit_eval.scores import class_ious, mean_defined, two_segments
from scipy.stats import rankdata, spearmanr
from torch import Tensor

from benchmarks.protocols import lite, trivial
from benchmarks.protocols.common import Lab, say
from benchmarks.protocols.photographs import annotated, colour_step, our_run, split
from gsegkit import api
from gsegkit.classes.greedy import contingency, greedy_targets
from gsegkit.comparing import criteria, foreground
from gsegkit.dataset import LabelledDataset
from gsegkit.interfaces import Predict
from gsegkit.refining import Predictor
from gsegkit.rundir import stage_key
from gsegkit.storage import atomic_write_json, read_json
from gsegkit.tensors import load_tree, save_tree

IMAGES = 30  # photographs of a set
LABELLED = 20  # photographs that match clusters to classes, for the true mIoU alone
STABLE = 8  # photographs that stability is looked at on
RUN = "run"  # kind of our own methods
ALONE = ("consensus", "agreement", "separation", "edges", "stability", "plausibility")
MOST = 3  # criteria in a combination
SHARED = 4  # fewest methods over which a rank correlation means anything


@dataclass(frozen=True)
class Entrant:
    """A method on one set.

    Attributes:
        name: of the row.
        family: its variants share it.
        predict: see `gsegkit.interfaces`.
        classes: names; clusters are `cluster-ID`.
        ours: a run of this project.
    """

    name: str
    family: str
    predict: Predict
    classes: tuple[str, ...]
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


def entrants(lab: Lab, weights: str, runs: Sequence[str], photographs: Sequence[Tensor]) -> Iterator[Entrant]:
    """What is compared on a set; nothing learns from labels."""
    seed, two = lab.seeds[0], ("background", "foreground")
    clusters = tuple(f"cluster-{i}" for i in range(trivial.CLUSTERS))
    yield Entrant("Otsu", "Otsu", trivial.otsu([], photographs, seed), two)  # type: ignore[arg-type]
    yield Entrant("two-means", "two-means", trivial.two_means([], photographs, seed), two)  # type: ignore[arg-type]
    for inset in trivial.INSETS:
        yield Entrant(f"GrabCut, {inset}", "GrabCut", _grabcut(inset, seed), two)
    for name, fit in (("colour k-means", trivial.colour_kmeans), ("feature k-means", trivial.feature_kmeans)):
        yield Entrant(name, name, fit([], photographs, seed), clusters)  # type: ignore[arg-type]
    for extractor in runs:
        for number in lab.seeds if extractor == "klish" else lab.seeds[:1]:
            segmenter = api.load(our_run(lab, [f"gen.weights={weights}"], number, extractor=extractor))
            yield Entrant(f"{extractor}, seed {number}", extractor, Predictor(segmenter), segmenter.classes, ours=True)


def _grabcut(inset: float, seed: int) -> Predict:
    return trivial.each(lambda pixels: trivial.binary(trivial.grabcut_mask(pixels, inset, seed)))


# ---- one set -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Photographs:
    """A set: what is scored, and the few whose labels match clusters to classes for the true mIoU."""

    name: str
    scored: LabelledDataset
    few: LabelledDataset

    def rows(self, lab: Lab, entrant: Entrant, looked: Sequence[criteria.Looked]) -> list[Row]:
        """The method alone and with colours; kept in the work folder."""
        inside = foreground.foreground_classes(entrant.classes, self._labels(entrant.predict, self.scored))
        found = []
        for how in ("alone", "colours"):
            key = stage_key(self.name, entrant.name, how, lab.seeds, lab.tiny, _code())
            folder = lab.work / "criteria" / key
            if not (folder / "numbers.json").exists():
                predict = entrant.predict if how == "alone" else _refined(entrant.predict)
                masks, numbers = self._look(predict, entrant, inside, looked)
                save_tree(folder / "masks.safetensors", {"masks": {str(i): mask for i, mask in enumerate(masks)}})
                atomic_write_json(folder / "numbers.json", numbers)
            stored = load_tree(folder / "masks.safetensors")["masks"]
            kept = read_json(folder / "numbers.json")
            name = entrant.name if how == "alone" else f"{entrant.name}, colours"
            say(f"{self.name} / {name}: IoU {numbers['true']:.3f}")
            masks = [stored[str(i)] for i in range(len(self.scored))]
            filled = {k: math.nan if v is None else float(v) for k, v in kept.items()}
            found.append(Row(name, entrant.family, entrant.ours, masks, filled))
        return found

    def _labels(self, predict: Predict, data: LabelledDataset) -> list[Tensor]:
        return [predict(sample.pixels[None])[0].argmax(dim=0) for sample in data]

    def _look(
        self, predict: Predict, entrant: Entrant, inside: Tensor, looked: Sequence[criteria.Looked]
    ) -> tuple[list[Tensor], dict[str, float | None]]:
        labels = self._labels(predict, self.scored)
        masks = [inside[one] for one in labels]
        tables = np.stack([contingency(s.mask, m.long(), len(self.scored.classes), 2)
                           for s, m in zip(self.scored, masks, strict=True)])  # fmt: skip
        ious = class_ious(two_segments(tables))[:, 1]
        each = {
            "separation": [criteria.separation(p, m) for p, m in zip(looked, masks, strict=True)],
            "edges": [criteria.edges(p, m) for p, m in zip(looked, masks, strict=True)],
            "plausibility": [criteria.plausibility(m) for m in masks],
            "stability": [
                criteria.stability(lambda pixels: inside[predict(pixels[None])[0].argmax(dim=0)], s.pixels, m)
                for s, m in itertools.islice(zip(self.scored, masks, strict=True), STABLE)
            ],
        }  # fmt: skip
        miou = self._miou(predict, entrant, labels)
        numbers = {"true": float(mean_defined(ious)), "miou": None if math.isnan(miou) else miou}
        return masks, {**numbers, **{name: float(np.mean(values)) for name, values in each.items()}}

    def _miou(self, predict: Predict, entrant: Entrant, labels: Sequence[Tensor]) -> float:
        """True mIoU of parts, clusters matched on the few; NaN of methods or sets without parts."""
        count = len(self.scored.classes)
        if count < 3 or not foreground.are_clusters(entrant.classes):
            return math.nan
        few = zip(self.few, self._labels(predict, self.few), strict=True)
        tables = [contingency(sample.mask, one, count, len(entrant.classes)) for sample, one in few]
        targets = torch.tensor(greedy_targets(np.stack(tables)))
        scored = [contingency(s.mask, targets[one], count, count) for s, one in zip(self.scored, labels, strict=True)]
        return float(mean_defined(mean_defined(class_ious(np.stack(scored)), axis=0)))


def _refined(predict: Predict) -> Predict:
    step = colour_step("colours")
    return lambda pixels: step(pixels, predict(pixels))


@functools.cache
def _code() -> str:
    """What kept rows depend on beside their settings."""
    return stage_key(*(inspect.getsource(module) for module in (trivial, lite, criteria, foreground)))


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
        rows = [row for entrant in entrants(lab, given.get("weights", ""), runs, pixels)
                for row in here.rows(lab, entrant, looked)]  # fmt: skip
        pools["all"][data] = columns(rows)
        pools["baselines"][data] = columns([row for row in rows if not row.ours])
        tables[data] = {row.name: {k: round(v[i], 4) for k, v in pools["all"][data].items() if not math.isnan(v[i])}
                        for i, row in enumerate(rows)}  # fmt: skip
        say(f"{data}: " + ", ".join(f"{n} {rank_correlation(pools['all'][data][n], pools['all'][data]['true']):.2f}"
                                    for n in ALONE))  # fmt: skip
    methods = sum(len(found["true"]) for found in pools["all"].values())
    return {**{pool: judged(found) for pool, found in pools.items()}, "sets": tables, "methods": methods}
