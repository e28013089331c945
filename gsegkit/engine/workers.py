"""The prediction for several processes: time, memory and disk, from the estimate of one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch

from gsegkit.engine.estimate import Estimate
from gsegkit.engine.plan import Plan
from gsegkit.engine.scaling import LOOPBACK, NETWORK, NVLINK, Link, StageTime, Workers, bottleneck, predict
from gsegkit.errors import ConfigError

GPUS = 8  # of a machine, where this one has none to count
THREADS = "OMP_NUM_THREADS"  # torchrun sets it to 1 where it is not set


@dataclass(frozen=True)
class Together:
    """What a run in several processes is predicted to need.

    Attributes:
        workers: the processes.
        stages: stage name -> its time.
        ram_bytes: of a process; machine_ram_bytes: of the processes of a machine, which share the pairs.
        vram_bytes: of a GPU, 0 on the CPU.
        disk_peak_bytes: of the run folder, which all share.
    """

    workers: Workers
    stages: dict[str, StageTime]
    ram_bytes: int
    machine_ram_bytes: int
    vram_bytes: int
    disk_peak_bytes: int

    @property
    def seconds(self) -> float:
        """Sum over the stages."""
        return sum(stage.seconds for stage in self.stages.values())

    @property
    def bottleneck(self) -> str:
        """The stage that takes longest."""
        return bottleneck(self.stages)

    def record(self) -> dict[str, Any]:
        """JSON-ready."""
        return {**asdict(self), "total_seconds": self.seconds, "bottleneck": self.bottleneck}


def predicted(found: Estimate, workers: Workers) -> Together:
    """From what one process would need to what several need together."""
    here = min(workers.size, workers.per_machine)
    return Together(
        workers,
        predict(found.loads, workers),
        ram_bytes=found.ram_bytes,
        machine_ram_bytes=here * found.ram_bytes,
        vram_bytes=found.vram_bytes,
        disk_peak_bytes=found.disk_peak_bytes + (workers.size - 1) * found.own_disk_bytes,
    )


def measured_here(plan: Plan) -> Plan:
    """The plan as it can be tried on this machine: on the CPU where it asks for a GPU and there is none."""
    missing = plan.device.startswith("cuda") and not torch.cuda.is_available()
    return plan.model_copy(update={"device": "cpu"}) if missing else plan


def started(
    size: int,
    device: str,
    per_machine: int | None = None,
    *,
    gigabytes: float | None = None,
    microseconds: float | None = None,
    speed: float | None = None,
) -> Workers:
    """The processes that a launcher would start.

    Args:
        size: how many.
        device: of the plan.
        per_machine: how many of them on a machine; None = on GPUs as many as it has, else all on this one.
        gigabytes: that pass between two of them in a second; None = what is usual within and between machines.
        microseconds: that a message takes; None = likewise.
        speed: of each, in units of this process; None = as fast.

    Raises:
        ConfigError: for GPUs where there is none, and it was not said how fast they are.
    """
    cuda = _is_cuda(device)
    if cuda and not torch.cuda.is_available() and speed is None:
        raise ConfigError(
            "there is no CUDA device here, so how fast one is cannot be measured",
            "say how many times as fast as this machine's CPU it is, for example --speed 50; or use --device cpu",
        )
    each = per_machine or (min(size, torch.cuda.device_count() or GPUS) if cuda else size)
    usual = (NETWORK if size > each else NVLINK) if cuda else LOOPBACK
    link = Link(
        latency=usual.latency if microseconds is None else microseconds * 1e-6,
        bandwidth=usual.bandwidth if gigabytes is None else gigabytes * 1e9,
        pipelined=usual.pipelined,
    )
    crowd = 1.0 if cuda else max(1.0, min(size, each) * threads_each() / (os.cpu_count() or 1))
    return Workers(size, link, each, speed or 1.0, crowd)


def threads_each() -> int:
    """Threads of a process that torchrun starts."""
    text = os.environ.get(THREADS, "")
    return int(text) if text.isascii() and text.isdigit() and 0 < int(text) < 10_000 else 1


@contextlib.contextmanager
def threads_of_workers(device: str) -> Iterator[None]:
    """Around the measurement: with the threads that each of several processes would have on the CPU."""
    before = torch.get_num_threads()
    if not _is_cuda(device):
        torch.set_num_threads(threads_each())
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _is_cuda(device: str) -> bool:
    return device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
