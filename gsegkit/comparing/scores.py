"""Numbers of every method: against the masks where there are some, and the criteria that need none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gsegkit.classes.greedy import contingency, greedy_targets, ratio
from gsegkit.comparing import criteria
from gsegkit.comparing.foreground import are_clusters
from gsegkit.comparing.material import Material
from gsegkit.comparing.measure import ALONE, Outcome
from gsegkit.comparing.validated import CRITERIA, SORTED_BY
from gsegkit.errors import DataError, plural

HALF = 0.5
TWO = 2  # classes: background and foreground


@dataclass(frozen=True)
class Row:
    """A method, alone or with a refiner.

    Attributes:
        name: to be shown; unlike that of any other row.
        method: name of the method.
        step: "alone", or the refiner that acted.
        ours: see `Method`.
        labels: whose labels it consumed, in words.
        labels_used: number of annotated photographs that it consumed.
        seconds: a photograph, the refiner included.
        fit_seconds: of the method, once.
        foreground: mean IoU of the foreground with the masks; None without masks.
        below_half: share of photographs whose foreground has an IoU below .5.
        miou: mean IoU of the parts; None without parts.
        per_class: class -> IoU.
        criteria: criterion -> mean over the photographs.
        places: what it says of each photograph, [H, W] uint8, classes of the masks or background and foreground.
    """

    name: str
    method: str
    step: str
    ours: bool
    labels: str
    labels_used: int
    seconds: float
    fit_seconds: float
    foreground: float | None = None
    below_half: float | None = None
    miou: float | None = None
    per_class: Mapping[str, float | None] = field(default_factory=dict)
    criteria: Mapping[str, float] = field(default_factory=dict)
    places: Sequence[Tensor] = ()

    @property
    def rank(self) -> float:
        """What rows are sorted by, larger first: IoU of the foreground, without masks the best criterion."""
        return self.foreground if self.foreground is not None else self.criteria.get(SORTED_BY, 0.0)

    def to_json(self) -> dict[str, Any]:
        """All but the pictures."""
        found = {k: v for k, v in vars(self).items() if k not in ("places", "per_class", "criteria")}
        return {**found, "per_class": dict(self.per_class), "criteria": dict(self.criteria)}


def rows_of(outcomes: Sequence[Outcome], material: Material) -> list[Row]:
    """Every method with every step, the best first."""
    found = []
    between = _between(outcomes)
    looked = [criteria.Looked.at(pixels) for pixels in material.pixels]
    scored = scored_places(outcomes, material) if material.masks else ()
    for outcome in outcomes:
        for step in outcome.labels:
            name = row_name(outcome, step)
            values = _alone(outcome, step, looked) | {k: v[name] for k, v in between.items() if name in v}
            row = Row(
                name, outcome.method.name, step, outcome.method.ours, *_labels(outcome, material),
                outcome.kept.seconds[step], outcome.kept.fit_seconds,
                criteria={k: round(values[k], 4) for k in CRITERIA if k in values},
            )  # fmt: skip
            found.append(_against_truth(row, outcome, material, scored) if material.masks else _shown(row, outcome))
    return sorted(found, key=lambda row: (-row.rank, row.seconds))


def row_name(outcome: Outcome, step: str) -> str:
    """Of a method with a step."""
    return outcome.method.name if step == ALONE else f"{outcome.method.name} + {step}"


def scored_places(outcomes: Sequence[Outcome], material: Material) -> tuple[int, ...]:
    """Photographs on which all methods are scored: no method used their labels.

    Raises:
        DataError: none is left.
    """
    used = {name for outcome in outcomes for name in outcome.method.labels_used}
    found = tuple(i for i in material.scored if material.names[i] not in used)
    if not found:
        raise DataError(
            f"the labels of all {plural(len(material), 'photograph')} were used by a run, so none is left to score",
            "give other photographs, or leave that run out",
        )
    return found


def _labels(outcome: Outcome, material: Material) -> tuple[str, int]:
    """Whose labels a method consumed, in words, and the number of photographs among them."""
    kept, matching = outcome.kept, len(material.few) if _matched(outcome, material) else 0
    said = kept.labels_consumed if kept.labels_consumed != "none" else ""
    if not said and kept.labels_used:
        said = f"{plural(kept.labels_used, 'annotated photograph')}"
    words = [f"{matching} to match parts" if matching else "", said]
    return ", ".join(word for word in words if word) or "none", matching + kept.labels_used


# ---- without masks -------------------------------------------------------------------------------------------------


def _between(outcomes: Sequence[Outcome]) -> dict[str, dict[str, float]]:
    """Criteria that compare methods: criterion -> row -> mean."""
    masks = {row_name(o, step): o.foregrounds(step) for o in outcomes for step in o.labels}
    families = {row_name(o, step): o.method.family for o in outcomes for step in o.labels}
    found = {"consensus": criteria.consensus(masks, families), "agreement": criteria.agreement(masks, families)}
    return {name: {row: float(np.mean(each)) for row, each in rows.items()} for name, rows in found.items()}


def _alone(outcome: Outcome, step: str, looked: Sequence[criteria.Looked]) -> dict[str, float]:
    """Criteria that look at one method."""
    masks = outcome.foregrounds(step)
    pairs = list(zip(looked, masks, strict=True))
    return {
        "separation": float(np.mean([criteria.separation(p, m) for p, m in pairs])),
        "edges": float(np.mean([criteria.edges(p, m) for p, m in pairs])),
        "plausibility": float(np.mean([criteria.plausibility(m) for m in masks])),
        "stability": outcome.kept.stability[step],
    }


def _shown(row: Row, outcome: Outcome) -> Row:
    """The row with its foregrounds as pictures."""
    return Row(**{**vars(row), "places": [mask.to(torch.uint8) for mask in outcome.foregrounds(row.step)]})


# ---- with masks ----------------------------------------------------------------------------------------------------


def _matched(outcome: Outcome, material: Material) -> bool:
    """Whether labels say which of its classes is which: they are more than two, and not those of the masks."""
    classes = outcome.kept.classes
    return bool(material.few) and classes != material.classes and (len(classes) > TWO or are_clusters(classes))


def _against_truth(row: Row, outcome: Outcome, material: Material, scored: Sequence[int]) -> Row:
    targets = _targets(outcome, row.step, material)
    places = [targets[labels.long()] for labels in outcome.labels[row.step]]
    count = len(material.classes)
    tables = np.stack([contingency(material.masks[i], places[i], max(count, TWO), max(count, TWO)) for i in scored])
    ious = foreground_ious(tables)
    defined = ious[~np.isnan(ious)]
    own = vars(row) | {
        "foreground": round(float(defined.mean()), 4) if len(defined) else None,
        "below_half": round(float((defined < HALF).mean()), 4) if len(defined) else None,
        "places": [place.to(torch.uint8) for place in places],
    }
    if count > TWO and (_matched(outcome, material) or outcome.kept.classes == material.classes):
        each = class_ious(tables)
        own["per_class"] = dict(zip(material.classes, each, strict=True))
        there = [value for value in each if value is not None]
        own["miou"] = round(sum(there) / len(there), 4) if there else None
    return Row(**own)


def _targets(outcome: Outcome, step: str, material: Material) -> Tensor:
    """The class of the masks that each of its classes is, [K] int64."""
    classes = outcome.kept.classes
    if classes == material.classes:
        return torch.arange(len(classes))
    if not _matched(outcome, material):
        return outcome.inside.long()
    count = len(material.classes)
    labels = outcome.labels[step]
    tables = np.stack([contingency(material.masks[i], labels[i], count, len(classes)) for i in material.few])
    return torch.tensor(greedy_targets(tables)) if tables.any() else outcome.inside.long()


def foreground_ious(tables: np.ndarray) -> np.ndarray:
    """IoU of all classes but the first, [n, K, K] -> [n]; NaN where neither mask nor answer has any."""
    both = tables[:, 1:, 1:].sum(axis=(1, 2))
    return ratio(both, tables.sum(axis=(1, 2)) - tables[:, 0, 0], np.nan)


def class_ious(tables: np.ndarray) -> list[float | None]:
    """IoU of each class, mean over the photographs in which mask or answer has it."""
    both = np.diagonal(tables, axis1=1, axis2=2)
    union = tables.sum(axis=1) + tables.sum(axis=2) - both
    each = ratio(both, union, np.nan)
    return [round(float(np.nanmean(c)), 4) if (~np.isnan(c)).any() else None for c in each.T]
