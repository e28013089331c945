"""How far a run scales: simulated for many GPUs, from measured computing, counted bytes and stated assumptions.

`simulated` measures on one CPU core what a unit of each stage takes (CPU seconds), counts the bytes that its processes
would exchange (the tally, which a test holds against real processes), multiplies both to the published settings, and
asks `gsegkit.engine.scaling` what N GPUs would take. A GPU is taken as `speed` cores of this CPU, and links as
`gsegkit.engine.scaling` has them: within one machine of eight, and between machines.

`ahead` counts how many of the merges that KLiSH's processes solve ahead are used; it needs no second process.

`beside` runs `gsegkit plan --workers N`, then the same run in N processes, and puts the times beside each other.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from typing import Any

import torch
from gsegkit_klish.config import KlishConfig
from gsegkit_klish.klish import Klish
from gsegkit_stylegan.config import StyleGAN2Arch
from gsegkit_stylegan.networks.stylegan2 import StyleGAN2Network, lay_out

from benchmarks.protocols.common import ROOT, Lab, say
from benchmarks.protocols.device_items import Clock, photographs
from benchmarks.protocols.generators import ARCHS
from benchmarks.protocols.klish import generated, synthetic
from gsegkit.clustering.config import KMeansConfig
from gsegkit.clustering.kmeans import TorchKMeans
from gsegkit.clustering.points import Points
from gsegkit.context import RunContext
from gsegkit.dataset import MemoryDataset
from gsegkit.distributed.tally import Exchange, Tally
from gsegkit.distributed.team import Team
from gsegkit.engine.scaling import NETWORK, NVLINK, Load, Piece, Workers, stage_time
from gsegkit.errors import GsegkitError
from gsegkit.parts import STATE_FILE, save_part
from gsegkit.plugins import installed
from gsegkit.storage import read_json

GPUS = 8  # of a machine
#: The published settings: KLiSH's pixels and channels, UFGS's pairs, StyleGAN2's images and batch.
PIXELS, CHANNELS, IMAGES, K0, KMEANS_STEPS = 256 * 256, 992, 256, 100, 20
PAIRS, SHARD, GAN_IMAGES, GAN_BATCH, SEG_STEPS, SEG_BATCH = 50_000, 256, 25_000_000, 32, 12_000, 32

Units = dict[str, Any]


def simulated(lab: Lab, sizes: list[int], speed: float) -> dict[str, Any]:
    """Strong scaling (the published work on N GPUs) and weak scaling (N / 8 times that work)."""
    units = _units(lab)
    rows = []
    for how in ("strong", "weak"):
        for size in (1, *sizes):
            times = max(size, GPUS) / GPUS if how == "weak" else 1.0
            link = NVLINK if size <= GPUS else NETWORK
            workers = Workers(size, link, GPUS, speed)
            for stage, load in _loads(units, times).items():
                found = stage_time(load, workers)
                rows.append(
                    {"how": how, "stage": stage, "gpus": size, "work": times, **asdict(found),
                     "efficiency": round(found.one / size / found.seconds, 4)}
                )  # fmt: skip
    links = {"within a machine": asdict(NVLINK), "between machines": asdict(NETWORK)}
    return {"speed": speed, "gpus_of_a_machine": GPUS, "links": links, "units": units, "rows": rows}


def _loads(units: Units, times: float) -> dict[str, Load]:
    """The stages of the published work, `times` as much of it: more pairs and pictures, larger batches."""
    images = IMAGES * times
    points = images * PIXELS
    blocks = points / units["kmeans"]["rows"]
    svm = units["klish"]
    grown = (
        points / svm["points"] * CHANNELS / svm["channels"]
    )  # one SVM's time is linear in both, see the result klish
    rows = points / svm["points"]
    pairs = PAIRS * times
    reading = Piece(
        images * units["generator"]["seconds"], items=images / 16, item_bytes=16 * PIXELS * CHANNELS * 2.0, tensors=2
    )
    passes = Piece(
        KMEANS_STEPS * blocks * units["kmeans"]["seconds"], items=blocks, rounds=KMEANS_STEPS,
        item_bytes=units["kmeans"]["bytes"], tensors=3,
    )  # fmt: skip
    first = [
        Piece(part["seconds"] * grown, items=part["items"], item_bytes=part["bytes"] * rows, tensors=3)
        for part in svm["first"]
    ]
    merge = svm["merges"]
    merging = Piece(
        merge["seconds"] * grown, rounds=merge["count"], item_bytes=merge["bytes"] * rows, tensors=2, ahead=True
    )
    gan, seg = units["gan"], units["segmenter"]
    gan_batch, seg_batch = GAN_BATCH * times, SEG_BATCH * times
    return {
        "pairs": Load(0.0, [Piece(pairs * units["generator"]["seconds"], items=pairs / SHARD)]),
        "klish: features": Load(0.0, [reading]),
        "klish: k-means": Load(0.0, [passes]),
        "klish: first SVMs": Load(svm["first_alone"] * grown, first),
        "klish: merges": Load(svm["merges_alone"] * grown, [merging]),
        "segmenter": Load(
            0.0, [Piece(SEG_STEPS * seg_batch * seg["seconds"], items=seg_batch, rounds=SEG_STEPS,
                        reduced_bytes=seg["bytes"])]
        ),
        "StyleGAN2": Load(
            0.0, [Piece(GAN_IMAGES * times * gan["seconds"], items=gan_batch, rounds=GAN_IMAGES / GAN_BATCH,
                        reduced_bytes=gan["bytes"])]
        ),
    }  # fmt: skip


# ---- units, measured -------------------------------------------------------------------------------------------------


def _units(lab: Lab) -> Units:
    found = {}
    for name, measure in (
        ("generator", _generator), ("kmeans", _kmeans), ("klish", _klish), ("segmenter", _segmenter), ("gan", _gan)
    ):  # fmt: skip
        found[name] = measure(lab)
        say(f"{name}: {found[name]}")
    return found


def _generator(lab: Lab) -> dict[str, float]:
    """CPU seconds of a picture of StyleGAN2 config-f at 256 px."""
    arch = StyleGAN2Arch(resolution=16, channel_base=64) if lab.tiny else StyleGAN2Arch(**ARCHS["config-f-256"])
    network = StyleGAN2Network(arch).eval().requires_grad_(False)
    lay_out(network)
    z = torch.randn(4, arch.z_dim, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        network(z)
        began = time.process_time()
        network(z)
    return {"seconds": (time.process_time() - began) / len(z)}


def _kmeans(lab: Lab) -> dict[str, float]:
    """A block of k-means: CPU seconds, bytes, and its rows."""
    n, d, k = (512, 8, 5) if lab.tiny else (32_768, CHANNELS, K0)
    config = KMeansConfig(iterations=2, init="random", tol=0)
    kmeans, tally = TorchKMeans(config), Tally(time.process_time)
    kmeans.team = tally
    kmeans.fit(synthetic(n, d), k, 0)
    passes = [noted for noted in tally.exchanges if noted.kind == "map" and not noted.once]
    full = [(s, b) for noted in passes for s, b in list(zip(noted.seconds, noted.bytes, strict=True))[:-1] or
            list(zip(noted.seconds, noted.bytes, strict=True))]  # fmt: skip
    rows = n / max(len(noted.seconds) for noted in passes)
    return {"rows": rows, "seconds": sum(s for s, _ in full) / len(full), "bytes": sum(b for _, b in full) / len(full)}


def _klish(lab: Lab) -> dict[str, Any]:
    """K0 SVMs and all merges of smaller points: CPU seconds of what is divided and of what is not, and bytes."""
    n, d, k0 = (600, 8, 12) if lab.tiny else (32_768, 256, K0)
    tally = Tally(time.process_time)
    clock = _Marks(tally)
    points = Points(synthetic(n, d), torch.arange(n) // 256, torch.arange(n) % 256, (16, 16), ("x",))
    config = KlishConfig(k0=k0, kmeans="torch", filter=False)
    found = Klish(config).cluster(points, RunContext(lab.work / "klish", progress=clock, team=tally))
    first, merges = clock.of("separating"), clock.of("merging")
    pairs = [noted for noted in merges.exchanges if noted.kind == "map"]
    maps = [noted for noted in first.exchanges if noted.kind == "map"]
    return {
        "points": n, "channels": d, "levels": len(found.levels),
        "first": [_mean(noted) for noted in maps],
        "first_alone": first.seconds - sum(sum(noted.seconds) for noted in maps),
        "merges": {"seconds": sum(sum(noted.seconds) for noted in pairs), "count": len(pairs),
                   "bytes": sum(noted.bytes[0] for noted in pairs) / len(pairs)},
        "merges_alone": merges.seconds - sum(sum(noted.seconds) for noted in pairs),
    }  # fmt: skip


def _mean(noted: Exchange) -> dict[str, float]:
    return {"seconds": sum(noted.seconds), "items": len(noted.seconds), "bytes": sum(noted.bytes) / len(noted.bytes)}


class _Marks(Clock):
    """CPU seconds of loops, and what was exchanged in each."""

    def __init__(self, tally: Tally) -> None:
        super().__init__(time.process_time)
        self.tally = tally
        self.marks: list[tuple[str, int]] = []

    def start(self, task: str, total: int, done: int = 0, planned: int | None = None) -> None:
        """See `Progress.start`."""
        super().start(task, total, done, planned)
        self.marks.append((task.partition(": ")[2], len(self.tally.exchanges)))

    def of(self, word: str) -> _Loop:
        """The loop whose name begins so."""
        at = next(i for i, (name, _) in enumerate(self.marks) if name.startswith(word))
        name, first = self.marks[at]
        last = self.marks[at + 1][1] if at + 1 < len(self.marks) else len(self.tally.exchanges)
        times = self.loops[name]
        return _Loop(times[-1] - times[0], self.tally.exchanges[first:last])


class _Loop:
    def __init__(self, seconds: float, exchanges: list[Exchange]) -> None:
        self.seconds, self.exchanges = seconds, exchanges


def _segmenter(lab: Lab) -> dict[str, float]:
    """CPU seconds of a picture in the training of a U-Net with ResNet-50 at 256 px, and the bytes of its gradients."""
    side, batch = (32, 2) if lab.tiny else (256, 4)
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (8, 3, side, side), dtype=torch.uint8, generator=draw)
    masks = torch.randint(0, 12, (8, side, side), dtype=torch.uint8, generator=draw)
    options: dict[str, Any] = {"batch_size": batch, "val_fraction": 0.0, "steps": 3}
    options |= {} if lab.tiny else {"profile": "standard", "encoder": "resnet50"}
    part = installed().build("segmenter", "unet", options)
    clock = Clock(time.process_time)
    dataset = MemoryDataset(pixels, masks, [f"class {i}" for i in range(12)])
    part.fit(dataset, RunContext(lab.work / "segmenter", progress=clock))
    return {"seconds": _step_seconds(clock, "training") / batch, "bytes": float(_weights(lab, part, "segmenter"))}


def _gan(lab: Lab) -> dict[str, float]:
    """CPU seconds of a real picture in the training of StyleGAN2 config-f at 256 px, and the bytes of its gradients."""
    side, base, batch = (16, 64, 2) if lab.tiny else (256, 32768, 2)
    options = {"weights": "none", "resolution": side, "channel_base": base, "channel_max": 8 if lab.tiny else 512,
               "batch_size": batch, "kimg": 3 * batch / 1000}  # fmt: skip
    part = installed().build("generator", "stylegan2", options)
    clock = Clock(time.process_time)
    part.fit(photographs(lab.work / "photographs", side, 8), RunContext(lab.work / "gan", progress=clock))
    own = _weights(lab, part, "generator")
    return {
        "seconds": _step_seconds(clock, clock.longest()) / batch,
        "bytes": 2.0 * own,
    }  # the discriminator's: as many


def _step_seconds(clock: Clock, name: str) -> float:
    """CPU seconds of a step, without the first one."""
    times = clock.loops[name]
    return (times[-1] - times[1]) / (len(times) - 2)


def _weights(lab: Lab, part: Any, kind: str) -> int:
    save_part(part, lab.work / "stored" / kind, kind, "x")
    return (lab.work / "stored" / kind / STATE_FILE).stat().st_size


# ---- merges ahead ----------------------------------------------------------------------------------------------------


class _Pretended(Team):
    """One process that solves all that N processes would solve in a round."""

    def __init__(self, size: int) -> None:
        self.wanted, self.rounds = size, 0

    @property
    def ahead(self) -> int:
        """See `Team.ahead`."""
        self.rounds += 1
        return self.wanted


def ahead(lab: Lab, sizes: list[int], points: int) -> dict[str, Any]:
    """Merges that a round gets on with, for N processes, on the zoo's coffee leaves and on synthetic points."""
    rows = []
    n, k0 = (600, 12) if lab.tiny else (points, K0)
    for name, x in (("coffee-leaf-64", generated(n, 64)), ("synthetic", synthetic(n, 64))):
        own = Points(x, torch.arange(len(x)) // 256, torch.arange(len(x)) % 256, (16, 16), ("x",))
        for size in sizes:
            team = _Pretended(size)
            found = Klish(KlishConfig(k0=k0, kmeans="torch")).cluster(own, RunContext(lab.work / "ahead", team=team))
            merges = len(found.levels) - 1
            rows.append({"points": name, "processes": size, "merges": merges, "rounds": team.rounds,
                         "merges_a_round": round(merges / team.rounds, 3)})  # fmt: skip
            say(str(rows[-1]))
    return {"n": n, "k0": k0, "rows": rows}


# ---- predicted beside measured ---------------------------------------------------------------------------------------


def beside(lab: Lab, runs: list[dict[str, Any]], sizes: list[int]) -> dict[str, Any]:
    """Seconds of each stage, as predicted and as `stage.json` says after the run itself."""
    rows = []
    for run in runs:
        words = ["--device", lab.device.type, "--samples", "16" if lab.tiny else str(run["samples"]), *run["words"]]
        for size in sizes[:1] if lab.tiny else sizes:
            folder = lab.work / f"{run['name']}-{size}"
            told = json.loads(_gsegkit(["plan", *words, "--workers", str(size), "--json", "--out", str(folder)], 1))
            began = time.perf_counter()
            _gsegkit(["run", *words, "--quiet", "--out", str(folder), *(["--smoke"] if lab.tiny else [])], size)
            wall = time.perf_counter() - began
            found = {path.parent.name: read_json(path)["seconds"] for path in folder.glob("*/stage.json")}
            stages = {
                name: {"predicted": round(stage["seconds"], 2), "measured": round(found[name], 2)}
                for name, stage in told["workers"]["stages"].items() if name in found
            }  # fmt: skip
            total = {key: sum(stage[key] for stage in stages.values()) for key in ("predicted", "measured")}
            rows.append({"run": run["name"], "processes": size, **total, "wall": round(wall, 1), "stages": stages,
                         "ratio": round(total["measured"] / total["predicted"], 2),
                         "load": round(os.getloadavg()[0], 1)})  # fmt: skip
            say(str(rows[-1]))
    return {"rows": rows}


def _gsegkit(words: list[str], size: int) -> str:
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", str(size)] if size > 1 else []
    command = [sys.executable, *launcher, "-m", "gsegkit", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise GsegkitError(f"'{words[0]}' with {size} processes failed: {done.stderr[-500:]}", f"by hand: {command}")
    return done.stdout
