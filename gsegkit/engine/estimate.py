"""The prediction of what a run will cost on this machine: time, memory, disk."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import torch

from gsegkit.context import SMOKE_SAMPLES, RunContext
from gsegkit.engine.choices import Choices, choose
from gsegkit.engine.devices import pick_device
from gsegkit.engine.pipeline import run
from gsegkit.engine.plan import Plan
from gsegkit.engine.sources import open_part
from gsegkit.engine.synthesis import BYTES_PER_PIXEL, synthesize
from gsegkit.interfaces import Generator, MaskExtractor
from gsegkit.plugins import Registry
from gsegkit.progress import Progress
from gsegkit.rundir import CHECKPOINT_FILE, PHOTOGRAPHS_FILE, STAGE_FILE, split_round, stage_folders, stage_name
from gsegkit.storage import read_json

LABELLING = stage_name("selftrain", 1)  # of the smoke run
PAGE_BYTES = 1 << 20  # about, of the page that is drawn in the end


@dataclass
class Estimate:
    """What a run is predicted to need.

    Attributes:
        seconds: stage name -> predicted seconds, in the order of the stages; loops whose length only the part knows
            count as in the smoke run.
        disk_bytes: size of the finished run folder, when the refiners keep all pairs.
        disk_peak_bytes: its largest size while the run works: checkpoints, the last and the one being written.
        ram_bytes: peak resident memory: that of the smoke run, and the pairs, which are mapped into memory.
        vram_bytes: peak memory on the CUDA device, 0 on the CPU.
        free_disk_bytes: free where the run folder would be.
        free_ram_bytes: available now.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    disk_bytes: int = 0
    disk_peak_bytes: int = 0
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
    once = plan.selftrain.model_copy(update={"rounds": 1}) if plan.photos is not None and plan.selftrain else None
    choices = choose(plan.model_copy(update={"selftrain": once}), registry).with_plan(
        smoke=True, classes=None, rounds=1
    )
    if plan.device == "auto" or plan.device.startswith("cuda"):
        _reset_peak()
    with tempfile.TemporaryDirectory(prefix="gsegkit-plan-") as temporary:
        folder = clock.folder = Path(temporary) / "run"
        run(choices, folder, registry=registry, progress=clock)
        seconds = _scale(_stage_seconds(folder), clock, plan)
        device = pick_device(plan.device)
        generator: Generator = open_part(folder, "generator", registry, device)
        extractor: MaskExtractor = open_part(folder, "extractor", registry, device)
        pairs_bytes = plan.num_samples * generator.info.height * generator.info.width * BYTES_PER_PIXEL
        photographs = len(read_json(folder / PHOTOGRAPHS_FILE)) if LABELLING in seconds else 0
        disk_bytes = plan.rounds * pairs_bytes + _other_bytes(folder, plan, photographs)
        checkpoints = _checkpoint_bytes(folder, clock)
        ram_bytes = _peak_ram() + pairs_bytes
        spent = _batch_seconds(choices, generator, extractor, folder / "timed")
        seconds["dataset"] = spent * -(-plan.num_samples // plan.batch_size) * plan.rounds
        if photographs:
            seconds[LABELLING] *= photographs / min(photographs, SMOKE_SAMPLES)
    parent = out
    while not parent.exists():
        parent = parent.parent
    return Estimate(
        seconds=seconds,
        disk_bytes=disk_bytes,
        disk_peak_bytes=disk_bytes + checkpoints,
        ram_bytes=ram_bytes,
        vram_bytes=torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0,
        free_disk_bytes=shutil.disk_usage(parent).free,
        free_ram_bytes=psutil.virtual_memory().available,
    )


class _Clock(Progress):
    """Measures seconds per step of every loop and its checkpoint, and remembers how long the loop would really be."""

    def __init__(self) -> None:
        self.folder: Path | None = None  # of the run
        self.checkpoints: dict[str, int] = {}  # stage -> bytes, of the largest
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
        for path in self.folder.glob(f"*/{CHECKPOINT_FILE}") if self.folder is not None else ():
            self.checkpoints[path.parent.name] = max(self.checkpoints.get(path.parent.name, 0), path.stat().st_size)


def _stage_seconds(folder: Path) -> dict[str, float]:
    """Of every stage, in their order."""
    return {path.name: float(read_json(path / STAGE_FILE)["seconds"]) for path in stage_folders(folder)}


def _bytes_in(stage: Path) -> int:
    return sum(path.stat().st_size for path in stage.rglob("*") if path.is_file())


def _checkpoint_bytes(folder: Path, clock: _Clock) -> int:
    """What checkpoints take more than the stage that they end in; a new one is written before the old one goes."""
    return max((2 * size - _bytes_in(folder / stage) for stage, size in clock.checkpoints.items()), default=0)


def _other_bytes(folder: Path, plan: Plan, photographs: int) -> int:
    """Size of the real run's folder without its synthetic pairs, from that of the smoke run."""
    total = PAGE_BYTES + sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    for stage in stage_folders(folder):
        if split_round(stage.name)[0] != "dataset":
            more = photographs / min(photographs, SMOKE_SAMPLES) if photographs and stage.name == LABELLING else 1
            total += round(_bytes_in(stage) * more) * _times(stage.name, plan)
    return total


def _scale(stages: dict[str, float], clock: _Clock, plan: Plan) -> dict[str, float]:
    """Add to each stage what its loops would take at full length; a loop is named `stage: loop`."""
    seconds = dict(stages)
    for name, steps, planned, spent in clock.loops:
        stage = name.partition(":")[0]
        if stage in seconds:
            seconds[stage] += max(planned - steps, 0) * spent / steps
    return {name: value * _times(name, plan) for name, value in seconds.items()}


def _times(stage: str, plan: Plan) -> int:
    """How often a stage of the smoke run, which has one round of each kind, is done in the real one."""
    name, round = split_round(stage)
    return 1 if name == "report" else plan.photo_rounds if round else plan.rounds


def _batch_seconds(choices: Choices, generator: Generator, extractor: MaskExtractor, folder: Path) -> float:
    """Time one whole micro-batch through generator, extractor and disk; the rest are like it."""
    plan = choices.plan
    ctx = RunContext(folder, generator.device, seed=plan.seed, batch_size=plan.batch_size)
    began = time.monotonic()
    synthesize(generator, extractor, choices.build_refiners(), plan.batch_size, ctx)
    return time.monotonic() - began


def _peak_ram() -> int:
    try:
        import resource
    except ImportError:  # not on this system: the present size stands in
        return int(psutil.Process().memory_info().rss)
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * 1024


def _reset_peak() -> None:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
