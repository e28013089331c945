"""Go on at twice the resolution: a checkpoint of a growing StyleGAN2 training, for a network with more blocks.

    python benchmarks/zoo/grow.py CHECKPOINT RESOLUTION OUT

A growing training does not run the blocks above its present resolution, so it is the same training with or without
them. CHECKPOINT is the checkpoint.safetensors of one with `grow_from`; OUT gets one that `gsegkit train-generator`
continues with the same options and `gen.resolution=RESOLUTION`. New blocks start as they do in a growing training.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from gsegkit_stylegan.config import StyleGAN2Arch
from gsegkit_stylegan.config_train import TrainOptions
from gsegkit_stylegan.networks.stylegan2 import StyleGAN2Network
from gsegkit_stylegan.training.photographs import RealImages
from gsegkit_stylegan.training.stylegan2 import StyleGAN2Trainer
from torch import Tensor, nn

from gsegkit.context import RunContext
from gsegkit.tensors import load_tree, save_tree
from gsegkit.training import ImageBank

CHANNEL_BASE, CHANNEL_MAX = 1024, 128  # of the zoo's networks
LATENT = {"z_dim": 128, "w_dim": 128, "mapping_layers": 2}


def main(checkpoint: Path, resolution: int, out: Path) -> None:
    saved = load_tree(checkpoint)
    state = saved["state"]
    small, large = (_trainer(side) for side in (_resolution(state["G"]), resolution))
    for name in ("G", "D", "G_ema"):
        state[name] = {**getattr(large, name).state_dict(), **state[name]}
    state["G_ema"] |= {key: value for key, value in state["G"].items() if f".b{resolution}." in key}
    for net, adam in (("G", "adam_G"), ("D", "adam_D")):
        state[adam] = _moments(state[adam], getattr(small, net), getattr(large, net))
    save_tree(out / "checkpoint.safetensors", saved)


def _trainer(resolution: int) -> StyleGAN2Trainer:
    arch = StyleGAN2Arch(resolution=resolution, channel_base=CHANNEL_BASE, channel_max=CHANNEL_MAX, **LATENT)
    pixels = torch.zeros(2, 3, resolution, resolution, dtype=torch.uint8)
    reals = RealImages(ImageBank.of_pixels(pixels), 2, "none", 0)
    options = TrainOptions(grow_from=16)
    return StyleGAN2Trainer(StyleGAN2Network(arch), options, reals, RunContext(folder=Path(), seed=1))


def _resolution(state: dict[str, Tensor]) -> int:
    return max(int(key.split(".")[1][1:]) for key in state if key.startswith("synthesis.b"))


def _moments(state: dict[str, Any], small: nn.Module, large: nn.Module) -> dict[str, Any]:
    """Adam's state, whose parameters are known by their place in the network's order."""
    places = {name: place for place, (name, _) in enumerate(large.named_parameters())}
    moments = {places[name]: state["state"][place] for place, (name, _) in enumerate(small.named_parameters())}
    (group,) = state["param_groups"]
    return {"state": moments, "param_groups": [{**group, "params": list(range(len(places)))}]}


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
