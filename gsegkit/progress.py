"""Progress as events, and numbers as people read them. By default nobody listens; the command line draws."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Mapping
from pathlib import Path


class Progress:
    """A listener that ignores everything; the command line replaces it."""

    def start(self, task: str, total: int, done: int = 0, planned: int | None = None) -> None:
        """A loop begins.

        Args:
            task: `stage: loop`.
            total: its number of steps.
            done: how many a resume found already done.
            planned: number of steps without the smoke limit, when that is known.
        """

    def advance(self, done: int, values: Mapping[str, float]) -> None:
        """`done` steps of the current loop are finished; `values` are its latest numbers."""

    def finish(self) -> None:
        """The current loop ended, by whatever way."""

    def larger(self, times: float, ram_bytes: int = 0, disk_bytes: int = 0) -> None:
        """Of a smoke run: steps of the stage's later loops take so many times as long in a whole run."""

    def message(self, text: str, level: str = "info") -> None:
        """A sentence for the user; level "info" or "warning"."""


class Journal(Progress):
    """Passes everything on, writes the sentences to a log file, and keeps the warnings.

    Attributes:
        warnings: all warnings so far.
    """

    def __init__(self, inner: Progress, path: Path) -> None:
        self.inner = inner
        self.path = path
        self.warnings: list[str] = []

    def start(self, task: str, total: int, done: int = 0, planned: int | None = None) -> None:
        """See `Progress.start`."""
        self._write(f"{task}: {total - done} of {total} steps to do")
        self.inner.start(task, total, done, planned)

    def advance(self, done: int, values: Mapping[str, float]) -> None:
        """See `Progress.advance`."""
        self.inner.advance(done, values)

    def finish(self) -> None:
        """See `Progress.finish`."""
        self.inner.finish()

    def larger(self, times: float, ram_bytes: int = 0, disk_bytes: int = 0) -> None:
        """See `Progress.larger`."""
        self.inner.larger(times, ram_bytes, disk_bytes)

    def message(self, text: str, level: str = "info") -> None:
        """See `Progress.message`."""
        if level == "warning":
            self.warnings.append(text)
        self._write(f"{level}: {text}")
        self.inner.message(text, level)

    def _write(self, text: str) -> None:
        line = f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n"
        with contextlib.suppress(OSError), open(self.path, "a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(line)  # a full disk is told by what is worth more than a log


def number(value: float) -> str:
    """A number as short as it can be read: 0.8123, 12.3, 1.2e-05, 1,234."""
    if not math.isfinite(value):
        return "—"
    if value == int(value) and abs(value) < 1e9:
        return f"{int(value):,}"
    if 1e-3 <= abs(value) < 1e5:
        return f"{value:.4g}"
    return f"{value:.2g}"


def duration(seconds: float) -> str:
    """Seconds in words.

    >>> duration(75)
    '1 min 15 s'
    """
    if not math.isfinite(seconds):
        return "—"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
