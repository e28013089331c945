"""The items of the check on one card, see device.py: each measures one thing and knows how long it may take.

As a program it takes a setting as JSON (see `main`) and prints a line of JSON before and after each item, so that who
started it knows what is done when an item ends the process.
"""

from __future__ import annotations

import json
import math
import resource
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from gsegkit_klish.config import KlishConfig
from gsegkit_klish.klish import Klish
from gsegkit_stylegan.config import StyleGAN2Arch
from gsegkit_stylegan.networks.stylegan2 import StyleGAN2Network, lay_out
from torch import Tensor

from benchmarks.protocols.generators import ARCHS
from benchmarks.result import device_name
from gsegkit.clustering.points import Points
from gsegkit.context import RunContext
from gsegkit.dataset import MemoryDataset, UnlabelledImages
from gsegkit.errors import GsegkitError, InterruptedRunError
from gsegkit.images import to_pixels, write_png
from gsegkit.interfaces import Generator
from gsegkit.plugins import installed
from gsegkit.progress import Progress

CHANNELS, SIDE, IMAGES = 992, 256, 256  # of KLiSH's paper: all pixels of 256 images of 256 x 256
TINY_CHANNELS, TINY_SIDE, TINY_IMAGES = 16, 8, 8
WARM_STEPS = 3  # of a loop that do not count


class Clock(Progress):
    """When each step of each loop ended, and what was said; `now` is the clock."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._clock = now
        self.loops: dict[str, list[float]] = {}
        self.said: list[str] = []
        self._now: list[float] = []

    def start(self, task: str, total: int, done: int = 0, planned: int | None = None) -> None:
        """See `Progress.start`."""
        self._now = self.loops.setdefault(task.partition(": ")[2], [])
        self._now.append(self._clock())

    def advance(self, done: int, values: Mapping[str, float]) -> None:
        """See `Progress.advance`."""
        self._now.append(self._clock())

    def message(self, text: str, level: str = "info") -> None:
        """See `Progress.message`."""
        self.said.append(f"{level}: {text}")

    def step_ms(self, name: str) -> dict[str, float]:
        """Milliseconds of a step of a loop, and how many were timed; the first ones warm up."""
        times = self.loops[name]
        warm = min(WARM_STEPS, len(times) - 2)
        count = len(times) - 1 - warm
        return {"step_ms": round(1000 * (times[-1] - times[warm]) / count, 3), "steps": count}

    def longest(self) -> str:
        """The loop that took most of the time."""
        return max(self.loops, key=lambda name: self.loops[name][-1] - self.loops[name][0])

    def seconds(self) -> dict[str, float]:
        """Seconds of every loop."""
        return {name: round(times[-1] - times[0], 2) for name, times in self.loops.items()}


@dataclass
class Bench:
    """Where an item measures.

    Attributes:
        device: to compute on.
        tiny: the smallest sizes at which everything still runs.
        work: folder of its own files.
        seconds: that the item may take.
    """

    device: torch.device
    tiny: bool
    work: Path
    seconds: float
    clock: Clock = field(default_factory=Clock)

    def synchronize(self) -> None:
        """Until the device has done all that it was told."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def rate(self, make: Callable[[], Tensor], seconds: float) -> float:
        """Images a second of a function that makes some, after one call to warm up."""
        make()
        self.synchronize()
        count, began = 0, time.perf_counter()
        while count == 0 or time.perf_counter() - began < (0 if self.tiny else seconds):
            count += len(make())
            self.synchronize()
        return round(count / (time.perf_counter() - began), 2)

    def context(self, name: str, steps_of: float = math.inf) -> RunContext:
        """A context in a folder of its own, whose loops of steps end after so many seconds."""
        limit = min(steps_of, self.seconds)
        return RunContext(
            self.work / name, self.device, progress=self.clock, smoke=self.tiny, time_limit=limit,
            checkpoint_seconds=math.inf, batch_size=4 if self.tiny else 16,
        )  # fmt: skip

    def peak_mb(self) -> int:
        """Most memory so far, of the device or on the CPU of the process."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated() >> 20
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10

    def stylegan2(self, resolution: int, channel_base: int) -> Generator:
        """A StyleGAN2 of random weights: speed does not depend on them."""
        options = {"weights": "none", "resolution": resolution, "channel_base": channel_base, "channel_max": 512,
                   "z_dim": 512, "w_dim": 512, "mapping_layers": 8}  # fmt: skip
        if self.tiny:
            options = {"weights": "none", "resolution": 32, "channel_base": 128, "channel_max": 8}
        generator: Generator = installed().build("generator", "stylegan2", options)
        return generator.to(self.device)


def machine(bench: Bench) -> dict[str, Any]:
    """What it is."""
    found: dict[str, Any] = {"device": device_name(bench.device.type), "torch": torch.__version__}
    if bench.device.type == "cuda":
        facts = torch.cuda.get_device_properties(bench.device)
        found |= {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version(), "gib": facts.total_memory >> 30}
        found |= {"bfloat16": torch.cuda.is_bf16_supported(), "gpus": torch.cuda.device_count()}
    return found


def generators(bench: Bench) -> dict[str, Any]:
    """Images a second of StyleGAN2's synthesis: two sizes, float32 and bfloat16."""
    return _generators(bench, compiled=False)


def generators_compiled(bench: Bench) -> dict[str, Any]:
    """The same with torch.compile."""
    return _generators(bench, compiled=True)


def _generators(bench: Bench, compiled: bool) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []
    began = time.perf_counter()
    for name, batch in (("config-f-256", 16), ("small-64", 64))[: 1 if bench.tiny else None]:
        small = StyleGAN2Arch(resolution=8, channel_base=64, channel_max=8, mapping_layers=1)
        arch = small if bench.tiny else StyleGAN2Arch(**ARCHS[name])
        network = StyleGAN2Network(arch).to(bench.device).eval().requires_grad_(False)
        lay_out(network)
        z = torch.randn(2 if bench.tiny else batch, arch.z_dim, device=bench.device)
        for dtype in (torch.float32, torch.bfloat16):
            row: dict[str, Any] = {"network": name, "dtype": str(dtype)[6:], "compiled": compiled, "batch": len(z)}
            try:
                if time.perf_counter() - began > 0.75 * bench.seconds:
                    row |= {"skipped": "no time was left"}
                else:
                    row |= _synthesis(bench, network, z, dtype, compiled)
            except Exception as error:  # the others go on
                row |= {"error": short(error)}
            rows.append(row)
    return {"rows": rows}


def _synthesis(bench: Bench, network: torch.nn.Module, z: Tensor, dtype: torch.dtype, compiled: bool) -> dict[str, Any]:
    run = torch.compile(network) if compiled else network
    began = time.perf_counter()

    def make() -> Tensor:
        with torch.autocast(bench.device.type, dtype, enabled=dtype != torch.float32):
            return run(z)

    with torch.inference_mode():
        make()
        bench.synchronize()
        first = round(time.perf_counter() - began, 2)
        return {"images_per_second": bench.rate(make, 2.0), "first_seconds": first, "peak_mb": bench.peak_mb()}


def klish(bench: Bench) -> dict[str, Any]:
    """The paper's whole setting: K0 = 100, every pixel of 256 images of 256 x 256 to k-means and SVMs; float16 points.

    Points are of long overlapping blobs, as in the recipe klish: random weights have no parts. A card that holds less
    takes fewer images, and the result says how many.
    """
    side, dim = (TINY_SIDE, TINY_CHANNELS) if bench.tiny else (SIDE, CHANNELS)
    k0 = 12 if bench.tiny else 100
    pixels, images = side * side, TINY_IMAGES if bench.tiny else IMAGES
    each = pixels * (6 * dim + 12 * k0)  # float16 points, their float32 copy for k-means, scores, confidences, one more
    if bench.device.type == "cuda":
        images = min(images, int(0.9 * torch.cuda.mem_get_info(bench.device)[0]) // each)
    x = blobs(images * pixels, dim, bench.device)
    count = torch.arange(len(x))
    points = Points(x, count // pixels, count % pixels, (side, side), ("blobs",))
    config = KlishConfig(profile="paper", k0=k0, kmeans="torch")
    ctx = RunContext(bench.work / "klish", bench.device, progress=bench.clock, checkpoint_seconds=math.inf)
    alarm = threading.Timer(bench.seconds - 5, ctx.stop.set)
    alarm.start()
    began = time.perf_counter()
    found: dict[str, Any] = {"images": images, "points": len(x), "channels": dim, "k0": k0, "dtype": "float16"}
    try:
        tree = Klish(config).cluster(points, ctx)
        found |= {"levels": len(tree.levels)}
    except InterruptedRunError:
        merges = len(bench.clock.loops.get("merging clusters", ())) - 1
        found |= {"stopped": f"at {bench.seconds:.0f} s, after {max(merges, 0)} merges"}
    finally:
        alarm.cancel()
    bench.synchronize()
    found |= {"seconds": round(time.perf_counter() - began, 1), "loops": bench.clock.seconds()}
    return {**found, "peak_mb": bench.peak_mb(), "said": bench.clock.said[:5]}


def blobs(n: int, d: int, device: torch.device, seed: int = 0) -> Tensor:
    """[n, d] float16 points of 84 long blobs of 14 classes, in blocks; see `benchmarks.protocols.klish.synthetic`."""
    on_cpu, draw = torch.Generator().manual_seed(seed), torch.Generator(device).manual_seed(seed)
    randn = lambda *shape: torch.randn(*shape, generator=on_cpu)  # noqa: E731
    shared, scale = randn(32, d) / 32**0.5, torch.exp(0.7 * randn(d)).to(device)
    x = torch.empty(n, d, dtype=torch.float16, device=device)
    for rows in x.chunk(84):
        place, basis = (1.5 * randn(32) @ shared).to(device), (randn(16, d) / 4).to(device)
        axes = (randn(4, 16) * torch.tensor([[2.0], [1.0], [0.7], [0.5]])).to(device)
        for block in rows.split(1 << 16):
            inner = torch.randn(len(block), 4, generator=draw, device=device) @ axes
            noise = 0.3 * torch.randn(len(block), d, generator=draw, device=device)
            block.copy_(torch.nn.functional.leaky_relu((place + inner @ basis + noise) * scale, 0.2))
    return x


def directions(bench: Bench) -> dict[str, Any]:
    """Milliseconds of an optimiser step of `directions` on StyleGAN2 config-f at 256 px."""
    return _fitted(bench, "directions", {"batch_size": 2 if bench.tiny else 16})


def labels4free(bench: Bench) -> dict[str, Any]:
    """Milliseconds of a training iteration of `labels4free` on StyleGAN2 config-f at 256 px."""
    return _fitted(bench, "labels4free", {"batch_size": 2 if bench.tiny else 16})


def _fitted(bench: Bench, name: str, options: dict[str, Any]) -> dict[str, Any]:
    part = installed().build("extractor", name, options).to(bench.device)
    part.fit(bench.stylegan2(256, 32768), bench.context(name, bench.seconds / 3))
    loop = bench.clock.longest()
    return {"loop": loop, **bench.clock.step_ms(loop), **options, "peak_mb": bench.peak_mb()}


def segmenter(bench: Bench) -> dict[str, Any]:
    """Images a second in the training of a U-Net (ResNet-50, 256 px, 12 classes)."""
    side, count = (32, 8) if bench.tiny else (256, 256)
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=draw)
    masks = torch.randint(0, 12, (count, side, side), dtype=torch.uint8, generator=draw)
    options: dict[str, Any] = {"batch_size": 2 if bench.tiny else 32, "val_fraction": 0.0, "steps": 100_000}
    options |= {} if bench.tiny else {"profile": "standard", "encoder": "resnet50"}
    part = installed().build("segmenter", "unet", options).to(bench.device)
    dataset = MemoryDataset(pixels, masks, [f"class {i}" for i in range(12)])
    part.fit(dataset, bench.context("segmenter", bench.seconds / 3))
    found = bench.clock.step_ms("training")
    rate = round(1000 * options["batch_size"] / found["step_ms"], 1)
    return {"images_per_second": rate, **found, "batch_size": options["batch_size"], "peak_mb": bench.peak_mb()}


def stylegan2_training(bench: Bench) -> dict[str, Any]:
    """Real images a second of StyleGAN2's training, at the size of our zoo and at 256 px."""
    rows = []
    sizes = [("tiny", 16, 64, 4)] if bench.tiny else [("small-64", 64, 4096, 64), ("config-f-256", 256, 32768, 16)]
    for name, side, base, batch in sizes:
        options = {"weights": "none", "resolution": side, "channel_base": base, "channel_max": 8 if bench.tiny else 512,
                   "batch_size": batch, "kimg": 100_000.0}  # fmt: skip
        bench.clock.loops.clear()
        try:
            part = installed().build("generator", "stylegan2", options).to(bench.device)
            part.fit(photographs(bench.work / f"photographs-{side}", side), bench.context(name, bench.seconds / 4))
            found = bench.clock.step_ms(bench.clock.longest())
            row = {"images_per_second": round(1000 * batch / found["step_ms"], 1), **found, "peak_mb": bench.peak_mb()}
        except Exception as error:  # the other size goes on
            row = {"error": short(error)}
        rows.append({"network": name, "batch_size": batch, **row})
    return {"rows": rows}


def photographs(folder: Path, side: int, count: int = 64) -> UnlabelledImages:
    draw = torch.Generator().manual_seed(0)
    coarse = torch.randn(count, 3, 8, 8, generator=draw)
    smooth = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic").clamp(-1, 1)
    for number, pixels in enumerate(to_pixels(smooth)):
        write_png(folder / f"{number:03d}.png", pixels)
    return UnlabelledImages(tuple(sorted(folder.glob("*.png"))), (side, side))


def kmeans(bench: Bench) -> dict[str, Any]:
    """k-means of torch beside faiss on the same points: seconds, and the mean squared distance that they reach."""
    n, d, k = (512, 8, 5) if bench.tiny else (1_000_000, 256, 100)
    x = blobs(n, d, bench.device).float()
    rows = []
    for name in ("torch", "faiss"):
        if name not in installed().available("kmeans"):
            rows.append({"backend": name, "skipped": "not installed"})
            continue
        try:
            backend = installed().build("kmeans", name, {"iterations": 20})
            backend.fit(x[: max(1000, 2 * k)] if not bench.tiny else x, k, 0)  # warms up
            bench.synchronize()
            began = time.perf_counter()
            centres, labels = backend.fit(x, k, 0)
            bench.synchronize()
            seconds = time.perf_counter() - began
            distance = float((x - centres[labels]).square().sum(dim=1).mean())
            found = {"seconds": round(seconds, 3), "mean_squared_distance": round(distance, 3)}
            rows.append({"backend": name, "on": backend.used_device, **found})
        except Exception as error:  # the other one goes on
            rows.append({"backend": name, "error": short(error)})
    return {"n": n, "d": d, "k": k, "rows": rows}


#: name -> what it measures, and the most seconds that it may take.
ITEMS: dict[str, tuple[Callable[[Bench], dict[str, Any]], float]] = {
    "machine": (machine, 20),
    "generators": (generators, 35),
    "kmeans": (kmeans, 30),
    "directions": (directions, 25),
    "labels4free": (labels4free, 30),
    "segmenter": (segmenter, 30),
    "stylegan2_training": (stylegan2_training, 50),
    "klish": (klish, 150),
    "generators_compiled": (generators_compiled, 80),
}


def short(error: BaseException) -> str:
    """An error in a line."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:300]}"


def main(setting: dict[str, Any]) -> None:
    """Measure items, a line before and after each.

    Args:
        setting: `items`, the `seconds` of each, `device`, `tiny`, the folder `work`, and on the CPU the `threads`.
    """
    if setting["device"] == "cpu":
        torch.set_num_threads(setting["threads"])
    for name in setting["items"]:
        print(json.dumps({"begins": name}), flush=True)
        began = time.perf_counter()
        bench = Bench(
            torch.device(setting["device"]), setting["tiny"], Path(setting["work"]) / name, setting["seconds"][name]
        )
        bench.work.mkdir(parents=True, exist_ok=True)
        try:
            if bench.device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            found = ITEMS[name][0](bench)
        except (
            GsegkitError,
            RuntimeError,
            ValueError,
            TypeError,
            AttributeError,
            KeyError,
            ImportError,
            OSError,
        ) as error:
            found = {"error": short(error)}
        seconds = round(time.perf_counter() - began, 1)
        print(json.dumps({"item": name, "found": {**found, "item_seconds": seconds}}), flush=True)
        if bench.device.type == "cuda":
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
