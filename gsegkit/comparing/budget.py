"""Time: how much there is, what a method will take, and what fits."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

from gsegkit.errors import ConfigError
from gsegkit.progress import duration

UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
FEWEST = 12  # photographs; before there are fewer of them, methods are left out
SHARES = (1.0, 0.75, 0.5, 0.35, 0.25, 0.15)  # of the photographs that are tried
LATEST = 30 * 24 * 3600.0  # seconds


def seconds_of(text: str) -> float:
    """Seconds of a budget such as "90s", "10m" or "1.5h".

    Raises:
        ConfigError: it is not one.

    Example:
        >>> seconds_of("10m")
        600.0
    """
    found = re.fullmatch(r"([0-9]{1,6}(?:\.[0-9]{1,3})?)([smh])", text)
    seconds = float(found[1]) * UNITS[found[2]] if found else 0.0
    if not 0 < seconds <= LATEST:
        raise ConfigError(f"'{text[:40]}' is not a budget", "write a time such as 90s, 10m or 1h")
    return seconds


class Deadline(threading.Event):
    """Set when the user asks to stop, or when the time is over."""

    def __init__(self, stop: threading.Event, seconds: float) -> None:
        super().__init__()
        self.stop, self.until = stop, time.monotonic() + seconds

    def is_set(self) -> bool:
        """See `threading.Event`."""
        return self.stop.is_set() or self.left <= 0

    @property
    def left(self) -> float:
        """Seconds; may be negative."""
        return self.until - time.monotonic()


@dataclass(frozen=True)
class Cost:
    """Seconds that a method takes.

    Attributes:
        fixed: whatever the number of photographs.
        each: for every photograph.
    """

    fixed: float
    each: float

    def of(self, count: int) -> float:
        """For so many photographs."""
        return self.fixed + self.each * count


def line(few: tuple[int, float], more: tuple[int, float]) -> Cost:
    """What two measurements, (photographs, seconds) each, say of any number of photographs."""
    each = max(0.0, (more[1] - few[1]) / max(more[0] - few[0], 1))
    return Cost(max(0.0, more[1] - each * more[0]), each)


def fitting(costs: Mapping[str, Cost], total: int, left: float, most: int | None = None) -> tuple[int, list[str]]:
    """How many photographs and which methods fit into the time.

    Fewer photographs come first, down to `FEWEST`; then the dearest methods are left out.

    Args:
        costs: method -> what it takes.
        total: photographs that there are.
        left: seconds.
        most: photographs; None = all.

    Returns:
        The number of photographs, and the methods, the quickest first.

    Raises:
        ConfigError: not even one method fits.
    """
    start = total if most is None else min(most, total)
    counts = [start] if most is not None else sorted({max(min(FEWEST, start), round(start * s)) for s in SHARES})[::-1]
    names = sorted(costs, key=lambda name: costs[name].of(start))
    for count in counts:
        if sum(costs[name].of(count) for name in names) <= left:
            return count, names
    count, kept = counts[-1], list(names)
    while kept and sum(costs[name].of(count) for name in kept) > left:
        kept.pop()
    if costs and not kept:
        least = costs[names[0]].of(count)
        raise ConfigError(
            f"the budget is too small: {duration(max(left, 0.0))} are left, and {names[0]}, the quickest method, "
            f"takes about {duration(least)} on {count} photographs",
            "give more with --budget, or fewer photographs",
        )
    return count, kept
