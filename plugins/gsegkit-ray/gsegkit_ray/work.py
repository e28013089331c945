"""What a Ray worker does with a job: a process of its own, which ends with the worker. Imports no torch."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ray

from gsegkit.distributed.launched import Launched
from gsegkit.launching import Job
from gsegkit.launching.process import Process, environment, free_port, together

EXCHANGE = 0.5  # seconds between two looks at the desk
OWN_STATUSES = (0, 1, 2, 130, 141)  # that a process of gsegkit ends with by itself; others mean that it was killed


class KilledError(Exception):
    """The process of a job was killed: Ray shall start the job again."""


@dataclass(frozen=True)
class Setting:
    """What all workers of a run need to know beside their job.

    Attributes:
        desk: handle of the run's desk.
        threads: of a process.
        environment: variables that are set for a process, beside those of the worker.
    """

    desk: Any
    threads: int
    environment: Mapping[str, str]


def carry_out(job: Job, setting: Setting, place: Launched | None = None, prefix: str = "") -> int:
    """Carry out a job, or one process of it, and hand on what it says.

    Returns:
        The exit status that it chose itself.

    Raises:
        KilledError: it was killed.
    """
    if place is None or place.rank == 0:
        again = ray.get(setting.desk.begin.remote(job.name))
        if again > 1:
            line = f"warning: {job.name}: a worker was lost; it is replaced, and goes on from what is finished"
            ray.get(setting.desk.exchange.remote([line]))
    base = environment(place, setting.threads, {**os.environ, **setting.environment})
    lines: list[str] = []
    stop, over = threading.Event(), threading.Event()
    process = Process(job, base, lambda line: lines.append(prefix + line))
    messenger = threading.Thread(target=_exchange, args=(setting.desk, lines, stop, over), daemon=True)
    messenger.start()
    try:
        status = together([process], stop)
    finally:
        over.set()
        messenger.join(timeout=10)
    if status not in OWN_STATUSES:
        raise KilledError(f"{job.name}: the process was killed (status {status})")
    return status


def train(given: dict[str, Any]) -> None:
    """One process of a job that several carry out: the loop that ray.train starts in each worker."""
    from ray.train import get_context
    from ray.train.collective import broadcast_from_rank_zero

    job, setting, here = given["job"], given["setting"], get_context()
    rank, size = here.get_world_rank(), here.get_world_size()
    meeting = broadcast_from_rank_zero([ray.util.get_node_ip_address(), free_port()] if rank == 0 else None)
    place = Launched(rank, size, here.get_local_rank(), *meeting) if size > 1 else None
    status = carry_out(job, setting, place)
    ray.get(setting.desk.ended.remote(rank, status))


def _exchange(desk: Any, lines: list[str], stop: threading.Event, over: threading.Event) -> None:
    """Bring lines to the desk, and the wish to stop back; without a desk nobody waits for the job."""
    last = False
    while not last:
        last = over.wait(EXCHANGE)
        taken = lines[:]
        del lines[: len(taken)]
        try:
            if ray.get(desk.exchange.remote(taken)):
                stop.set()
        except ray.exceptions.RayError:
            stop.set()
            return
