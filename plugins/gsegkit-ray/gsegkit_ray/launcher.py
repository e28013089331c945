"""The launcher `ray`: steps that need all workers run under ray.train, the pairs as Ray tasks."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError
from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError

from gsegkit.errors import GsegkitError, InterruptedRunError
from gsegkit.launching import Job, Launcher, Request
from gsegkit.launching.launcher import Say
from gsegkit.storage import storage_errors, temporary_beside
from gsegkit_ray.cluster import Room, cluster
from gsegkit_ray.config import RayConfig
from gsegkit_ray.copy import Copy
from gsegkit_ray.desk import open_desk
from gsegkit_ray.work import EXCHANGE, KilledError, Setting, carry_out, train

SHARES = 2  # tasks of a worker: one that is lost takes less with it
HANDED_ON = ("GSEGKIT_", "HF_", "TORCH_HOME")  # variables of the user's that the processes need


class Ray(Launcher):
    """Carries out a run on a Ray cluster.

    Whoever is lost is replaced: Ray starts a task again, and ray.train all processes of a step, which go on from
    finished shards and the last checkpoint in the run folder.
    """

    config: RayConfig

    def launch(self, request: Request, say: Say, stop: threading.Event) -> int:
        """See `Launcher.launch`."""
        copy = Copy.checked(self.config.copy_to) if self.config.copy_to is not None else None
        with cluster(self.config, request, say) as room:
            steps = Steps(self.config, room, request, say, stop)
            for jobs in request.pieces(room.workers, self.config.shares or SHARES * room.workers):
                status = steps.tasks(jobs) if len(jobs) > 1 else steps.group(jobs[0])
                if status:
                    return status
        if copy is not None:
            copy.take(request.out)
            say(f"copied to {self.config.copy_to}")
        return 0


class Steps:
    """The steps of one run, carried out one after the other.

    Args:
        config: of the launcher.
        room: what they may take.
        request: the run.
        say, stop: see `Launcher.launch`.
    """

    def __init__(self, config: RayConfig, room: Room, request: Request, say: Say, stop: threading.Event) -> None:
        self.config, self.room, self.request, self.say, self.stop = config, room, request, say, stop
        self.desk = open_desk()
        own = {name: value for name, value in os.environ.items() if name.startswith(HANDED_ON)}
        threads = config.threads or int(os.environ.get("OMP_NUM_THREADS") or max(1, int(room.cpus)))
        self.setting = Setting(self.desk, threads, own)

    def group(self, job: Job) -> int:
        """Carry out a job whose processes need each other; returns its status."""
        with self._storage() as storage:
            trainer = self._trainer(job, storage)
            failures: list[Exception] = []
            thread = threading.Thread(target=_caught(trainer.fit, failures), daemon=True)
            thread.start()  # in the main thread it would take Ctrl-C away from us
            while thread.is_alive():
                thread.join(EXCHANGE)
                self._attend()
            self._attend()
        if failures:
            raise self._lost(job, failures[0])
        return int(ray.get(self.desk.status.remote()))

    def tasks(self, jobs: list[Job]) -> int:
        """Carry out jobs that need nobody, as many at a time as there are workers; returns the first bad status."""
        task: Any = ray.remote(carry_out)  # its own types have three arguments at most
        waiting, working, status = list(jobs), dict[Any, Job](), 0
        while working or (waiting and not status and not self.stop.is_set()):
            while waiting and len(working) < self.room.workers and not status and not self.stop.is_set():
                job = waiting.pop(0)
                named = task.options(
                    name=f"gsegkit {job.name}", num_cpus=self.room.cpus, num_gpus=self.room.gpus,
                    max_retries=self.config.retries, retry_exceptions=[KilledError], scheduling_strategy="SPREAD",
                )  # fmt: skip
                working[named.remote(job, self.setting, None, f"{job.name}: ")] = job
            done, _ = ray.wait(list(working), timeout=EXCHANGE)
            self._attend()
            for reference in done:
                job = working.pop(reference)
                try:
                    status = status or int(ray.get(reference))
                except RayError as error:
                    self._ask_to_stop()
                    raise self._lost(job, error) from None
            if status:
                self._ask_to_stop()
        if waiting and not status:
            raise InterruptedRunError("stopped", "run the same command again to continue from here")
        return status

    # ---- inside ----------------------------------------------------------------------------------------------------

    def _trainer(self, job: Job, storage: Path) -> Any:
        from ray.train.torch import TorchConfig, TorchTrainer

        resources = {"CPU": self.room.cpus, **({"GPU": self.room.gpus} if self.room.gpus else {})}
        return TorchTrainer(
            train,
            train_loop_config={"job": job, "setting": self.setting},
            torch_config=TorchConfig(
                backend="gloo"
            ),  # of the workers; the processes that they start meet by themselves
            scaling_config=ScalingConfig(
                num_workers=job.processes, use_gpu=self.room.gpus > 0, resources_per_worker=resources
            ),
            run_config=RunConfig(
                name=job.name.replace(" ", "-"),
                storage_path=str(storage),
                failure_config=FailureConfig(max_failures=self.config.retries),
            ),
        )

    @contextmanager
    def _storage(self) -> Iterator[Path]:
        """A folder inside the run's for what ray.train notes; it is removed again."""
        folder = temporary_beside(self.request.out / "ray")
        with storage_errors(folder):
            folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _attend(self) -> None:
        """Print what the workers said, and tell them when the user wants to stop."""
        for line in ray.get(self.desk.taken.remote()):
            self.say(line)
        if self.stop.is_set():
            self._ask_to_stop()

    def _ask_to_stop(self) -> None:
        ray.get(self.desk.stop.remote())

    def _lost(self, job: Job, error: Exception) -> GsegkitError:
        if not isinstance(error, RayError | TrainingFailedError):
            raise error
        self._attend()
        return GsegkitError(
            f"{job.name}: its workers were lost {self.config.retries + 1} times ({_reason(error)})",
            "see Ray's logs for why, then run the same command again: finished work is kept",
        )


def _caught(work: Callable[[], Any], failures: list[Exception]) -> Callable[[], None]:
    def run() -> None:
        try:
            work()
        except Exception as error:
            failures.append(error)

    return run


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return lines[-1][:200]
