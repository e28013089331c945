"""What a job does: start the command of gsegkit, and when the cluster wants the job to end, save and go on later.

submitit stores a `Task` as a pickle and loads it in the job; it holds plain values only.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from submitit import JobEnvironment
from submitit.helpers import DelayedSubmission, TorchDistributedEnvironment

from gsegkit.distributed.launched import Launched
from gsegkit.launching import Job
from gsegkit.launching.process import Process, environment, together
from gsegkit.storage import atomic_write_json

POLL = 0.1  # seconds between two looks at a process that was asked to stop
STOPPED = 130  # exit status of a command that was stopped, with everything saved
UNTIL_KILLED = 3600.0  # seconds that a job waits for the cluster to end it
LINGER = 20.0  # seconds that a process of a job stays so that its end does not end the job of the first one


@dataclass
class Task:
    """A command of gsegkit as a job of submitit; in a job of several processes each executes it.

    The command runs as a process of its own, in a session of its own, so that the signals of a cluster reach this one
    alone:

    - SLURM's warning before the time limit (and `scancel --signal USR2`): submitit calls `checkpoint` in the first
      process; the command saves and ends, the other processes with it, and submitit puts the job back into the queue.
    - SIGTERM (pre-emption, `scancel`): the command saves and ends, and the job waits until SLURM kills it. A pre-empted
      job that ends by itself would count as failed; one that is killed goes back into the queue.

    Attributes:
        arguments: of gsegkit.
        folder: where the command starts.
        processes: of the job.
        threads: of each process.
        outcome: file that gets the exit status when the command has ended by itself: `{"status": 0}`.
        patience: seconds that the command gets to save.
        waits: whether somebody kills the job after SIGTERM; else it ends itself.
    """

    arguments: list[str]
    folder: str
    processes: int
    threads: int
    outcome: str
    patience: float
    waits: bool
    _process: Process | None = field(default=None, init=False, repr=False)

    def __call__(self) -> None:
        """Carry out the command; the job ends with its exit status."""
        first = self.processes == 1 or JobEnvironment().global_rank == 0
        if first:
            Path(self.outcome).unlink(missing_ok=True)  # of an earlier attempt
        signal.signal(signal.SIGTERM, self._end)
        job = Job("", tuple(self.arguments), self.processes, Path(self.folder))
        self._process = Process(job, environment(_place(self.processes), self.threads, os.environ))
        status = together([self._process], threading.Event())
        if self.waits and status and (status == STOPPED or not first):
            time.sleep(LINGER)  # another process heard of the end first: SLURM's own signal may be on its way here
        if first:
            atomic_write_json(Path(self.outcome), {"status": status})
        if status:
            sys.exit(status)

    def checkpoint(self) -> DelayedSubmission:
        """Save and end; what submitit starts when the job's turn comes again. See submitit's documentation."""
        self._save()
        return DelayedSubmission(replace(self))

    def _end(self, number: int, frame: Any) -> None:
        self._save()
        until = time.monotonic() + (UNTIL_KILLED if self.waits else 0)
        while time.monotonic() < until:
            time.sleep(1)
        sys.exit(STOPPED)

    def _save(self) -> None:
        process, until = self._process, time.monotonic() + self.patience
        if process is None:
            return
        process.ask_to_stop()
        while process.ended() is None and time.monotonic() < until:
            time.sleep(POLL)
        process.kill()


def _place(processes: int) -> Launched | None:
    """Which of several processes this is; they meet on the first machine of the job."""
    if processes == 1:
        return None
    there = TorchDistributedEnvironment()
    alone = there.local_world_size == there.world_size  # one machine, whose name need not lead to an address
    host = "127.0.0.1" if alone else there.master_addr
    return Launched(there.rank, there.world_size, there.local_rank, host, there.master_port)
