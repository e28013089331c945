"""A small file of the format, for the conformance checks."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from gsegkit.seeds import isolated_rng


def write_sample(path: Path) -> None:
    """A generator as PyTorch's DCGAN example saves it, 16 px."""
    with isolated_rng(0):
        network = nn.Sequential()
        for inputs, outputs, place in ((5, 8, (4, 1, 0)), (8, 4, (4, 2, 1))):
            network.extend(
                [nn.ConvTranspose2d(inputs, outputs, *place, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
            )
        network.append(nn.ConvTranspose2d(4, 3, 4, 2, 1, bias=False))
    state = {f"main.{name}": tensor for name, tensor in network.state_dict().items()}
    torch.save({"netG_state_dict": state, "epoch": 1}, path)
