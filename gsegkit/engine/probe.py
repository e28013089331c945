"""Checks that need torch (levels 2 and 3), and the prediction of what a run will cost on this machine."""

from __future__ import annotations

import json
import shutil
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import torch

from gsegkit.api import Session, synthesize
from gsegkit.context import RunContext
from gsegkit.engine.devices import pick_device
from gsegkit.engine.pipeline import run
from gsegkit.engine.plan import Plan
from gsegkit.engine.preflight import Problem, check
from gsegkit.engine.sources import open_images, open_test_set
from gsegkit.errors import GsegkitError
from gsegkit.interfaces import Generator, MaskExtractor
from gsegkit.plugins import Registry
from gsegkit.progress import Progress

PROBE_SAMPLES = 2


def probe(plan: Plan, registry: Registry, out: Path | None = None) -> list[Problem]:
    """Levels 0 to 3: after the light checks, build every part, send 2 samples through, open the first test pair."""
    problems = check(plan, registry, out)
    if problems:
        return problems
    try:
        device = pick_device(plan.device)
    except GsegkitError as error:
        return [Problem("device", error.message, error.hint)]
    parts: dict[str, Any] = {}
    for where, kind, spec in plan.parts():
        try:
            entry = registry.find(kind, spec.name)
            part = entry.build(plan.config_of(entry, spec, where))
            parts[where] = part.to(device) if isinstance(part, torch.nn.Module) else part
        except GsegkitError as error:
            problems.append(Problem(where, error.message, error.hint))
    if problems:
        return problems
    return _probe_samples(parts["gen"], parts["extractor"], device) + _probe_data(plan, registry, parts["gen"])


def _probe_samples(generator: Generator, extractor: MaskExtractor, device: torch.device) -> list[Problem]:
    ctx = RunContext(Path(), device)
    try:
        batch = generator.sample(ctx.seeds("preview", PROBE_SAMPLES), features=extractor.features(generator.info))
    except GsegkitError as error:
        return [Problem("gen", error.message, error.hint)]
    want = (PROBE_SAMPLES, 3, generator.info.height, generator.info.width)
    if tuple(batch.images.shape) != want:
        return [Problem("gen", f"made images of shape {list(batch.images.shape)}, its info says {list(want)}")]
    if not bool(torch.isfinite(batch.images).all()):
        return [Problem("gen", "made images with NaN or infinity", "its weights are damaged or do not fit")]
    return []


def _probe_data(plan: Plan, registry: Registry, generator: Generator) -> list[Problem]:
    problems = []
    try:
        images = open_images(plan, registry, generator)
        if images is not None:
            _ = images[0]
    except GsegkitError as error:
        problems.append(Problem("images", error.message, error.hint))
    try:
        test_set = open_test_set(plan, registry)
        if test_set is not None:
            _ = test_set[0]
    except GsegkitError as error:
        problems.append(Problem("data", error.message, error.hint))
    return problems


# ---- prediction of cost --------------------------------------------------------------------------------------------


@dataclass
class Estimate:
    """What a run is predicted to need.

    Attributes:
        seconds: stage name -> predicted seconds; loops whose length only the part knows count as in the smoke run.
        disk_bytes: pairs, at the generator's size.
        ram_bytes: peak resident memory of this process during the smoke run.
        vram_bytes: peak memory on the CUDA device, 0 on the CPU.
        free_disk_bytes: free where the run folder would be.
        free_ram_bytes: available now.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    disk_bytes: int = 0
    ram_bytes: int = 0
    vram_bytes: int = 0
    free_disk_bytes: int = 0
    free_ram_bytes: int = 0

    @property
    def total_seconds(self) -> float:
        """Sum over the stages."""
        return sum(self.seconds.values())


def estimate(plan: Plan, registry: Registry, out: Path) -> Estimate:
    """Run the plan once in smoke mode in a temporary folder, time its loops, and scale them to their full length."""
    clock = _Clock()
    if plan.device == "auto" or plan.device.startswith("cuda"):
        _reset_peak()
    with tempfile.TemporaryDirectory(prefix="gsegkit-plan-") as folder:
        run(
            plan.model_copy(update={"smoke": True, "classes": None}),
            Path(folder) / "run",
            registry=registry,
            progress=clock,
        )
        generator: Generator = registry.build("generator", plan.gen.name, plan.gen.options)
        info = generator.info
        stages = _stage_seconds(Path(folder) / "run")
        seconds = _scale(stages, clock, plan)
        seconds["dataset"] = _dataset_seconds(plan, registry, Path(folder) / "run")
    parent = out
    while not parent.exists():
        parent = parent.parent
    return Estimate(
        seconds=seconds,
        disk_bytes=plan.num_samples * plan.rounds * info.height * info.width * 4,
        ram_bytes=_peak_ram(),
        vram_bytes=torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0,
        free_disk_bytes=shutil.disk_usage(parent).free,
        free_ram_bytes=psutil.virtual_memory().available,
    )


class _Clock(Progress):
    """Measures seconds per step of every loop, and remembers how long the loop would really be."""

    def __init__(self) -> None:
        self.loops: list[tuple[str, int, int, float]] = []  # name, steps done, steps planned, seconds
        self._began = 0.0
        self._first = 0.0
        self._name = ""
        self._planned = 0
        self._done = 0

    def start(self, task: str, total: int, done: int = 0, planned: int | None = None) -> None:
        self._name, self._planned, self._done = task, planned or total, 0
        self._began = self._first = time.monotonic()

    def advance(self, done: int, values: Mapping[str, float]) -> None:
        if self._done == 0:
            self._first = time.monotonic()  # the first step warms up caches; it does not count
        self._done += 1

    def finish(self) -> None:
        counted = max(self._done - 1, 1)
        began = self._first if self._done > 1 else self._began
        self.loops.append((self._name, counted, self._planned, time.monotonic() - began))


def _stage_seconds(folder: Path) -> dict[str, float]:
    found = {}
    for path in folder.glob("*/stage.json"):
        found[path.parent.name] = float(json.loads(path.read_bytes())["seconds"])
    return found


def _scale(stages: dict[str, float], clock: _Clock, plan: Plan) -> dict[str, float]:
    """Add to each stage what its loops would take at full length; a loop is named `stage: loop`."""
    seconds = dict(stages)
    for name, steps, planned, spent in clock.loops:
        stage = name.partition(":")[0]
        if stage in seconds:
            seconds[stage] += max(planned - steps, 0) * spent / steps
    return {name: value * (plan.rounds if name != "report" else 1) for name, value in seconds.items()}


def _dataset_seconds(plan: Plan, registry: Registry, folder: Path) -> float:
    """Time one whole micro-batch through generator, extractor and disk; the rest are like it."""
    session = Session(registry, Progress(), threading.Event())
    began = time.monotonic()
    synthesize(folder, folder / "timed", plan.batch_size, device=plan.device, session=session)
    return (time.monotonic() - began) * -(-plan.num_samples // plan.batch_size) * plan.rounds


def _peak_ram() -> int:
    try:
        import resource
    except ImportError:  # not on this system: the present size stands in
        return int(psutil.Process().memory_info().rss)
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * 1024


def _reset_peak() -> None:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
