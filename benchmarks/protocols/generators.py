"""Speed of generators: ours beside a plain reading of the paper, same weights, same machine, same run.

`speed` is of StyleGAN2. Its plain reading materialises one fused kernel per sample and blurs by a separate dense
convolution; it is the one that the tests compare our networks with. Each case runs in a process of its own, so that
peak memory is its own. `paired` has the readings of several generators as their own code computes them.
"""

from __future__ import annotations

import importlib.util
import resource
import statistics
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from gsegkit_resgan.network import Network
from gsegkit_resgan.readers.biggan import biggan_pytorch
from gsegkit_resgan.readers.found import Found
from gsegkit_resgan.readers.studio import studiogan
from gsegkit_stylegan.config import StyleGAN2Arch, StyleGAN3Arch
from gsegkit_stylegan.networks.stylegan2 import StyleGAN2Network, lay_out
from gsegkit_stylegan.networks.stylegan3 import StyleGAN3Network

from benchmarks.protocols import readings, readings3, readings_resnet
from benchmarks.protocols.common import ROOT, Lab, say
from gsegkit.errors import GsegkitError

ARCHS = {
    "zoo-64": {"resolution": 64, "channel_base": 1024, "channel_max": 128, "w_dim": 128, "z_dim": 128,
               "mapping_layers": 2},
    "small-64": {"resolution": 64, "channel_base": 4096, "channel_max": 128, "w_dim": 128, "z_dim": 128,
                 "mapping_layers": 2},
    "config-f-256": {"resolution": 256, "channel_base": 32768, "channel_max": 512},
}  # fmt: skip
VARIANTS = ("plain float32", "ours float32", "ours bfloat16")
SECONDS = 6.0  # time spent on each case after warming up


def one(lab: Lab, network: str, variant: str, batch: int) -> dict[str, Any]:
    """Images per second and peak memory of one case."""
    torch.manual_seed(0)
    device, arch = lab.device.type, StyleGAN2Arch(**ARCHS[network])
    ours = StyleGAN2Network(arch).to(device).eval().requires_grad_(False)
    lay_out(ours)
    z = torch.randn(batch, arch.z_dim, device=device)
    plain = _plain()
    state = {name: value.contiguous() for name, value in ours.state_dict().items()}

    def make() -> torch.Tensor:
        if variant.startswith("plain"):
            w = plain.mapping(state, arch, z)
            return plain.synthesis(state, arch, w[:, None].expand(-1, arch.num_ws, -1))
        with torch.autocast(device, torch.bfloat16, enabled=variant.endswith("bfloat16")):
            return ours(z)

    def synchronize() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    with torch.inference_mode():
        make()
        synchronize()
        count, began = 0, time.perf_counter()
        while count < 2 or time.perf_counter() - began < (0 if lab.tiny else SECONDS):
            make()
            synchronize()
            count += 1
        seconds = time.perf_counter() - began
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else _peak_ram()
    return {"images_per_second": round(count * batch / seconds, 2), "peak_mb": round(peak / 2**20)}


def _peak_ram() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _plain() -> Any:
    return _module(ROOT / "plugins/gsegkit-stylegan/tests/plain.py")


def _module(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def speed(lab: Lab, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Every network of `runs` (network, batch, threads) in every variant."""
    rows = []
    for run in runs:
        found = {name: lab.process("generators.one", variant=name, **run) for name in VARIANTS}
        base = found["plain float32"]["images_per_second"]
        for variant, numbers in found.items():
            ratio = round(numbers["images_per_second"] / base, 2)
            rows.append({**run, "variant": variant, **numbers, "ratio": ratio})
            say(str(rows[-1]))
    return {"rows": rows}


def paired(lab: Lab, runs: list[dict[str, Any]], rounds: int) -> dict[str, Any]:
    """Ours beside the readings of the reference, in turn in one process on one thread: medians of CPU seconds an image.

    At least `rounds` turns, and as many as take ours 6 seconds. CPU time, so that other work on the machine counts
    little. The images are compared first: `difference` is the
    largest one of a reading's pixels from ours, as a share of the largest pixel.
    """
    rows = []
    for run in runs:
        torch.manual_seed(0)
        ways = WAYS[run["network"]](**run)
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        with torch.inference_mode():
            made = {name: way() for name, way in ways.items()}
            scale = float(made["ours"].abs().max())
            differences = {name: float((images - made["ours"]).abs().max()) / scale for name, images in made.items()}
            apart = {name: difference for name, difference in differences.items() if not difference < SAME}
            if apart:
                raise GsegkitError(f"{run}: other images than ours: {apart}", "repair the reading before timing it")
            least, spent = (2, 0.0) if lab.tiny else (rounds, SECONDS)
            while len(seconds["ours"]) < least or sum(seconds["ours"]) * run["batch"] < spent:
                for name, way in ways.items():
                    began = time.process_time()
                    way()
                    seconds[name].append((time.process_time() - began) / run["batch"])
        medians = {name: statistics.median(values) for name, values in seconds.items()}
        for name, median in medians.items():
            ratio = round(median / medians["ours"], 2)
            row = {"variant": name, "cpu_seconds_per_image": round(median, 5), "ours_is_faster_by": ratio}
            rows.append({**run, **row, "difference": float(f"{differences[name]:.1e}")})
            say(str(rows[-1]))
    return {"rows": rows}


Ways = dict[str, Callable[[], torch.Tensor]]
SAME = 1e-4  # of the largest pixel: float32 in another order of sums


def _stylegan2(network: str, batch: int) -> Ways:
    arch = StyleGAN2Arch(**ARCHS[network])
    ours = StyleGAN2Network(arch).eval().requires_grad_(False)
    lay_out(ours)
    state, z = _contiguous(ours), torch.randn(batch, arch.z_dim)
    return {
        "ours": lambda: ours(z),
        "weights scaled, in groups": lambda: readings.images(state, arch, z, readings.grouped),
        "activations scaled": lambda: readings.images(state, arch, z, readings.shared),
    }


def _stylegan3(network: str, batch: int) -> Ways:
    arch = StyleGAN3Arch(resolution=64, channel_base=16384, variant="r" if network == "stylegan3-r-64" else "t")
    ours = StyleGAN3Network(arch).eval().requires_grad_(False)
    lay_out(ours)
    state, z = _contiguous(ours), torch.randn(batch, arch.z_dim)
    return {"ours": lambda: ours(z), "plain": lambda: readings3.images(state, arch, z)}


def _biggan(network: str, batch: int) -> Ways:
    state = _golden("biggan-ajbrock", "biggan128-full")
    before = readings_resnet.folded(state)
    ours, z, labels = _residual(biggan_pytorch(dict(state)), batch)
    return {
        "ours": lambda: ours(z, labels),
        "plain": lambda: readings_resnet.biggan(state, z, labels),
        "plain, norms divided out before": lambda: readings_resnet.biggan(before, z, labels),
    }


def _sngan(network: str, batch: int) -> Ways:
    state = _golden("studiogan", "legacy-SNGAN-128-full")
    ours, z, labels = _residual(studiogan(dict(state)), batch)
    return {"ours": lambda: ours(z, labels), "plain": lambda: readings_resnet.sngan(state, z, labels)}


def _residual(found: Found, batch: int) -> tuple[Network, torch.Tensor, torch.Tensor]:
    """The network of a file laid out as the generators do, noise and labels."""
    with torch.device("meta"):
        ours = Network(found.arch)
    ours.load_state_dict(found.state, assign=True)
    ours = ours.to(memory_format=torch.channels_last).eval().requires_grad_(False)
    labels = torch.arange(batch) * 7 % found.arch.num_classes
    return ours, torch.randn(batch, found.arch.z_dim), labels


@cache
def _golden(family: str, case: str) -> dict[str, torch.Tensor]:
    """A full-size network that a closed form fills, under its original names, float32: what the golden tests read."""
    runner = _module(ROOT / "plugins/gsegkit-resgan/tests/golden_runner.py")
    state = runner.fill(runner.load(family)[case])
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}


WAYS: dict[str, Callable[..., Ways]] = {
    **dict.fromkeys(ARCHS, _stylegan2),
    "stylegan3-t-64": _stylegan3,
    "stylegan3-r-64": _stylegan3,
    "biggan-128": _biggan,
    "sngan-128": _sngan,
}


def _contiguous(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.contiguous() for name, value in network.state_dict().items()}
