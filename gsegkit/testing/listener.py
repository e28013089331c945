"""A listener for tests: remembers what a loop told it, and asks for a stop as Ctrl-C does."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from gsegkit.progress import Progress


class Listener(Progress):
    """Remembers everything.

    Attributes:
        messages: (level, sentence), in order.
        events: what the loops told: (task, total, done, planned) when one starts, its numbers of finished steps,
            `"end"`.
    """

    def __init__(self) -> None:
        self.messages: list[tuple[str, str]] = []
        self.events: list[tuple[str, int, int, int | None] | int | str] = []

    @property
    def infos(self) -> list[str]:
        """The sentences that are not warnings."""
        return [text for level, text in self.messages if level != "warning"]

    @property
    def warnings(self) -> list[str]:
        """The warnings."""
        return [text for level, text in self.messages if level == "warning"]

    def start(self, task: str, total: int, done: int = 0, planned: int | None = None) -> None:
        """See `Progress.start`."""
        self.events.append((task, total, done, planned))

    def advance(self, done: int, values: Mapping[str, float]) -> None:
        """See `Progress.advance`."""
        self.events.append(done)

    def finish(self) -> None:
        """See `Progress.finish`."""
        self.events.append("end")

    def message(self, text: str, level: str = "info") -> None:
        """See `Progress.message`."""
        self.messages.append((level, text))


class StopAfter(Listener):
    """Asks for a stop when a loop has done some steps.

        stop = StopAfter(3)
        ctx = RunContext(folder, stop=stop.event, progress=stop)

    Args:
        steps: the finished steps after which it asks.
        task: words in the name of the loop that is meant, e.g. `"training"`; "" = every loop.

    Attributes:
        event: what a context or a run takes as its `stop`.
    """

    def __init__(self, steps: int, task: str = "") -> None:
        super().__init__()
        self.steps = steps
        self.task = task
        self.event = threading.Event()
        self._meant = not task

    def start(self, task: str, total: int, done: int = 0, planned: int | None = None) -> None:
        """See `Progress.start`."""
        super().start(task, total, done, planned)
        self._meant = self.task in task

    def advance(self, done: int, values: Mapping[str, float]) -> None:
        """See `Progress.advance`."""
        super().advance(done, values)
        if self._meant and done == self.steps:
            self.event.set()
