"""Waiting for jobs: their states, what they print, and how they ended."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pydantic import StrictInt

from gsegkit.errors import InterruptedRunError, LostProcessError
from gsegkit.launching.launcher import Say
from gsegkit.records.files import Record
from gsegkit.records.text import printable
from gsegkit_slurm.clusters import Cluster
from gsegkit_slurm.steps import Step, log_of

POLL = {True: 5.0, False: 0.2}  # seconds between two looks: at SLURM, at this machine
VISIBLE_AFTER = {True: 60.0, False: 1.0}  # seconds that a file system may take to show what a job wrote last
LAST_LINES = 10  # of a log, shown when a job failed
KILLED = "killed, perhaps for its memory: give more -o launcher.mem"
MAX_READ = 1 << 20  # bytes of a log, read at once


class Outcome(Record):
    """What a `Task` leaves when its command has ended by itself."""

    status: StrictInt


def outcome(cluster: Cluster, step: Step, index: int = 0) -> int | None:
    """The exit status of a job's command; None while it has not ended by itself."""
    path = step.outcome(cluster.folder, index)
    return Outcome.read(path).status if path.is_file() else None


class Tail:
    """The lines of a log that were not yet told.

    Args:
        path: of the log; it need not be there yet.
        before: how many of the bytes that are there now are told too; None = all.
    """

    def __init__(self, path: Path, before: int | None = None) -> None:
        self.path = path
        self._at = max(0, path.stat().st_size - before) if before is not None and path.is_file() else 0
        self._rest = b""

    def lines(self) -> list[str]:
        """New whole lines."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._at)
                data = file.read(MAX_READ)
        except OSError:  # not there yet
            return []
        self._at += len(data)
        *whole, self._rest = (self._rest + data).split(b"\n")
        return [printable(line.decode(errors="replace").rstrip("\r")) for line in whole]

    def rest(self) -> list[str]:
        """New lines, and the last one even if it was not ended."""
        lines = self.lines()
        last, self._rest = self._rest, b""
        return [*lines, *([printable(last.decode(errors="replace"))] if last else [])]


class Waiting:
    """Waits for the jobs of one step, and tells what they do.

    Args:
        cluster: where they run.
        step: what they are.
        ids: of its jobs.
        say: prints a line.
        from_end: tell only what is printed from now on.
    """

    def __init__(self, cluster: Cluster, step: Step, ids: Sequence[str], say: Say, from_end: bool = False) -> None:
        self.cluster, self.step, self.ids, self.say = cluster, step, ids, say
        self.ended: dict[int, int | None] = {}
        self._gone: dict[int, float] = {}
        self._shown, self._ran = "", False
        self._tail = Tail(log_of(cluster.folder, ids[0]), 0 if from_end else None)

    def wait(self, stop: threading.Event) -> int:
        """Until all have ended.

        Returns:
            0, or the exit status of a job that failed; 0 for an array, whose missing work the job after it does.

        Raises:
            LostProcessError: a job ended without a word.
            InterruptedRunError: the user wants to stop.
        """
        asked = False
        while len(self.ended) < len(self.ids):
            if stop.is_set() and not asked:
                if self.cluster.queues:
                    raise InterruptedRunError("stopped waiting")
                asked = True
                self.cluster.end(self.ids)
            self._look()
            if len(self.ended) < len(self.ids):
                stop.wait(POLL[self.cluster.queues]) if not asked else time.sleep(POLL[self.cluster.queues])
        for line in self._tail.rest():
            self.say(line)
        if asked:
            raise InterruptedRunError("stopped", "run the same command again to continue from here")
        return self._told()

    def _look(self) -> None:
        for line in self._tail.lines():
            self.say(line)
        states = self.cluster.states([job for index, job in enumerate(self.ids) if index not in self.ended])
        for index, job in enumerate(self.ids):
            if index in self.ended:
                continue
            if (status := outcome(self.cluster, self.step, index)) is not None:
                self.ended[index] = status
            elif states is not None and job not in states:
                since = self._gone.setdefault(index, time.monotonic())
                if time.monotonic() - since > VISIBLE_AFTER[self.cluster.queues]:
                    self.ended[index] = None
            else:
                self._gone.pop(index, None)
        if states is not None:
            self._show(states)

    def _show(self, states: dict[str, str]) -> None:
        """A line when something has changed."""
        if self.step.array:
            counts = Counter(states.get(job, "ended") for job in self.ids)
            text = f"{self.step.name}: " + ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
        else:
            state = states.get(self.ids[0], "ended")
            self._ran |= state.startswith("running")
            if self._ran:  # it was pre-empted, or reached its limit
                state = state.replace("pending", "back in the queue")
            text = f"{self.step.name}: job {self.ids[0]} {state}"
        if text != self._shown:
            self.say(text)
            self._shown = text

    def _told(self) -> int:
        """Tell what failed; the status to end with."""
        for index, status in sorted(self.ended.items()):
            job = self.ids[index]
            if status == 0:
                continue
            why = self.cluster.why(job) if status is None else KILLED if status == 137 else ""
            how = "ended without a word" if status is None else f"ended with {status}"
            sentence = f"{self.step.jobs[index].name}: job {job} {how}" + (f" ({why})" if why else "")
            log = f"its log: {log_of(self.cluster.folder, job)}"
            if status is not None and not self.step.array:  # its error was told while it ran
                self.say(f"{sentence}; {log}")
                return status
            self._say_last_lines(index)
            if not self.step.array:
                raise LostProcessError(f"{sentence}; {log}")
            self.say(f"{sentence}; what it left undone is done by the job that follows; {log}")
        return 0

    def _say_last_lines(self, index: int) -> None:
        for process in range(self.step.jobs[index].processes):
            path = log_of(self.cluster.folder, self.ids[index], process)
            for line in Tail(path, MAX_READ).rest()[-LAST_LINES:]:
                self.say(f"  {line}")
