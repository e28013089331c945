"""Speed of StyleGAN2: ours beside a plain reading of the paper, same weights, same machine, same run.

    python benchmarks/generators.py [--device cpu] [--threads 2] [--batches 1 8] [--out results/generators.json]

The plain reading materialises one fused kernel per sample and blurs by a separate dense convolution; it is the one that
the tests compare our networks with. Each case runs in a process of its own, so that peak memory is its own.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
ARCHS = {
    "zoo-64": {"resolution": 64, "channel_base": 1024, "channel_max": 128, "w_dim": 128, "z_dim": 128,
               "mapping_layers": 2},
    "small-64": {"resolution": 64, "channel_base": 4096, "channel_max": 128, "w_dim": 128, "z_dim": 128,
                 "mapping_layers": 2},
    "config-f-256": {"resolution": 256, "channel_base": 32768, "channel_max": 512},
}  # fmt: skip
VARIANTS = ("plain float32", "ours float32", "ours bfloat16")
SECONDS = 6.0  # time spent on each case after warming up


def case(arch_name: str, variant: str, batch: int, device: str, threads: int) -> dict[str, Any]:
    """Images per second and peak memory of one case."""
    import torch
    from gsegkit_stylegan.config import StyleGAN2Arch
    from gsegkit_stylegan.networks.stylegan2 import StyleGAN2Network

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    arch = StyleGAN2Arch(**ARCHS[arch_name])
    network = StyleGAN2Network(arch).to(device).eval().requires_grad_(False)
    network = network.to(memory_format=torch.channels_last)
    z = torch.randn(batch, arch.z_dim, device=device)
    plain = _plain()
    state = {name: value.contiguous() for name, value in network.state_dict().items()}

    def make() -> torch.Tensor:
        if variant.startswith("plain"):
            w = plain.mapping(state, arch, z)
            return plain.synthesis(state, arch, w[:, None].expand(-1, arch.num_ws, -1))
        with torch.autocast(device, torch.bfloat16, enabled=variant.endswith("bfloat16")):
            return network(z)

    def synchronize() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    with torch.inference_mode():
        make()
        synchronize()
        count, began = 0, time.perf_counter()
        while count < 2 or time.perf_counter() - began < SECONDS:
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


def main() -> None:
    """Run all cases and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--archs", nargs="+", default=list(ARCHS))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--case", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        arch_name, variant, batch = options.case
        print(json.dumps(case(arch_name, variant, int(batch), options.device, options.threads)))
        return
    rows = []
    for arch_name in options.archs:
        for batch in options.batches:
            found = {}
            for variant in VARIANTS:
                command = [sys.executable, __file__, "--case", arch_name, variant, str(batch)]
                command += ["--device", options.device, "--threads", str(options.threads)]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                found[variant] = json.loads(done.stdout)
            base = found["plain float32"]["images_per_second"]
            for variant, numbers in found.items():
                ratio = round(numbers["images_per_second"] / base, 2)
                rows.append({"network": arch_name, "batch": batch, "variant": variant, **numbers, "ratio": ratio})
                print(f"{arch_name:14} {batch:3} {variant:14} {numbers['images_per_second']:9.2f}/s "
                      f"{numbers['peak_mb']:6} MB  x{ratio}", flush=True)  # fmt: skip
    if options.out:
        import torch

        facts = {"device": options.device, "threads": options.threads, "torch": torch.__version__, "seed": 0}
        options.out.write_text(json.dumps({**facts, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
