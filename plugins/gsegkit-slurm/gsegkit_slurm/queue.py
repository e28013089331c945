"""Jobs in the queue of a cluster: handed in all at once, watched, left alone, and found again by the same command."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field, StrictStr

from gsegkit.errors import ArtifactError, ConfigError, InterruptedRunError, LostProcessError
from gsegkit.launching.launcher import Say
from gsegkit.records.files import Record
from gsegkit.storage import atomic_write_json
from gsegkit_slurm.clusters import Cluster
from gsegkit_slurm.steps import Step
from gsegkit_slurm.watching import Waiting, outcome

JOBS_FILE = "jobs.json"
JobId = Annotated[StrictStr, Field(pattern=r"^\d{1,12}(_\d{1,7})?$")]


class Jobs(Record):
    """jobs.json: jobs that were handed in, and not yet seen to their end."""

    arguments: tuple[StrictStr, ...]
    folder: Annotated[StrictStr, Field(pattern=r"^[0-9a-f-]{1,40}$")]  # of them, beside jobs.json
    ids: tuple[tuple[JobId, ...], ...]  # of each step


def earlier(home: Path) -> Jobs | None:
    """What an earlier call handed in; a file that cannot be read names no jobs."""
    try:
        return Jobs.read(home / JOBS_FILE)
    except ArtifactError:
        return None


def still_there(cluster: Cluster, jobs: Jobs, arguments: tuple[str, ...], steps: Sequence[Step]) -> bool:
    """Whether jobs of an earlier call of the same command are in the queue, or have finished the run meanwhile.

    Raises:
        ConfigError: those of another command are, or the cluster does not answer.
    """
    everything = [job for ids in jobs.ids for job in ids]
    states = cluster.states(everything)
    if states is None:
        raise ConfigError("squeue does not answer, so it is not known which jobs still work", "try again later")
    same = jobs.arguments == arguments and [len(ids) for ids in jobs.ids] == [len(step.jobs) for step in steps]
    if states and not same:
        ids = " ".join(roots(everything))
        raise ConfigError(f"jobs of another command still work in this run folder: {ids}", f"wait, or scancel {ids}")
    return bool(states) or (same and outcome(cluster, steps[-1]) == 0)


def hand_in(cluster: Cluster, steps: Sequence[Step], home: Path, arguments: tuple[str, ...], say: Say) -> Jobs:
    """Hand in all jobs; each waits for those before it. When one is not taken, none stays."""
    ids: list[list[str]] = []
    try:
        for step in steps:
            ids.append(cluster.submit(step, steps[: step.number], ids))
    except BaseException:
        if ids:
            cluster.end(roots(job for of_step in ids for job in of_step))
        raise
    jobs = Jobs(arguments=arguments, folder=cluster.folder.name, ids=tuple(tuple(of_step) for of_step in ids))
    atomic_write_json(home / JOBS_FILE, jobs.model_dump(mode="json"))
    for step, of_step in zip(steps, ids, strict=True):
        say(f"{step.name}: handed in as job {roots(of_step)[0]}")
    return jobs


def watch(
    cluster: Cluster, steps: Sequence[Step], jobs: Jobs, home: Path, say: Say, stop: threading.Event, from_end: bool
) -> int:
    """Wait for the jobs of all steps.

    Args:
        cluster: where they are.
        steps: what they are.
        jobs: their ids.
        home: holds jobs.json, which goes when no job is left.
        say: prints a line.
        stop: set when the user wants to go; the jobs go on.
        from_end: of what a job has printed, tell only what is new.

    Returns:
        0, or the status of a job that failed; see `Waiting.wait`.

    Raises:
        InterruptedRunError: `stop` was set; says how to watch the jobs, and how to end them.
        LostProcessError: a job ended without a word.
    """
    left, status = [list(of_step) for of_step in jobs.ids], 0
    try:
        for step, ids in zip(steps, jobs.ids, strict=True):
            status = Waiting(cluster, step, ids, say, from_end).wait(stop)
            del left[0]
            if status:
                break
    except InterruptedRunError:
        going = roots(job for ids in left for job in ids)
        raise InterruptedRunError(
            f"the jobs {', '.join(going)} go on",
            f"squeue --jobs={','.join(going)} shows them, scancel {' '.join(going)} ends them, and the same command "
            "waits for them again",
        ) from None
    except LostProcessError:
        _forget(cluster, left, home)
        raise
    _forget(cluster, left, home)
    return status


def _forget(cluster: Cluster, left: Sequence[Sequence[str]], home: Path) -> None:
    """End the jobs that waited for one that failed; afterwards none is left."""
    if left:
        cluster.end(roots(job for ids in left for job in ids))
    with contextlib.suppress(OSError):
        (home / JOBS_FILE).unlink()


def roots(ids: Iterable[str]) -> list[str]:
    """Ids of jobs and of whole arrays, each once."""
    return list(dict.fromkeys(job.partition("_")[0] for job in ids))
