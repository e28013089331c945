"""The prediction of what a run will cost on this machine: time, memory, disk."""

from __future__ import annotations

import shutil
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import torch

from gsegkit.context import SMOKE_SAMPLES, RunContext
from gsegkit.engine.choices import Choices, choose
from gsegkit.engine.devices import pick_device
from gsegkit.engine.pipeline import run
from gsegkit.engine.plan import Plan
from gsegkit.engine.rehearsal import Rehearsal
from gsegkit.engine.scaling import Load, Piece
from gsegkit.engine.selftrain import SHARD_SIZE
from gsegkit.engine.shards import ShardDataset
from gsegkit.engine.sources import open_part
from gsegkit.engine.synthesis import shard_size, synthesize
from gsegkit.interfaces import Generator, MaskExtractor
from gsegkit.parts import STATE_FILE
from gsegkit.plugins import Registry
from gsegkit.rundir import PHOTOGRAPHS_FILE, STAGE_FILE, split_round, stage_folders, stage_name
from gsegkit.storage import read_json

LABELLING, DATASET = stage_name("selftrain", 1), stage_name("dataset", 0)  # of the smoke run
PAGE_BYTES = 1 << 20  # about, of the page that is drawn in the end
PAIR_MEMORY = 64  # bytes: numbers of rows, orders of two epochs, places in tar files; pixels are read when needed
TIMED_SECONDS = 2.0  # about, of making pairs
TIMED_SHARDS = 4  # at most


@dataclass
class Estimate:
    """What a run is predicted to need.

    Attributes:
        seconds: stage name -> predicted seconds, in the order of the stages; loops whose length only the part knows
            count as in the smoke run.
        disk_bytes: size of the finished run folder, when the refiners keep all pairs.
        disk_peak_bytes: its largest size while the run works: checkpoints, the last and the one being written.
        files: in the finished run folder.
        ram_bytes: peak resident memory: that of the smoke run and of a whole shard, and a little for each pair.
        vram_bytes: peak memory on the CUDA device, 0 on the CPU.
        free_disk_bytes: free where the run folder would be.
        free_ram_bytes: available now.
        loads: stage name -> what of it several processes would divide, see `gsegkit.engine.workers`.
        own_disk_bytes: of `disk_peak_bytes`, what each process would keep for itself.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    disk_bytes: int = 0
    disk_peak_bytes: int = 0
    files: int = 0
    ram_bytes: int = 0
    vram_bytes: int = 0
    free_disk_bytes: int = 0
    free_ram_bytes: int = 0
    loads: dict[str, Load] = field(default_factory=dict)
    own_disk_bytes: int = 0

    @property
    def total_seconds(self) -> float:
        """Sum over the stages."""
        return sum(self.seconds.values())

    def record(self) -> dict[str, Any]:
        """JSON-ready, without the loads."""
        facts = {name: value for name, value in vars(self).items() if name != "loads"}
        return {**facts, "total_seconds": self.total_seconds}


def estimate(plan: Plan, registry: Registry, out: Path) -> Estimate:
    """Run the plan once in smoke mode in a temporary folder, time its loops, and scale them to their full length."""
    clock = Rehearsal()
    once = plan.selftrain.model_copy(update={"rounds": 1}) if plan.photos is not None and plan.selftrain else None
    choices = choose(plan.model_copy(update={"selftrain": once}), registry).with_plan(
        smoke=True, classes=None, rounds=1
    )
    if plan.device == "auto" or plan.device.startswith("cuda"):
        _reset_peak()
    with tempfile.TemporaryDirectory(prefix="gsegkit-plan-") as temporary:
        folder = clock.folder = Path(temporary) / "run"
        run(choices, folder, registry=registry, progress=clock, team=clock.tally)
        loads = {name: clock.load(name, spent) for name, spent in _stage_seconds(folder).items()}
        device = pick_device(plan.device)
        generator: Generator = open_part(folder, "generator", registry, device)
        extractor: MaskExtractor = open_part(folder, "extractor", registry, device)
        _divide_trainings(loads, choices, clock, folder)
        photographs = len(read_json(folder / PHOTOGRAPHS_FILE)) if LABELLING in loads else 0
        pairs = _timed_pairs(choices, generator, extractor, folder / "timed")
        disk_bytes = round(plan.rounds * pairs.bytes * plan.num_samples) + _other_bytes(folder, plan, photographs)
        checkpoints = _checkpoint_bytes(folder, clock)
        ram_bytes = _peak_ram() + PAIR_MEMORY * plan.num_samples + clock.ram_bytes
        loads["dataset"] = _in_shards(pairs.seconds * plan.num_samples, plan.num_samples, shard_size(plan.batch_size))
        if photographs:
            more = photographs / min(photographs, SMOKE_SAMPLES)
            loads[LABELLING] = _in_shards(loads[LABELLING].seconds * more, photographs)
        loads = {name: load.repeated(_times(name, plan)) for name, load in loads.items()}
        files = _files(folder, plan)
    parent = out
    while not parent.exists():
        parent = parent.parent
    return Estimate(
        seconds={name: load.seconds for name, load in loads.items()},
        disk_bytes=disk_bytes,
        disk_peak_bytes=disk_bytes + checkpoints + clock.disk_bytes,
        files=files,
        ram_bytes=ram_bytes,
        vram_bytes=torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0,
        free_disk_bytes=shutil.disk_usage(parent).free,
        free_ram_bytes=psutil.virtual_memory().available,
        loads=loads,
        own_disk_bytes=clock.disk_bytes,
    )


def _in_shards(seconds: float, count: int, size: int = SHARD_SIZE) -> Load:
    """Work that processes divide by shards of this size; they send each other nothing but counts."""
    return Load(0.0, [Piece(seconds, items=-(-count // size))])


def _divide_trainings(loads: dict[str, Load], choices: Choices, clock: Rehearsal, folder: Path) -> None:
    """Trainings that processes share: each takes its part of the batch, and gradients are summed in every step."""
    for name in loads:
        kind = split_round(name)[0]
        if kind not in ("generator", "segmenter"):
            continue
        choice = choices["gen" if kind == "generator" else "seg"]
        if choice.entry.target_class().divided:  # type: ignore[attr-defined]
            weights = (folder / name / STATE_FILE).stat().st_size  # as many bytes as their gradients, buffers apart
            batch = int(getattr(choice.config, "batch_size", 1))
            loads[name] = clock.training(name, loads[name], batch, weights)


def _stage_seconds(folder: Path) -> dict[str, float]:
    """Of every stage, in their order."""
    return {path.name: float(read_json(path / STAGE_FILE)["seconds"]) for path in stage_folders(folder)}


def _bytes_in(stage: Path) -> int:
    return sum(path.stat().st_size for path in stage.rglob("*") if path.is_file())


def _checkpoint_bytes(folder: Path, clock: Rehearsal) -> int:
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


def _files(folder: Path, plan: Plan) -> int:
    """Files of the real run's folder, from that of the smoke run: every shard has its record beside it."""
    own = sum(path.is_file() for path in folder.iterdir()) + 1  # and the page
    for stage in stage_folders(folder):
        more = 2 * (-(-plan.num_samples // shard_size(plan.batch_size)) - 1) if stage.name == DATASET else 0
        own += (sum(path.is_file() for path in stage.rglob("*")) + more) * _times(stage.name, plan)
    return own


def _times(stage: str, plan: Plan) -> int:
    """How often a stage of the smoke run, which has one round of each kind, is done in the real one."""
    name, round = split_round(stage)
    return 1 if name == "report" else plan.photo_rounds if round else plan.rounds


class _PerPair(NamedTuple):
    """What a candidate costs: seconds to make it, bytes on disk if it is kept."""

    seconds: float
    bytes: float


def _timed_pairs(choices: Choices, generator: Generator, extractor: MaskExtractor, folder: Path) -> _PerPair:
    """Make pairs through generator, extractor and disk for a while: at least one micro-batch, at best whole shards."""
    plan = choices.plan

    def made(name: str, count: int) -> tuple[float, ShardDataset]:
        ctx = RunContext(folder / name, generator.device, seed=plan.seed, batch_size=plan.batch_size)
        began = time.monotonic()
        dataset = synthesize(generator, extractor, choices.build_refiners(), count, ctx, format=plan.format)
        assert dataset is not None
        return time.monotonic() - began, dataset

    once, _ = made("once", plan.batch_size)  # the first one also warms up caches
    whole, batches = shard_size(plan.batch_size), int(TIMED_SECONDS / once)
    shards = min(batches * plan.batch_size // whole, TIMED_SHARDS)
    count = min(max(shards * whole, min(batches, whole // plan.batch_size) * plan.batch_size), plan.num_samples)
    seconds, dataset = made("more", count) if count > plan.batch_size else made("again", plan.batch_size)
    size = sum(path.stat().st_size for path in dataset.folder.glob("shard-*"))
    return _PerPair(seconds / dataset.counts["candidates"], size / len(dataset))


def _peak_ram() -> int:
    try:
        import resource
    except ImportError:  # not on this system: the present size stands in
        return int(psutil.Process().memory_info().rss)
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * 1024


def _reset_peak() -> None:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
