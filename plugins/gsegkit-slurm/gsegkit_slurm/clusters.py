"""The two places where jobs can run, through submitit: a SLURM cluster, and this machine to try things out."""

from __future__ import annotations

import os
import signal
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import psutil
from submitit import LocalExecutor, LocalJob, SlurmExecutor
from submitit.core.utils import FailedJobError, FailedSubmissionError

from gsegkit.errors import ConfigError
from gsegkit.records.text import printable
from gsegkit_slurm.config import SlurmConfig
from gsegkit_slurm.layout import Layout
from gsegkit_slurm.scripts import dependency, parameters
from gsegkit_slurm.steps import Step
from gsegkit_slurm.task import Task

ANSWER = 30.0  # seconds that a command of SLURM gets
TO_REQUEUE = 15.0  # seconds of the warning that are kept for putting the job back into the queue
TASK_MODULE = "submitit.core._submit"  # what a process of a local job executes


class Cluster(ABC):
    """Where jobs run.

    Args:
        config: the launcher's options.
        layout: see `lay_out`.
        folder: of the jobs' scripts, pickles and logs.

    Attributes:
        queues: whether jobs may be handed in before those that they follow have ended.
    """

    queues: ClassVar[bool]

    def __init__(self, config: SlurmConfig, layout: Layout, folder: Path) -> None:
        self.config, self.layout, self.folder = config, layout, folder

    @abstractmethod
    def submit(self, step: Step, before: Sequence[Step] = (), ids: Sequence[Sequence[str]] = ()) -> list[str]:
        """Hand in the jobs of a step that follows others of given ids; returns the new ids."""

    @abstractmethod
    def states(self, ids: Sequence[str]) -> dict[str, str] | None:
        """Those jobs that have not ended, each with a word for people; None when that cannot be found out now."""

    @abstractmethod
    def end(self, ids: Sequence[str]) -> None:
        """Ask jobs to save and end."""

    def why(self, job: str) -> str:
        """What is known of a job that ended without a word; "" = nothing."""
        return ""

    def tasks(self, step: Step) -> list[Task]:
        """What submitit stores and executes."""
        config = self.config
        threads = config.threads or config.cpus_per_task or _threads(os.environ)
        patience = max(5.0, config.signal_delay - TO_REQUEUE)
        return [
            Task(
                list(job.arguments), str(job.folder), job.processes, threads, str(step.outcome(self.folder, index)),
                patience, waits=self.queues,
            )
            for index, job in enumerate(step.jobs)
        ]  # fmt: skip


class SlurmCluster(Cluster):
    """SLURM, by sbatch."""

    queues = True

    def submit(self, step: Step, before: Sequence[Step] = (), ids: Sequence[Sequence[str]] = ()) -> list[str]:
        """See `Cluster.submit`."""
        executor = SlurmExecutor(self.folder, max_num_timeout=self.config.requeues)
        executor.update_parameters(**parameters(self.config, self.layout, step, dependency(before, ids)))
        try:
            jobs = executor.submit_array(self.tasks(step))
        except (FailedJobError, FailedSubmissionError) as error:
            lines = str(error).strip().splitlines() or ["it does not say why"]
            raise ConfigError(
                f"sbatch did not take the job '{step.name}': {printable(lines[-1])[:300]}",
                "check partition, account, time and memory; -o launcher.dry_run=true shows the script",
            ) from None
        return [job.job_id for job in jobs]

    def states(self, ids: Sequence[str]) -> dict[str, str] | None:
        """See `Cluster.states`."""
        found = _asked("squeue", "--noheader", "--array", f"--user={os.getuid()}", "--format=%i|%T|%r")
        if found is None:
            return None
        states = {}
        for line in found.splitlines():
            job, state, reason = [*line.strip().split("|", 2), "", ""][:3]
            if job in ids:
                states[job] = state.lower() + (f" ({reason})" if state == "PENDING" and reason != "None" else "")
        return states

    def end(self, ids: Sequence[str]) -> None:
        """See `Cluster.end`."""
        _asked("scancel", *ids)

    def why(self, job: str) -> str:
        """See `Cluster.why`; needs a cluster that keeps accounts."""
        found = _asked("sacct", "--noheader", "--allocations", f"--jobs={job}", "--format=State", "--parsable2")
        words = (found or "").split()
        return f"SLURM says {printable(words[0])}" if words else ""


class LocalCluster(Cluster):
    """Processes of this machine. They outlive the command, as jobs do, unless it asks them to end."""

    queues = False

    def __init__(self, config: SlurmConfig, layout: Layout, folder: Path) -> None:
        super().__init__(config, layout, folder)
        self._jobs: dict[str, LocalJob[Any]] = {}

    def submit(self, step: Step, before: Sequence[Step] = (), ids: Sequence[Sequence[str]] = ()) -> list[str]:
        """See `Cluster.submit`."""
        config, gpus = self.config, self.config.gpus_per_node
        found = []
        for index, task in enumerate(self.tasks(step)):
            executor = LocalExecutor(self.folder, max_num_timeout=config.requeues)
            executor.update_parameters(
                timeout_min=config.seconds / 60,
                signal_delay_s=config.signal_delay,
                tasks_per_node=task.processes,
                gpus_per_node=min(gpus, task.processes),
                visible_gpus=[index % gpus] if gpus and step.array else (),
                setup=list(config.setup),
            )
            job = executor.submit(task)
            assert isinstance(job, LocalJob)
            self._jobs[job.job_id] = job
            found.append(job.job_id)
        return found

    def states(self, ids: Sequence[str]) -> dict[str, str]:
        """See `Cluster.states`."""
        return {job: "running" for job in ids if not self._jobs[job].done()}

    def end(self, ids: Sequence[str]) -> None:
        """See `Cluster.end`."""
        for job in self.states(ids):
            for process in processes_of(job):
                process.send_signal(signal.SIGTERM)


def processes_of(job: str) -> list[psutil.Process]:
    """The processes of a local job that execute a `Task`."""
    try:
        below = psutil.Process(int(job)).children(recursive=True)
        return [process for process in below if TASK_MODULE in process.cmdline()]
    except psutil.NoSuchProcess:  # it ends in this moment
        return []


def _threads(environ: Mapping[str, str]) -> int:
    text = environ.get("OMP_NUM_THREADS", "")
    return int(text) if text.isascii() and text.isdigit() and 0 < int(text) <= 1024 else 1


def _asked(*command: str) -> str | None:
    """What a command of SLURM answers; None when it fails, as while the cluster's controller is restarted."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=ANSWER, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
