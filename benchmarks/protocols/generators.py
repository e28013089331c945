"""Speed of StyleGAN2: ours beside a plain reading of the paper, same weights, same machine, same run.

The plain reading materialises one fused kernel per sample and blurs by a separate dense convolution; it is the one that
the tests compare our networks with. Each case runs in a process of its own, so that peak memory is its own.
"""

from __future__ import annotations

import importlib.util
import resource
import time
from typing import Any

import torch
from gsegkit_stylegan.config import StyleGAN2Arch
from gsegkit_stylegan.networks.stylegan2 import StyleGAN2Network

from benchmarks.protocols.common import ROOT, Lab, say

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
    ours = ours.to(memory_format=torch.channels_last)
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
    path = ROOT / "plugins/gsegkit-stylegan/tests/plain.py"
    spec = importlib.util.spec_from_file_location("plain", path)
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
