"""Data sets of many pairs: memory, time, files and bytes as their number grows, beside what `gsegkit plan` predicts."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from gsegkit_smp.loader import Loader, split

from benchmarks.protocols.common import Lab, say
from gsegkit.context import RunContext
from gsegkit.engine.estimate import estimate
from gsegkit.engine.pipeline import run as carry_out
from gsegkit.engine.plan import PAIR_FORMATS, Plan
from gsegkit.engine.shards import Manifest, ShardDataset, shard_path
from gsegkit.engine.synthesis import synthesize
from gsegkit.plugins import installed
from gsegkit.progress import Progress
from gsegkit.rundir import STAGE_FILE
from gsegkit.storage import atomic_write_json, read_json
from gsegkit.training import EpochOrder

BATCH = 32  # pairs of a training step
VAL_FRACTION, VAL_MAX = 0.05, 500  # as a segmenter splits
READ = 10_000  # pairs that are read of the simulated data set: of nearly all its shards


def many(
    lab: Lab, counts: list[int], size: int = 32, steps: int = 100, simulated: int = 1_000_000, simulated_size: int = 128
) -> dict[str, Any]:
    """Whole runs on the toy with more and more pairs, each in its own process; and a larger data set, opened.

    Args:
        lab: see `Lab`; the first seed is used.
        counts: candidates.
        size: of the pictures, in pixels.
        steps: of the segmenter.
        simulated: pairs whose records and shards are there, each shard another name of the same file.
        simulated_size: of their pictures.
    """
    if lab.tiny:
        counts, size, steps, simulated, simulated_size = [40], 16, 2, 2 * 256 + 8, 16
    rows, large = [], []
    for count in counts:
        for format in PAIR_FORMATS:
            rows.append(_once(lab, f"row-{format}-{count}", _row, format, count, size, steps))
    for format in PAIR_FORMATS:
        large.append(_once(lab, f"large-{format}", _large, format, simulated, simulated_size, steps))
    return {"size": size, "steps": steps, "batch": BATCH, "rows": rows, "large": large, "growth": _growth(rows)}


def _once(
    lab: Lab, name: str, measure: Callable[..., dict[str, Any]], format: str, count: int, size: int, steps: int
) -> dict[str, Any]:
    """A row, kept in the work folder."""
    path = lab.work / f"{name}.json"
    if not path.exists():
        options = {"format": format, "count": count, "size": size, "steps": steps}
        found = {"format": format, "pairs": count, **lab.process("pairs.predicted", **options)}
        atomic_write_json(path, found | measure(lab, options))
    say(f"{name}: {read_json(path)}")
    return dict(read_json(path))


def _row(lab: Lab, options: dict[str, Any]) -> dict[str, Any]:
    name = _name(options["format"], options["count"])
    found = lab.process("pairs.measured", **options) | {"epoch": lab.process("pairs.epoch", run=name)}
    shutil.rmtree(lab.work / name)
    return found


def _large(lab: Lab, options: dict[str, Any]) -> dict[str, Any]:
    return {"size": options["size"], **lab.process("pairs.opened", **options)}


def predicted(lab: Lab, format: str, count: int, size: int, steps: int) -> dict[str, Any]:
    """What `gsegkit plan` says. The CPU seconds are its seconds times the share of a CPU that it had making pairs."""
    share = 1.0

    def watched(*args: Any, **options: Any) -> ShardDataset | None:
        nonlocal share
        began, cpu = time.monotonic(), time.process_time()
        made = synthesize(*args, **options)
        share = (time.process_time() - cpu) / (time.monotonic() - began)
        return made

    with mock.patch("gsegkit.engine.estimate.synthesize", watched):
        found = estimate(_plan(lab, format, count, size, steps), installed(), lab.work / _name(format, count))
    seconds = found.seconds["dataset"]
    return {
        "predicted": {
            "seconds": round(seconds, 1), "cpu_seconds": round(share * seconds, 1), "peak_mb": found.ram_bytes >> 20,
            "bytes": found.disk_bytes, "files": found.files,
        }
    }  # fmt: skip


def measured(lab: Lab, format: str, count: int, size: int, steps: int) -> dict[str, Any]:
    """What the run takes: seconds and memory of making the pairs and of the training, bytes and files in the end."""
    heard, folder = _Peaks(), lab.work / _name(format, count)
    carry_out(_plan(lab, format, count, size, steps), folder, progress=heard)
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {
        "seconds": read_json(folder / "dataset" / STAGE_FILE)["seconds"], "cpu_seconds": heard.cpu_seconds,
        "peak_mb": heard.peaks,
        "bytes": sum(path.stat().st_size for path in files), "files": len(files),
    }  # fmt: skip


def epoch(lab: Lab, run: str) -> dict[str, Any]:
    """One epoch of a run's pairs as the segmenter reads them, without a network."""
    before = _peak_mb()
    dataset = ShardDataset(lab.work / run / "dataset")
    train, _ = split(dataset, VAL_FRACTION, VAL_MAX, lab.seeds[0])
    began = time.process_time()
    with Loader(train, BATCH, lab.seeds[0]) as loader:
        for step in range(len(train) // loader.batch_size):
            loader.batch(step)
    spent = time.process_time() - began
    return {"cpu_us_a_pair": round(spent / len(train) * 1e6, 1), "peak_mb": _peak_mb(), "before_mb": before}


def opened(lab: Lab, format: str, count: int, size: int, steps: int) -> dict[str, Any]:
    """Seconds until a data set of many pairs can be read, with and without reading every byte; and the memory then."""
    plan = _plan(lab, format, count, size, steps)
    folder = lab.work / f"simulated-{format}"
    if not folder.exists():
        _simulate(plan, folder)
    before, seconds, cpu = _peak_mb(), dict[str, float](), dict[str, float]()

    @contextmanager
    def timed(name: str) -> Iterator[None]:
        began, spent = time.perf_counter(), time.process_time()
        yield
        seconds[name] = round(time.perf_counter() - began, 2)
        cpu[name] = round(time.process_time() - spent, 2)

    with timed("records"):
        dataset = ShardDataset(folder, verify=False)
    with timed("order"):
        train, _ = split(dataset, VAL_FRACTION, VAL_MAX, lab.seeds[0])
        order = EpochOrder(len(train), BATCH, lab.seeds[0])
        order.rows(0), order.rows(len(train) // BATCH)  # those of two epochs
    with timed("first_pairs"):
        for step in range(-(-min(READ, count) // BATCH)):
            train.batch(order.rows(step))
    peak = _peak_mb()
    with timed("every_byte"):
        ShardDataset(folder)
    size_there = sum(path.stat().st_size for path in folder.iterdir())
    assert len(dataset) == count
    return {
        "seconds": seconds, "cpu_seconds": cpu, "peak_mb": peak, "before_mb": before, "bytes": size_there,
        "files": len(list(folder.iterdir())),
    }  # fmt: skip


def _simulate(plan: Plan, folder: Path) -> None:
    """A data set whose shards are names of the same two files, a whole shard and the rest."""
    registry = installed()
    generator = registry.build("generator", plan.gen.name, plan.gen.options)
    extractor = registry.build("extractor", plan.extractor.name)
    ctx = RunContext(folder, batch_size=plan.batch_size)
    extractor.fit(generator, ctx)
    size = 256 // plan.batch_size * plan.batch_size
    shards, rest = divmod(plan.num_samples, size)
    made = synthesize(generator, extractor, [], size + rest, ctx, format=plan.format)
    assert made is not None
    assert rest
    last, whole = made.paths[1], made.paths[0]
    for path in (last, last.with_suffix(".json")):
        path.rename(shard_path(folder, shards, plan.format).with_suffix(path.suffix))
    for number in range(1, shards):
        for path in (whole, whole.with_suffix(".json")):
            os.link(path, shard_path(folder, number, plan.format).with_suffix(path.suffix))
    manifest: Manifest = made.manifest.model_copy(update={"num_shards": shards + 1})
    manifest.write(folder)


class _Peaks(Progress):
    """Notes the peak memory of making the pairs and of training, each from its own start on; and their CPU seconds."""

    def __init__(self) -> None:
        self.peaks: dict[str, int] = {}
        self.cpu_seconds: dict[str, float] = {}
        self._stage, self._began = "", 0.0

    def start(self, task: str, total: int, done: int = 0, planned: int | None = None) -> None:
        """See `Progress.start`."""
        self._stage, self._began = task.partition(":")[0], time.process_time()
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far

    def finish(self) -> None:
        """See `Progress.finish`."""
        self.peaks[self._stage] = max(self.peaks.get(self._stage, 0), _peak_mb())
        spent = time.process_time() - self._began
        self.cpu_seconds[self._stage] = round(self.cpu_seconds.get(self._stage, 0.0) + spent, 1)


def _plan(lab: Lab, format: str, count: int, size: int, steps: int) -> Plan:
    return Plan.from_options(
        {"gen": "toy", "extractor": "native", "seg": "unet", "num_samples": count, "format": format, "device": "cpu"},
        [f"gen.size={size}", f"seg.steps={steps}", f"seg.batch_size={BATCH}"],
        seed=lab.seeds[0],
    )


def _name(format: str, count: int) -> str:
    return f"{format}-{count}"


def _growth(rows: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Bytes of memory that each pair more took, of making and of reading, from the fewest to the most."""
    found = []
    for format in PAIR_FORMATS:
        ordered = sorted((row for row in rows if row["format"] == format), key=lambda row: int(row["pairs"]))
        few, most = ordered[0], ordered[-1]
        more = max(most["pairs"] - few["pairs"], 1)
        grown = {stage: most["peak_mb"][stage] - few["peak_mb"][stage] for stage in ("dataset", "segmenter")}
        grown["epoch"] = most["epoch"]["peak_mb"] - few["epoch"]["peak_mb"]
        found.append({"format": format, **{stage: round((mb << 20) / more, 1) for stage, mb in grown.items()}})
    return found


def _peak_mb() -> int:
    """Peak memory of this process alone; that of `resource` begins with its parent's."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) >> 10
    return 0
