"""How fast this machine trains a generator: a few steps of the real thing, on a few of the photographs."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from gsegkit.config import build_config
from gsegkit.context import RunContext
from gsegkit.dataset import UnlabelledImages
from gsegkit.interfaces import TrainableGenerator
from gsegkit.parts import save_part
from gsegkit.plugins import Registry
from gsegkit.progress import Progress

PHOTOGRAPHS = 64  # that the probe trains on


class _Steps(Progress):
    """When each step of the last loop ended."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def start(self, task: str, total: int, done: int = 0, planned: int | None = None) -> None:
        self.times = [time.monotonic()]

    def advance(self, done: int, values: Mapping[str, float]) -> None:
        self.times.append(time.monotonic())

    def per_second(self) -> float:
        """Steps per second; the first third warms up caches and does not count."""
        first = len(self.times) // 3
        return (len(self.times) - 1 - first) / max(self.times[-1] - self.times[first], 1e-9)


def images_per_second(
    name: str,
    options: Mapping[str, Any],
    photographs: UnlabelledImages,
    folder: Path,
    registry: Registry,
    device: torch.device,
    stop: threading.Event,
    seconds: float,
) -> float:
    """Train for some seconds, and leave the generator in `folder`, where the rest of a run can be tried on it.

    Args:
        name: of a trainable generator.
        options: its options.
        photographs: at least two.
        folder: empty.
        registry: where the generator comes from.
        device: where it is trained.
        stop: ends the probe.
        seconds: that it may take, besides what it takes to begin.

    Returns:
        Images shown to the discriminator, or whatever learns from the photographs, per second.
    """
    entry = registry.find("generator", name)
    generator: TrainableGenerator = entry.build(build_config(entry.config_class(), options, "gen"))
    generator.scaling = photographs.scaling
    few = replace(photographs, paths=photographs.paths[:PHOTOGRAPHS])
    clock = _Steps()
    ctx = RunContext(folder, device, progress=clock, stop=stop, checkpoint_seconds=3600, time_limit=seconds)
    size = (generator.info.height, generator.info.width)
    generator.to(device).fit(few.fitted(size, generator.info.fit_rule), ctx)
    save_part(generator, folder, "generator", name)
    return clock.per_second() * int(getattr(generator.config, "batch_size", 1))
