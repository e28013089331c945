"""What the command line shows: progress bars on a terminal, lines elsewhere, tables, errors."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.filesize import decimal
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichBars
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from gsegkit.errors import plural
from gsegkit.progress import Progress, duration, number
from gsegkit.records.text import printable

LOG_WIDTH = 10_000  # columns without a terminal: a log is not wrapped
LINE_SECONDS = 30.0  # without a terminal: one line this often


class PlainConsole(Console):
    """Prints text as it is: no markup in it acts, and no control character of a name steers the terminal."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """See rich; every text is made printable on its way out."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)


def make_console() -> Console:
    """A console on stderr that prints text as it is: a path `runs/[exp]2` is no markup. Style with `rich.text.Text`."""
    console = PlainConsole(stderr=True, markup=False, emoji=False, highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = LOG_WIDTH
    return console


class BarProgress(Progress):
    """A rich bar with ETA and the latest numbers."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.bars: RichBars | None = None
        self.task = 0

    def start(self, task: str, total: int, done: int = 0, planned: int | None = None) -> None:
        """See `Progress.start`."""
        self.bars = RichBars(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("eta"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[values]}", markup=False),
            console=self.console,
        )
        self.bars.start()
        self.task = self.bars.add_task(task, total=total, completed=done, values="")

    def advance(self, done: int, values: Mapping[str, float]) -> None:
        """See `Progress.advance`."""
        if self.bars is not None:
            self.bars.update(self.bars.task_ids[0], completed=done, values=_numbers(values))

    def finish(self) -> None:
        """See `Progress.finish`."""
        if self.bars is not None:
            self.bars.stop()
            self.bars = None

    def message(self, text: str, level: str = "info") -> None:
        """See `Progress.message`."""
        show_message(self.console, text, level)


class LineProgress(Progress):
    """For logs and pipes: one line every half minute."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.name = ""
        self.total = 0
        self.first = 0
        self.began = 0.0
        self.shown = 0.0

    def start(self, task: str, total: int, done: int = 0, planned: int | None = None) -> None:
        """See `Progress.start`."""
        self.name, self.total, self.first = task, total, done
        self.began = self.shown = time.monotonic()
        self.console.print(f"{task}: {plural(total - done, 'step')}")

    def advance(self, done: int, values: Mapping[str, float]) -> None:
        """See `Progress.advance`."""
        now = time.monotonic()
        if now - self.shown < LINE_SECONDS and done < self.total:
            return
        self.shown = now
        rate = (done - self.first) / max(now - self.began, 1e-9)
        left = (self.total - done) / max(rate, 1e-9)
        self.console.print(
            f"{self.name}: {done}/{self.total}, {rate:.2f}/s, eta {duration(left)} {_numbers(values)}", highlight=False
        )

    def message(self, text: str, level: str = "info") -> None:
        """See `Progress.message`."""
        show_message(self.console, text, level)


def make_progress(console: Console, quiet: bool = False) -> Progress:
    """Bars on a terminal, lines elsewhere, nothing when quiet."""
    if quiet:
        return Progress()
    return BarProgress(console) if console.is_terminal else LineProgress(console)


def show_message(console: Console, text: str, level: str) -> None:
    """One line, marked when it is a warning."""
    if level == "warning":
        console.print(Text("warning:", "yellow"), text, soft_wrap=True)
    else:
        console.print(text, soft_wrap=True)


def show_error(console: Console, message: str, hint: str) -> None:
    """What was wrong, and what to do."""
    console.print(Text("error:", "bold red"), message, soft_wrap=True)
    if hint:
        console.print(Text("try:", "bold"), hint, soft_wrap=True)


def make_table(title: str | Text, *columns: str) -> Table:
    """A plain table."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def size(count: float) -> str:
    """Bytes in words: `1.5 GB`."""
    return decimal(round(count))


def _numbers(values: Mapping[str, float]) -> str:
    return " ".join(f"{name} {number(value)}" for name, value in values.items())


def print_metrics(console: Console, metrics: Mapping[str, Any]) -> None:
    """The scores; their definitions are in the report and in --json."""
    table = make_table("", "metric", "value")
    for name, value in metrics.items():
        if isinstance(value, int | float) or value is None:
            table.add_row(name, "undefined" if value is None else number(value))
    console.print(table)
    for name, row in metrics.get("per_class", {}).items():
        numbers = ", ".join(f"{k} {number(v)}" if v is not None else f"{k} undefined" for k, v in row.items())
        console.print(f"  class {name}: {numbers}", soft_wrap=True)
    for note in metrics.get("notes", []):
        console.print(f"  note: {note}", soft_wrap=True)
