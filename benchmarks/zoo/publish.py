"""Make a zoo entry of a StyleGAN2 training: state.safetensors, component.json, card.json, samples.png.

    python benchmarks/zoo/publish.py TRAINING_FOLDER facts.json OUT_FOLDER

TRAINING_FOLDER is what `gsegkit train-generator` was given as --out (its checkpoint.safetensors is read, so a training
that still runs can be published); facts.json holds what only a person knows: data, licence, attribution, command ...
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import safetensors.torch
import torch
from gsegkit_stylegan.config import StyleGAN2Arch, StyleGAN2Config
from gsegkit_stylegan.networks.stylegan2 import StyleGAN2Network
from gsegkit_stylegan.stylegan2 import StyleGAN2

from gsegkit import __version__
from gsegkit.images import grid, to_pixels, write_png
from gsegkit.parts import STATE_FILE, save_part
from gsegkit.seeds import sample_seeds
from gsegkit.storage import atomic_write_json, file_hash
from gsegkit.tensors import load_tree

W_SAMPLES = 4096  # of the mean w that truncation pulls to


def main(training: Path, facts_file: Path, out: Path) -> None:
    facts = json.loads(facts_file.read_text())
    saved = load_tree(training / "checkpoint.safetensors")
    state = saved["state"]["G_ema"]
    arch = StyleGAN2Arch(**facts["arch"])
    network = StyleGAN2Network(arch)
    network.load_state_dict(state)
    with torch.no_grad():  # the running mean lags behind the averaged weights: take it from them
        z = torch.randn(W_SAMPLES, arch.z_dim, generator=torch.Generator().manual_seed(0))
        network.mapping.w_avg.copy_(network.mapping(z).mean(dim=0))
    generator = StyleGAN2(StyleGAN2Config(weights="none", **arch.model_dump()))
    generator.load_state_dict(network.state_dict())
    generator.licence, generator.fit_rule = facts["licence"], facts["fit_rule"]
    generator.mirrored = facts["mirrored"]
    out.mkdir(parents=True, exist_ok=True)
    save_part(generator, out, "generator", "stylegan2")
    images = generator.sample(sample_seeds(0, "preview", 0, 60)).images
    write_png(out / "samples.png", grid(to_pixels(images), 12))
    card = {
        "format": 1,
        "generator": "stylegan2",
        **facts,
        "images_shown": facts.get("images_shown") or int(saved["done"]) * facts["batch"],
        "parameters": sum(p.numel() for p in network.parameters()),
        "bytes": (out / STATE_FILE).stat().st_size,
        "gsegkit": __version__,
        "torch": torch.__version__.split("+")[0],
        "sha256": file_hash(out / STATE_FILE),
    }
    atomic_write_json(out / "card.json", card)


if __name__ == "__main__":
    # A bare read back through safetensors proves that nothing but tensors was written.
    main(*(Path(argument) for argument in sys.argv[1:4]))
    safetensors.torch.load_file(Path(sys.argv[3]) / STATE_FILE)
