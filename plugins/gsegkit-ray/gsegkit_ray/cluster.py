"""A Ray cluster while a run needs it: started here and ended with the run, or one that runs already."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import signal
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import ray

from gsegkit.errors import ConfigError, GsegkitError
from gsegkit.launching import Request
from gsegkit.launching.launcher import Say
from gsegkit_ray.config import RayConfig

LOCAL = "local"
HERE = "127.0.0.1"  # then Ray listens there alone
REACHED_AFTER = 10.0  # seconds that a machine of the cluster may take to answer


@dataclass(frozen=True)
class Room:
    """What a run takes of the cluster.

    Attributes:
        workers: number of processes.
        cpus, gpus: of each.
    """

    workers: int
    cpus: float
    gpus: float


@contextlib.contextmanager
def cluster(config: RayConfig, request: Request, say: Say) -> Iterator[Room]:
    """Connect to the cluster, or start one; afterwards it is left, or ended, as it was found.

    Raises:
        GsegkitError: there is none, or it cannot be started.
        ConfigError: the run wants GPUs, and it has none.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else it tells what this means in a long warning
    handlers = _handlers()
    try:
        _connect(config, request)
        _restore(handlers)  # Ray's own would end the command before the workers have saved
        room = _room(config, request)
        _tell_if_small(room, say)
        yield room
    finally:
        ray.shutdown()
        _restore(handlers)


def _connect(config: RayConfig, request: Request) -> None:
    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False, "namespace": "gsegkit"}
    if config.address != LOCAL:
        try:
            _check_there(config.address)
            ray.init(address=config.address, **options)
        except (OSError, ValueError, OverflowError, RuntimeError) as error:
            raise GsegkitError(
                f"there is no Ray cluster at '{config.address}': {_line(error)}",
                "start one with `ray start --head`, or omit -o launcher.address",
            ) from None
        return
    cpus = max(os.cpu_count() or 1, math.ceil((request.workers or 1) * config.cpus_per_worker))
    try:
        ray.init(
            address=LOCAL,
            num_cpus=cpus,
            include_dashboard=config.dashboard,
            dashboard_host=HERE,
            _node_ip_address=HERE,
            **options,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise GsegkitError(
            f"Ray could not be started on this machine: {_line(error)}", "--launcher local needs no Ray"
        ) from None


def _check_there(address: str) -> None:
    """OSError unless somebody answers at host:port, for which Ray itself would wait long."""
    host, colon, port = address.rpartition(":")
    if colon:
        socket.create_connection((host.strip("[]"), int(port)), timeout=REACHED_AFTER).close()


def _room(config: RayConfig, request: Request) -> Room:
    there = int(ray.cluster_resources().get("GPU", 0))
    wanted = request.device == "auto" or request.device.startswith("cuda")
    if config.gpus_per_worker is not None:
        gpus = config.gpus_per_worker
    else:
        gpus = 1.0 if there and wanted else 0.0
    if request.device.startswith("cuda") and not (there and gpus):
        raise ConfigError(f"--device {request.device} was given, and the cluster has no GPU for it", "omit --device")
    workers = request.workers or (int(there / gpus) if gpus else 1)
    return Room(max(workers, 1), config.cpus_per_worker, gpus)


def _tell_if_small(room: Room, say: Say) -> None:
    there = ray.cluster_resources()
    for name, each in (("CPU", room.cpus), ("GPU", room.gpus)):
        have, need = there.get(name, 0), room.workers * each
        if need > have:
            say(
                f"warning: {room.workers} workers need {need:g} {name}s and the cluster has {have:g}: "
                "they wait until it grows; Ctrl-C twice ends the waiting"
            )


def _handlers() -> dict[int, object]:
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}


def _restore(handlers: dict[int, object]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)  # type: ignore[arg-type]


def _line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200]
