"""Several processes of one machine: what dividing the work costs, and that it changes no bit.

The same work is done by 1, 2 and 4 processes of one thread each, in turn, several times. CPU seconds are those of all
processes together, from the moment when all have met to the moment when all are done; of several runs the least counts,
since everything that disturbs a run adds to it.

Two processes slow each other down even when they have nothing to do with each other: they share caches and memory. So
beside one process stand two that do the whole work at the same time, each for itself: "apart". The overhead of N
processes is what they need more than one of these two. A machine with fewer free cores than processes says nothing
about wall seconds, so those of 4 processes are not shown on a page.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from gsegkit_klish.config import KlishConfig
from gsegkit_klish.klish import Klish
from gsegkit_klish.svm import Inside

from benchmarks.protocols.common import CASES, Lab, Row, say
from benchmarks.protocols.klish import synthetic
from gsegkit.clustering.points import Points
from gsegkit.context import RunContext
from gsegkit.distributed.team import ALONE, Team
from gsegkit.engine.synthesis import synthesize
from gsegkit.testing.processes import together

SIZES = (1, 2, 4)
REDUCTIONS = 20  # of a Hessian, timed

Work = Callable[[Team, Path], bytes]


@contextmanager
def counted() -> Iterator[dict[str, int]]:
    """Bytes and calls of the operations between processes in the block; those of one process."""
    found = {"calls": 0, "bytes": 0}
    plain = {name: getattr(dist, name) for name in ("broadcast", "all_reduce", "all_gather")}

    def count(name: str) -> Callable[..., Any]:
        def call(*words: Any, **options: Any) -> Any:
            found["calls"] += 1
            found["bytes"] += (words[1] if name == "all_gather" else words[0]).nbytes
            return plain[name](*words, **options)

        return call

    for name in plain:
        setattr(dist, name, count(name))
    try:
        yield found
    finally:
        for name, operation in plain.items():
            setattr(dist, name, operation)


def timed(work: Work, size: int, folder: Path, apart: bool = False) -> dict[str, Any]:
    """One run of `work` by `size` processes; with `apart` each does the whole work."""

    def measured(team: Team) -> dict[str, Any]:
        torch.set_num_threads(1)
        team.wait()
        wall, cpu = time.monotonic(), time.process_time()
        with counted() as said:
            made = work(ALONE, folder / str(team.rank)) if apart else work(team, folder)
        cpu = time.process_time() - cpu
        team.wait()
        return {"wall": time.monotonic() - wall, "cpu": cpu, "made": hashlib.sha256(made).hexdigest(), **said}

    found = together(size, measured, seconds=3600)
    return {
        "cpu_seconds": sum(one["cpu"] for one in found),
        "longest_cpu_seconds": max(one["cpu"] for one in found),
        "wall_seconds": max(one["wall"] for one in found),
        "calls": found[0]["calls"],
        "bytes": found[0]["bytes"],
        "made": sorted({one["made"] for one in found}),
    }


def rows_of(work: Work, folder: Path, repeats: int) -> list[dict[str, Any]]:
    """For each number of processes the least seconds of several runs; the runs of all numbers take turns."""
    kinds = {"1": (1, False), "2 apart": (2, True), **{str(size): (size, False) for size in SIZES[1:]}}
    runs: dict[str, list[dict[str, Any]]] = {kind: [] for kind in kinds}
    for repeat in range(repeats):
        for kind, (size, apart) in kinds.items():
            runs[kind].append(timed(work, size, folder / f"{repeat} {kind}", apart))
            say(f"    {kind}: {runs[kind][-1]}")
    least = {
        kind: {name: min(run[name] for run in found) for name in found[0] if name.endswith("seconds")}
        for kind, found in runs.items()
    }
    one, apart_one = least["1"]["cpu_seconds"], least["2 apart"]["cpu_seconds"] / 2
    rows = []
    for kind, (size, apart) in kinds.items():
        seconds, work_done = least[kind], size if apart else 1
        rows.append({
            "processes": kind, **{name: round(value, 2) for name, value in seconds.items()},
            "beside_one": round(seconds["cpu_seconds"] / (work_done * one) - 1, 4),
            "overhead": round(seconds["cpu_seconds"] / (work_done * (one if size == 1 else apart_one)) - 1, 4),
            "wall_share": round(seconds["wall_seconds"] / least["1"]["wall_seconds"], 4),
            "calls": runs[kind][0]["calls"], "megabytes": round(runs[kind][0]["bytes"] / 1e6, 2),
            "same_bits": int(all(run["made"] == runs["1"][0]["made"] for run in runs[kind])),
        })  # fmt: skip
    return rows


def overheads(
    lab: Lab, samples: int = 2048, points: int = 32_768, features: int = 256, k0: int = 60, repeats: int = 3
) -> dict[str, Any]:
    """Pairs of the zoo's leaves, and KLiSH's fit of synthetic points, by 1, 2 and 4 processes."""
    if lab.tiny:
        samples, points, features, k0, repeats = 1024, 512, 8, 8, 1
    generator = CASES["coffee-leaf-64" if not lab.tiny else "toy"].build(lab.device)
    options = {"num_images": 32, "pixels_per_image": 200, "k0": 20} if not lab.tiny else {}
    name = "klish" if not lab.tiny else "native"
    extractor, _, _ = lab.fitted(generator, Row("", "", options, extractor=name, refine=()), 0)

    def pairs(team: Team, folder: Path) -> bytes:
        synthesize(generator, extractor, (), samples, RunContext(folder, team=team))
        team.wait()
        return b"".join(path.read_bytes() for path in sorted(folder.iterdir()))

    x = synthetic(points, features)
    given = Points(x, torch.zeros(points).long(), torch.arange(points), (1, points), ("f",))
    config = KlishConfig(k0=k0, kmeans="torch", init_points=None)

    def tree(team: Team, folder: Path) -> bytes:
        found = Klish(config).cluster(given, RunContext(folder, team=team))
        return found.weight.numpy().tobytes() + found.leaf.numpy().tobytes()

    work: dict[str, Work] = {"synthesis": pairs, "klish": tree}
    return {
        "samples": samples, "points": points, "features": features, "k0": k0,
        **{name: rows_of(each, lab.work / name, repeats) for name, each in work.items()},
        "by_points": by_points(tree, lab.work, features),
    }  # fmt: skip


def by_points(tree: Work, folder: Path, features: int) -> dict[str, float]:
    """What dividing every SVM by points would have to send: a Hessian and a gradient for each Newton step.

    Steps are counted in one process; the all-reduce of a lower triangle and a gradient is timed between two.
    """
    steps, become = [0], Inside.become

    def counting(self: Inside, points: torch.Tensor) -> None:
        steps[0] += 1
        become(self, points)

    def count(team: Team) -> int:
        Inside.become = counting  # type: ignore[method-assign]
        tree(team, folder / "count")
        return steps[0]

    (taken,) = together(1, count, seconds=3600)
    numbers = (features + 1) * (features + 2) // 2 + features + 1

    def reduce(team: Team) -> tuple[float, float]:
        values = torch.ones(numbers)
        team.sum(values)
        wall, cpu = time.monotonic(), time.process_time()
        for _ in range(REDUCTIONS):
            team.sum(values)
        return time.monotonic() - wall, time.process_time() - cpu

    found = together(2, reduce)
    return {
        "newton_steps": taken,
        "megabytes": round(taken * numbers * 4 / 1e6, 1),
        "wall_seconds": round(max(wall for wall, _ in found) / REDUCTIONS * taken, 2),
        "cpu_seconds": round(sum(cpu for _, cpu in found) / REDUCTIONS * taken, 2),
    }
