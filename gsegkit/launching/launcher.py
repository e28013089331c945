"""The interface of launchers: they get a run as a request, start its processes, and say how it ended. No torch."""

from __future__ import annotations

import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gsegkit.config import Config
from gsegkit.rundir import stage_name

Say = Callable[[str], None]


@dataclass(frozen=True)
class Job:
    """One command of gsegkit, and the processes that carry it out together.

    A job can be started again at any time, after a kill too: what it had finished is kept. It prints its progress and
    its errors on standard error, and ends with 0, 2 (an error, told in a sentence) or 130 (stopped, with everything
    saved; SIGINT or SIGTERM ask for it).

    Attributes:
        name: for people: "fit", "pairs 3 of 8".
        arguments: after `gsegkit`.
        processes: several must find each other: see `gsegkit.launching.process.environment`. 1 needs nothing.
        folder: where it must be started: the user's own folder.
    """

    name: str
    arguments: tuple[str, ...]
    processes: int
    folder: Path

    @property
    def command(self) -> list[str]:
        """What to execute, in the Python of this process."""
        return [sys.executable, "-m", "gsegkit", *self.arguments]


@dataclass(frozen=True)
class Request:
    """A run that a user wants to have carried out.

    Attributes:
        arguments: `run` and its options, without those of the launcher.
        out: the run folder, absolute; all processes must see it.
        folder: where the user typed the command, absolute; relative paths among the arguments mean it.
        workers: number of processes that the user wants; None = the launcher decides, see `default_workers`.
        device: as in the plan: auto, cpu, cuda ...
        rounds: of the plan; each has its pairs.
    """

    arguments: tuple[str, ...]
    out: Path
    folder: Path
    workers: int | None = None
    device: str = "auto"
    rounds: int = 1

    def whole(self, workers: int) -> Job:
        """The run as one job of several processes."""
        return self._job("run", "all", workers)

    def pieces(self, workers: int, shares: int) -> list[list[Job]]:
        """The run as jobs that follow each other; those of one inner list are independent of each other.

        The extractor is fitted by a job of several processes; the pairs are made by `shares` jobs of one process, which
        know nothing of each other, so that each can wait, fail and be repeated by itself; another job of several
        processes does the rest. The result is that of `whole`.

        Args:
            workers: processes of the jobs that need to find each other.
            shares: jobs among which the pairs are divided.
        """
        steps = []
        for round in range(self.rounds):
            fit, pairs = stage_name("extractor", round), stage_name("dataset", round)
            steps.append([self._job(f"fit {fit}", fit, workers)])
            steps.append(
                [
                    self._job(f"make {pairs} {share + 1} of {shares}", f"{pairs}:{share}/{shares}", 1)
                    for share in range(shares)
                ]
            )
        return [*steps, [self.whole(workers)]]

    def _job(self, name: str, piece: str, processes: int) -> Job:
        return Job(name, (*self.arguments, "--piece", piece), processes, self.folder)


class Launcher(ABC):
    """Starts the processes of a run, here or elsewhere, and waits for their end. Imports no torch.

    Attributes:
        config: its options.
    """

    def __init__(self, config: Config) -> None:
        self.config = config

    @abstractmethod
    def launch(self, request: Request, say: Say, stop: threading.Event) -> int:
        """Carry out a run, as one job (`Request.whole`) or in pieces (`Request.pieces`).

        Args:
            request: what to do.
            say: prints a line for the user; what the first process of a job prints on standard error belongs there.
            stop: set when the user wants to stop: ask the processes (SIGINT), and wait until they have saved.

        Returns:
            0, or the exit status of a job that failed and has said why.

        Raises:
            GsegkitError: what went wrong outside the jobs: no cluster, too few machines, a lost worker.
        """
