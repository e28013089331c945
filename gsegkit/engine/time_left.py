"""Progress of a loop that ends by the clock: the time that is left, beside its other numbers. Imports no torch."""

from __future__ import annotations

import time
from collections.abc import Mapping

from gsegkit.progress import Progress


class TimeLeft(Progress):
    """Passes everything on; a loop's ETA goes by its steps, which a time limit will cut off.

    Args:
        inner: who listens.
        seconds: until the limit.
    """

    def __init__(self, inner: Progress, seconds: float) -> None:
        self.inner, self.until = inner, time.monotonic() + seconds

    def start(self, task: str, total: int, done: int = 0, planned: int | None = None) -> None:
        """See `Progress.start`."""
        self.inner.start(task, total, done, planned)

    def advance(self, done: int, values: Mapping[str, float]) -> None:
        """See `Progress.advance`."""
        left = max(0.0, self.until - time.monotonic())
        self.inner.advance(done, {"ends_in_minutes": round(left / 60, 1), **values})

    def finish(self) -> None:
        """See `Progress.finish`."""
        self.inner.finish()

    def larger(self, times: float, ram_bytes: int = 0, disk_bytes: int = 0) -> None:
        """See `Progress.larger`."""
        self.inner.larger(times, ram_bytes, disk_bytes)

    def message(self, text: str, level: str = "info") -> None:
        """See `Progress.message`."""
        self.inner.message(text, level)
