"""The jobs of a run in their order, and the files that belong to each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from submitit.core.utils import JobPaths

from gsegkit.launching import Job, Request
from gsegkit_slurm.layout import Layout


@dataclass(frozen=True)
class Step:
    """Jobs that do not depend on each other: one of several processes, or an array of jobs of one process.

    Attributes:
        number: 0, 1, ... in the order of the run.
        jobs: what to do.
    """

    number: int
    jobs: tuple[Job, ...]

    @property
    def name(self) -> str:
        """For people."""
        return self.jobs[0].name if len(self.jobs) == 1 else self.jobs[0].name.partition(" 1 of ")[0]

    @property
    def array(self) -> bool:
        """Whether these are several jobs."""
        return len(self.jobs) > 1

    def outcome(self, folder: Path, index: int) -> Path:
        """File that gets the exit status of a job."""
        return folder / f"step-{self.number}-job-{index}.json"


def steps_of(request: Request, layout: Layout) -> list[Step]:
    """The jobs of a run."""
    pieces = request.pieces(layout.workers, layout.shares) if layout.shares else [[request.whole(layout.workers)]]
    return [Step(number, tuple(jobs)) for number, jobs in enumerate(pieces)]


def log_of(folder: Path, job: str, task: int = 0) -> Path:
    """What a process of a job prints on standard error."""
    return Path(JobPaths(folder, job_id=job, task_id=task).stderr)
