"""The outcome in one sentence: what to take, and what gsegkit's own segmenter adds."""

from __future__ import annotations

from collections.abc import Sequence

from gsegkit.comparing.scores import Row
from gsegkit.comparing.validated import CRITERIA, SETS, SORTED_BY

NOTHING = 0.005  # a smaller difference is none


def sentence(rows: Sequence[Row]) -> str:
    """What to take on these photographs.

    Args:
        rows: the best first; at least one.
    """
    truth = rows[0].foreground is not None
    without, ours = [row for row in rows if not row.ours], [row for row in rows if row.ours]
    best = _best(without) if without else rows[0]
    more = _costs(best) + ("" if truth else _worth(bool(ours)))
    said = f"On your photographs take {best.name} ({_value(best, truth)}{more})"
    free = next((row for row in without if not row.labels_used), None)
    if best.labels_used and free is not None:
        said += f", or without labels {free.name} ({_value(free, truth)})"
    if not ours:
        return f"{said}; no run of gsegkit was given (--runs)."
    if not without:
        return f"{said}; there is nothing else to compare it with."
    return f"{said}; gsegkit's {ours[0].name} {_adds(ours[0].rank - best.rank)} ({_value(ours[0], truth)})."


def taken(rows: Sequence[Row]) -> Row:
    """The row to take, rows sorted: what needs no generator, unless ours adds something."""
    without, ours = [row for row in rows if not row.ours], [row for row in rows if row.ours]
    best = _best(without) if without else rows[0]
    return ours[0] if ours and ours[0].rank - best.rank > NOTHING else best


def _best(rows: Sequence[Row]) -> Row:
    """Of those that are as good as the first one, one that used the fewest labels; of several the quickest."""
    good = [row for row in rows if rows[0].rank - row.rank <= NOTHING]
    return min(good, key=lambda row: (row.labels_used, row.seconds))


def parts_sentence(rows: Sequence[Row]) -> str:
    """The same for parts; "" where no method has any."""
    scored = sorted((row for row in rows if row.miou is not None), key=lambda row: -(row.miou or 0.0))
    without, ours = [row for row in scored if not row.ours], [row for row in scored if row.ours]
    if not scored:
        return ""
    best = without[0] if without else scored[0]
    said = f"For parts take {best.name} (mIoU {best.miou:.3f}, labels: {best.labels})"
    if not ours or not without:
        return f"{said}."
    gain = (ours[0].miou or 0.0) - (best.miou or 0.0)
    return f"{said}; gsegkit's {ours[0].name} {_adds(gain)} (mIoU {ours[0].miou:.3f}, labels: {ours[0].labels})."


def _adds(gain: float) -> str:
    return f"adds {gain:.3f}" if gain > NOTHING else "adds nothing"


def _costs(row: Row) -> str:
    return f", labels: {row.labels}" if row.labels_used else ""


def _value(row: Row, truth: bool) -> str:
    return f"foreground IoU {row.rank:.3f}" if truth else f"{SORTED_BY} {row.rank:.3f}"


def _worth(with_runs: bool) -> str:
    worth = CRITERIA[SORTED_BY].worth(with_runs)
    return f"; its rank correlation with the true IoU was {worth:.2f} over {SETS} sets"
