"""Where the workers of a run meet the person who started it: lines for the terminal, and the wish to stop."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import ray

MAX_LINES = 10_000  # that wait to be printed; older ones are dropped


class Desk:
    """An actor on the machine where the command was typed; it ends with the command."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._begun: Counter[str] = Counter()
        self._statuses: dict[int, int] = {}
        self._stopping = False

    # ---- asked by workers ------------------------------------------------------------------------------------------

    def begin(self, name: str) -> int:
        """A worker begins a job, or its first process does; returns how often that has happened."""
        self._begun[name] += 1
        return self._begun[name]

    def exchange(self, lines: Sequence[str]) -> bool:
        """Leave lines for the terminal; returns whether the user wants to stop."""
        self._lines = [*self._lines, *lines][-MAX_LINES:]
        return self._stopping

    def ended(self, rank: int, status: int) -> None:
        """A process of a job has ended by itself."""
        self._statuses[rank] = status

    # ---- asked by the command --------------------------------------------------------------------------------------

    def taken(self) -> list[str]:
        """The lines since the last call."""
        lines, self._lines = self._lines, []
        return lines

    def stop(self) -> None:
        """Let the workers save and stop."""
        self._stopping = True

    def status(self) -> int:
        """Of the job that has just ended: 0, or the first status that is an error; forgets it."""
        found = [self._statuses[rank] for rank in sorted(self._statuses)]
        self._statuses = {}
        return next((status for status in found if status), 0)


def open_desk() -> Any:
    """A handle of a new desk, on this machine, that takes no CPU from the workers."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(Desk).options(num_cpus=0, scheduling_strategy=here, max_concurrency=1).remote()
