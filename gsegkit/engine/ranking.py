"""Which pictures show how good predictions are: the best, those in the middle, the worst."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

RANKED_BY = ("miou", "iou_foreground", "accuracy")  # the first that pictures have
MOST_RANKED = 512  # pictures, the first ones of a set

T = TypeVar("T")
Scores = Mapping[str, Mapping[str, float | None]]


def ranked_by(per_image: Scores) -> str:
    """The metric that pictures are ranked by; "" when they have none."""
    there = {name for row in per_image.values() for name, value in row.items() if value is not None}
    return next((name for name in RANKED_BY if name in there), "")


def ranked(per_image: Scores) -> list[str]:
    """Names of pictures, the best first; those without the score are left out.

    Args:
        per_image: picture -> metric -> number.
    """
    metric = ranked_by(per_image)
    scores = {name: row.get(metric) for name, row in list(per_image.items())[:MOST_RANKED]}
    found = {name: value for name, value in scores.items() if value is not None}
    return sorted(found, key=lambda name: -found[name])


def chosen(names: Sequence[T], count: int) -> list[T]:
    """`count` of ranked pictures: the best and the worst, the middle, and others at equal distances between them."""
    if len(names) <= count:
        return list(names)
    ends = count // 3
    middle = (len(names) - ends) // 2
    sure = {*range(ends), *range(middle, middle + ends), *range(len(names) - ends, len(names))}
    rest = [place for place in range(len(names)) if place not in sure]
    more = count - len(sure)
    sure |= {rest[(2 * i + 1) * len(rest) // (2 * more)] for i in range(more)} if more > 0 else set()
    return [names[place] for place in sorted(sure)]


def in_groups(items: Sequence[T], each: int = 2) -> dict[str, list[T]]:
    """The best, median and worst of ranked items, `each` of them; {} when there are fewer than three."""
    each = min(each, len(items) // 3)
    if each == 0:
        return {}
    middle = (len(items) - each) // 2
    return {
        "Best": list(items[:each]),
        "Median": list(items[middle : middle + each]),
        "Worst": list(items[len(items) - each :]),
    }
