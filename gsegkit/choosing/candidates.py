"""What a person chooses from: the methods of a comparison, each as its foreground and as its parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gsegkit.classes.class_map import RAW_NAME
from gsegkit.classes.in_classes import at_present_cut
from gsegkit.classes.in_parts import parts_to_name
from gsegkit.classes.named import clusters_of
from gsegkit.comparing.measure import Outcome
from gsegkit.comparing.scores import Row
from gsegkit.engine.sources import open_part
from gsegkit.errors import ArtifactError, ConfigError
from gsegkit.interfaces import MaskExtractor
from gsegkit.plugins import Registry

MOST = 16  # candidates
FOREGROUND, PARTS = "foreground", "parts"
TWO = ("background", "foreground")


@dataclass(frozen=True)
class Candidate:
    """One method, looked at in one way.

    Attributes:
        method: its name.
        step: "alone", or the refiner that acts on its answers.
        view: "foreground" or "parts".
        targets: class of the method -> class of the candidate.
        classes: names of the candidate's classes, the background first.
        labels: of its method, in words.
        outcome: the method's answers.
    """

    method: str
    step: str
    view: str
    targets: tuple[int, ...]
    classes: tuple[str, ...]
    labels: str
    outcome: Outcome

    @property
    def id(self) -> str:
        """What a choice calls it."""
        return f"{self.method}/{self.step}/{self.view}"

    @property
    def title(self) -> str:
        """What a person reads."""
        return self.method if self.step == "alone" else f"{self.method} + {self.step}"

    def mask(self, place: int) -> Tensor:
        """Its answer to a photograph: [H, W] uint8 classes."""
        table = torch.tensor(self.targets, dtype=torch.uint8)
        return table[self.outcome.labels[self.step][place].long()]


def candidates_of(outcomes: Sequence[Outcome], rows: Sequence[Row], registry: Registry) -> list[Candidate]:
    """At most 16 candidates, those of the best methods first.

    Args:
        outcomes: of the comparison.
        rows: of the comparison, the best first; a method is shown alone or refined, whichever comes first.
        registry: opens the extractors of runs.
    """
    by_name = {outcome.method.name: outcome for outcome in outcomes}
    found: list[Candidate] = []
    for row in rows:
        if (outcome := by_name.pop(row.method, None)) is not None:
            found += [
                Candidate(row.method, row.step, view, targets, classes, row.labels, outcome)
                for view, targets, classes in _views(outcome, registry)
            ]
    return found[:MOST]


def _views(outcome: Outcome, registry: Registry) -> list[tuple[str, tuple[int, ...], tuple[str, ...]]]:
    classes, inside = outcome.kept.classes, outcome.inside.tolist()
    if len(classes) == 2 and not any(RAW_NAME.fullmatch(name) for name in classes):
        return [(FOREGROUND, (0, 1), classes)]
    foreground = (FOREGROUND, tuple(map(int, inside)), TWO)
    return [view for view in (_parts(outcome, registry), foreground) if view is not None]


def _parts(outcome: Outcome, registry: Registry) -> tuple[str, tuple[int, ...], tuple[str, ...]] | None:
    """Named classes as they are, a run's clusters in its few parts, other clusters with one background; None = none."""
    classes = outcome.kept.classes
    if not all(RAW_NAME.fullmatch(name) for name in classes):
        return PARTS, tuple(range(len(classes))), classes
    if outcome.method.run is not None:
        try:
            extractor: MaskExtractor = open_part(outcome.method.run, "extractor", registry, torch.device("cpu"))
            if (names := parts_to_name(extractor)) is not None:
                names = at_present_cut(names, classes, extractor)
                return PARTS, names.targets(clusters_of(extractor)), names.names
        except (ArtifactError, ConfigError):  # no extractor, or one without levels: its clusters as they are
            pass
    targets, names_found = [], ["background"]
    for is_inside in outcome.inside.tolist():
        targets.append(len(names_found) if is_inside else 0)
        names_found += [f"part {len(names_found)}"] if is_inside else []
    return (PARTS, tuple(targets), tuple(names_found)) if len(names_found) > 2 else None
