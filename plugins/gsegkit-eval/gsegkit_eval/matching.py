"""Which predicted class means which true one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from gsegkit.classes.class_map import IGNORED, ClassMap, class_map_in, cluster_ids, read_values
from gsegkit.classes.greedy import UNMATCHED, greedy_targets, ratio
from gsegkit.errors import ConfigError
from gsegkit_eval.config import MATCH_RULES

LABELS_USED = "this used the labels of the very images that are scored, as in the KLiSH paper"


@dataclass(frozen=True)
class Matching:
    """A decided matching.

    Attributes:
        targets: for each predicted class its true class, or -1.
        note: how it came about, for the report.
        merged: truth classes 1, 2 ... count as one class "foreground".
        labels_used: names of the images whose labels decided it: they are not scored.
    """

    targets: tuple[int, ...]
    note: str
    merged: bool = False
    labels_used: tuple[str, ...] = ()

    def apply(self, tables: NDArray[np.int64]) -> NDArray[np.int64]:
        """[n, K1, K2] -> [n, K1, K1 + 1]: columns become true classes, the last one collects the unmatched."""
        n, num_true, _ = tables.shape
        merged = np.zeros((n, num_true, num_true + 1), dtype=np.int64)
        for cluster, target in enumerate(self.targets):
            merged[:, :, target] += tables[:, :, cluster]  # -1 is the last column
        return merged


def decide(rule: str, num_predicted: int, predicted: Sequence[str] | None, truth: Sequence[str]) -> Matching | None:
    """The matching that needs no labels, or None when `rule` leads to greedy or Hungarian matching.

    Rule "auto": predicted names that are all names of true classes are matched by name; a predictor of two classes is
    background and foreground; anything else is matched greedily.

    Raises:
        ConfigError: the rule cannot be applied to these classes.
    """
    if rule == "auto":
        if predicted is not None and set(predicted) <= set(truth):
            return by_names(predicted, truth)
        return as_foreground(truth) if num_predicted == 2 else None
    if rule == "names":
        return by_names(predicted, truth)
    if rule == "index":
        if num_predicted > len(truth):
            raise ConfigError(
                f"match=index: {num_predicted} predicted classes, but only {len(truth)} true ones",
                "use match=greedy or match=hungarian",
            )
        return Matching(tuple(range(num_predicted)), "predicted class i was taken for true class i")
    if rule not in MATCH_RULES:
        return from_file(Path(rule), num_predicted, predicted, truth)
    return None


def by_names(predicted: Sequence[str] | None, truth: Sequence[str]) -> Matching:
    """Match equal names; every predicted name must be a true one."""
    unknown = [name for name in predicted or () if name not in truth]
    if predicted is None or unknown:
        what = (
            f"the predicted class '{unknown[0]}' is not one of the true classes"
            if unknown
            else "the predictor names no classes"
        )
        raise ConfigError(f"match=names: {what}", f"true classes: {', '.join(truth)}; or use match=greedy")
    return Matching(tuple(list(truth).index(name) for name in predicted), "classes were matched by name")


def as_foreground(truth: Sequence[str]) -> Matching:
    """Two predicted classes are background and foreground, whatever they are called."""
    note = "the two predicted classes were taken for background (0) and foreground (1); no label was used for this"
    if len(truth) == 2:
        return Matching((0, 1), note)
    merged = f"; the true classes {', '.join(truth[1:])} count as one foreground, also in mIoU and accuracy"
    return Matching((0, 1), note + merged, merged=True)


def from_file(path: Path, num_predicted: int, predicted: Sequence[str] | None, truth: Sequence[str]) -> Matching:
    """Read `predicted class: true class`, by name or index on either side; every predicted class needs a line.

    The file may also be one of class names, as `gsegkit name` and `gsegkit match` write it.
    """
    class_map = class_map_in(path)
    if class_map is not None:
        return from_class_map(class_map, path.name, num_predicted, predicted, truth)
    values = read_values(path)
    names = list(predicted) if predicted is not None else []
    targets = [UNMATCHED] * num_predicted
    for left, right in values.items():
        cluster, target = _index(left, names, num_predicted), _index(right, list(truth), len(truth))
        if cluster is None:
            raise ConfigError(f"'{path}' names the predicted class '{left}', which does not exist", _choices(names))
        if target is None:
            raise ConfigError(
                f"'{path}' maps '{left}' to '{right}', which is not one of the true classes", _choices(truth)
            )
        targets[cluster] = target
    if UNMATCHED in targets:
        missing = targets.index(UNMATCHED)
        name = names[missing] if names else missing
        raise ConfigError(f"'{path}' does not map the predicted class '{name}'", "add a line for it")
    return Matching(tuple(targets), f"classes were matched by the file '{path.name}'")


def from_class_map(
    class_map: ClassMap, file: str, num_predicted: int, predicted: Sequence[str] | None, truth: Sequence[str]
) -> Matching:
    """Predicted clusters become the true classes of the names that a file gives them.

    Clusters that the file ignores stay unmatched. A predictor that has the file's own class names is matched by them.

    Raises:
        ConfigError: the file speaks of other clusters, or of a class that is no true one.
    """
    if predicted is not None and tuple(predicted) == class_map.names:
        indices: tuple[int, ...] = tuple(range(num_predicted))
    else:
        indices = class_map.targets(cluster_ids(predicted or [str(i) for i in range(num_predicted)]))
    unknown = [name for name in class_map.names if name not in truth]
    if unknown:
        raise ConfigError(
            f"'{file}' names the class '{unknown[0]}', which is not one of the true classes", _choices(truth)
        )
    meant = [list(truth).index(name) for name in class_map.names]
    targets = tuple(UNMATCHED if index == IGNORED else meant[index] for index in indices)
    note = f"classes were matched by the class names in '{file}'"
    return Matching(targets, note, labels_used=class_map.labels_used)


def greedy(tables: NDArray[np.int64], labels: str = LABELS_USED) -> Matching:
    """KLiSH's greedy maximum matching, see `gsegkit.classes.greedy.greedy_targets`.

    Args:
        tables: [n, K1, K2] counts.
        labels: whose labels this used, for the note.
    """
    _, num_true, num_predicted = tables.shape
    note = f"{num_predicted} predicted classes were matched to {num_true} true ones greedily (KLiSH): {labels}"
    return Matching(greedy_targets(tables), note)


def hungarian(tables: NDArray[np.int64], labels: str = LABELS_USED) -> Matching:
    """One predicted class for each true one, so that the sum of data-set IoUs is greatest; the rest is unmatched.

    Unmatched classes are wrong for every class, and foreground where only foreground matters.
    """
    total = tables.sum(axis=0)  # [K1, K2]
    ious = ratio(total, total.sum(axis=1, keepdims=True) + total.sum(axis=0, keepdims=True) - total, 0.0)
    rows, columns = linear_sum_assignment(ious, maximize=True)
    targets = [UNMATCHED] * tables.shape[2]
    for target, cluster in zip(rows, columns, strict=True):
        targets[cluster] = int(target)
    note = f"predicted classes were matched one to one to {len(total)} true ones (Hungarian method): {labels}"
    spare = targets.count(UNMATCHED)
    return Matching(tuple(targets), note + (f"; {spare} predicted classes were left unmatched" if spare else ""))


def describe(matching: Matching, predicted: Sequence[str] | None, truth: Sequence[str]) -> str:
    """`class <- predicted, predicted; ...` for the report."""
    parts = []
    for target, name in [*enumerate(truth), (UNMATCHED, "unmatched")]:
        members = [index for index, t in enumerate(matching.targets) if t == target]
        if members or target != UNMATCHED:
            shown = ", ".join(predicted[i] if predicted else str(i) for i in members)
            parts.append(f"{name} <- {shown or 'none'}")
    return "; ".join(parts)


def _index(value: object, names: Sequence[str], count: int) -> int | None:
    if value in names:
        return names.index(str(value))
    text = str(value)
    return int(text) if text.isdigit() and int(text) < count else None


def _choices(names: Sequence[str]) -> str:
    return f"choose among {', '.join(names)}" if names else "number them from 0"
