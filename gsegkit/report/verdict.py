"""The headline of a report: one score, what it means, and whether it is good."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gsegkit.report.read import IN_WORDS, is_number, show

GOOD, FAIR, LOW = "good", "fair", "low"

#: Metric -> what its number is, and from where on it is good, and fair.
MEASURES: Mapping[str, tuple[str, float, float]] = {
    "miou": ("overlap of predicted and true regions, averaged over the classes", 0.75, 0.5),
    "iou_foreground": ("overlap of the predicted and the true foreground", 0.75, 0.5),
    "miou_greedy": ("overlap of predicted and true regions, averaged over the classes", 0.75, 0.5),
    "accuracy": ("share of pixels whose class is right", 0.95, 0.85),
}
RATINGS = {GOOD: "This is good.", FAIR: "This is fair.", LOW: "This is low."}
SCALE = "0 = none, 1 = perfect"


@dataclass(frozen=True)
class Verdict:
    """A score for people.

    Attributes:
        name: of the score, and what it was measured on.
        value: the number.
        rating: `good`, `fair` or `low`.
        says: what it means and whether it is good, in sentences.
    """

    name: str
    value: str
    rating: str
    says: tuple[str, ...]


def verdict(run: Mapping[str, Any], metrics: Mapping[str, Any] | None) -> Verdict | None:
    """The score that a person judges a run by: on annotated pictures, else on new generated ones; None = no score."""
    if metrics is not None and metrics["headline"]:
        return _of_metrics(run, metrics)
    learned = run["learned"]
    return _of_learned(learned) if is_number(learned.get("miou")) else None


def _of_metrics(run: Mapping[str, Any], metrics: Mapping[str, Any]) -> Verdict:
    name, value = metrics["headline"]
    meaning, good, fair = MEASURES.get(name, ("", 0.75, 0.5))
    label = IN_WORDS.get(name, name.replace("_", " "))
    count = metrics["numbers"].get("num_images")
    pictures = "annotated photographs" if run["scored_photographs"] else "generated pictures that it has not seen"
    where = f"{show(count)} {pictures}" if count else pictures
    rating = _rate(value, good, fair)
    says = [f"{meaning[:1].upper()}{meaning[1:]}: {SCALE}." if meaning else ""]
    beaten = _beaten_by(metrics)
    if beaten:
        rating = LOW
        says.append(
            f"This is low: a trivial method without training ({beaten[0]}) finds the foreground with an IoU of "
            f"{beaten[1]:.2f}, this run with {metrics['numbers']['iou_foreground']:.2f}."
        )
    else:
        says.append(RATINGS[rating] if name in MEASURES else "")
    if rating == LOW:
        says.append("The worst predictions below show whether its masks are wrong or its classes are other ones.")
    return Verdict(f"{label} on {where}", f"{value:.2f}", rating, tuple(filter(None, says)))


def _beaten_by(metrics: Mapping[str, Any]) -> tuple[str, float] | None:
    """The trivial method that does as well on the foreground, with its number."""
    own = metrics["numbers"].get("iou_foreground")
    trivial = [(name, number) for name, number in metrics["trivial"].items() if is_number(number)]
    best = max(trivial, key=lambda row: row[1], default=None)
    return best if best is not None and is_number(own) and own <= best[1] else None


def _of_learned(learned: Mapping[str, Any]) -> Verdict:
    value, constant, parts = learned["miou"], learned.get("constant_miou"), learned.get("parts")
    rating = LOW if learned.get("learned") is False else _rate(value, *MEASURES["miou"][1:])
    never = learned.get("never_predicted")
    says = [
        f"Overlap of the segmenter's masks with those that it learns from, averaged over {show(parts)} classes: {SCALE}"
        f"{f'; one class everywhere gives {constant:.2f}' if is_number(constant) else ''}.",
        RATINGS[rating],
    ]
    if rating != GOOD and isinstance(never, list) and never:
        says.append(f"It never predicts {len(never)} of the {show(parts)}.")
    if rating == LOW and learned.get("learned") is not False:
        says.append(
            "Clusters that look alike are mistaken for each other: put them together under names, or ask for fewer."
        )
    says.append("It tells how well the masks were learned, not whether they are right: only annotated photographs can.")
    return Verdict(
        f"mean IoU on {show(learned.get('pairs'))} new generated pictures", f"{value:.2f}", rating, tuple(says)
    )


def _rate(value: float, good: float, fair: float) -> str:
    return GOOD if value >= good else FAIR if value >= fair else LOW
