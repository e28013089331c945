"""Convolutions as all networks here use them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm

SLOPE = 0.2  # of the leaky ReLUs
GAIN = 0.02  # of the published initial weights (xavier normal)
SMALLEST = 4  # side of the coarsest map


def conv(
    inputs: int, outputs: int, kernel: int, *, spectral: bool = False, gain: float = 0, **options: Any
) -> nn.Module:
    """A convolution that keeps the size, if `options` do not say otherwise.

    Args:
        inputs: channels that come in.
        outputs: channels that go out.
        kernel: side.
        spectral: whether the weight is divided by its largest singular value, for training.
        gain: of the initial weights, see `published`; 0 = torch's own.
        options: of `nn.Conv2d`.
    """
    made = nn.Conv2d(inputs, outputs, kernel, **{"padding": kernel // 2, **options})
    if gain:
        published(made, gain)
    return spectral_norm(made) if spectral else made


@torch.no_grad()
def published(layer: nn.Conv2d | nn.Linear, gain: float = GAIN) -> None:
    """Give a layer SPADE's initial weights: xavier normal, and no bias. One without data (device "meta") stays so."""
    if layer.weight.is_meta:
        return
    nn.init.xavier_normal_(layer.weight, gain)
    if layer.bias is not None:
        layer.bias.zero_()


def baked(network: nn.Module) -> nn.Module:
    """Put the normalised convolutions in the place of their parts; changes the network, which is in eval mode then."""
    network.eval()  # in training mode, reading a weight would move its spectral vectors
    for module in list(network.modules()):
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
    return network


def halvings(size: tuple[int, int]) -> int:
    """How often a side can be halved until the shorter one would fall below `SMALLEST`."""
    levels = 0
    while min(size) >> (levels + 1) >= SMALLEST:
        levels += 1
    return levels


def padded(maps: Tensor, size: tuple[int, int], multiple: int) -> Tensor:
    """[N, C, H, W] of (H, W) = `size`, continued at the right and at the bottom to a multiple of pixels."""
    height, width = (-side % multiple for side in size)
    return nn.functional.pad(maps, (0, width, 0, height), mode="replicate")
