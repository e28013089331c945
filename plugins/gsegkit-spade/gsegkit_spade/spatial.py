"""The network of SPADE and OASIS: on each level, convolutions of the mask scale and shift normalised maps.

Park et al., Semantic Image Synthesis with Spatially-Adaptive Normalization, CVPR 2019, arXiv:1903.07291;
Sushko et al., You Only Need Adversarial Supervision for Semantic Image Synthesis, ICLR 2021, arXiv:2012.04781.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from gsegkit.config import Config
from gsegkit_spade.layers import GAIN, SLOPE, conv, halvings, published

MAX_CHANNELS = 65_536
#: Painter -> channels of the coarsest map and of each block, as multiples of the last; whether each doubles the map.
PUBLISHED: dict[str, tuple[tuple[int, ...], tuple[bool, ...]]] = {
    "spade": ((16, 16, 16, 16, 8, 4, 2, 1), (False, True, False, True, True, True, True)),
    "oasis": ((16, 16, 16, 8, 4, 2, 1), (False, True, True, True, True, True)),
}


class SpatialArch(Config):
    """The shape of a network, as its stored record has it."""

    num_classes: int = Field(ge=1, le=255, description="K")
    size: tuple[int, int] = Field(description="(height, width) of mask and picture")
    latent_dim: int = Field(ge=1, le=4096, description="numbers in a latent")
    start: Literal["latent", "labels", "both"] = Field(description="what the coarsest map is made of")
    noise: bool = Field(description="whether the latent, spread over the picture, lies beside the mask everywhere")
    channels: tuple[int, ...] = Field(min_length=2, max_length=32, description="of the coarsest map and of each block")
    doubled: tuple[bool, ...] = Field(description="whether the map is doubled before each block")
    hidden: int = Field(ge=1, le=4096, description="channels between the mask and the scales and shifts")
    kernel: Literal[1, 3, 5, 7] = Field(3, description="side of the convolutions of the mask")
    normalisation: Literal["batch", "instance"] = Field("batch", description="of maps")
    unknown: Literal["last", "first", "none"] = Field("last", description="where the channel of unknown pixels is")
    edges: bool = Field(False, description="whether the last channel marks the edges of regions")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(self.doubled) != len(self.channels) - 1:
            raise ValueError(f"{len(self.channels) - 1} blocks, but {len(self.doubled)} entries of doubled")
        if not all(1 <= count <= MAX_CHANNELS for count in self.channels):
            raise ValueError(f"channels must be 1 .. {MAX_CHANNELS}")
        if not all(1 <= side <= 16_384 for side in self.size):
            raise ValueError("sides must be 1 .. 16384")
        return self

    @property
    def labels(self) -> int:
        """Channels of the mask."""
        return self.num_classes + (self.unknown != "none") + self.edges

    @property
    def coarsest(self) -> tuple[int, int]:
        """(height, width) of the first map."""
        step = 2 ** sum(self.doubled)
        return (-(-self.size[0] // step), -(-self.size[1] // step))


class SpatiallyAdaptive(nn.Module):
    """Normalisation without parameters, then a scale and a shift in every pixel, computed from the mask."""

    def __init__(self, channels: int, inputs: int, arch: SpatialArch) -> None:
        super().__init__()
        kind = nn.BatchNorm2d if arch.normalisation == "batch" else nn.InstanceNorm2d
        self.norm = kind(channels, affine=False)
        self.shared = conv(inputs, arch.hidden, arch.kernel, gain=GAIN)
        self.scale = conv(arch.hidden, channels, arch.kernel, gain=GAIN)
        self.shift = conv(arch.hidden, channels, arch.kernel, gain=GAIN)

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        """[N, C, h, w] and what says how, [N, inputs, h, w] -> [N, C, h, w]."""
        hidden = self.shared(seen).relu()
        result: Tensor = self.norm(x) * (1 + self.scale(hidden)) + self.shift(hidden)
        return result


class SpatialBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut, which has no activation."""

    def __init__(self, inputs: int, outputs: int, seen: int, arch: SpatialArch, spectral: bool) -> None:
        super().__init__()
        middle = min(inputs, outputs)
        self.norm_0 = SpatiallyAdaptive(inputs, seen, arch)
        self.norm_1 = SpatiallyAdaptive(middle, seen, arch)
        self.conv_0 = conv(inputs, middle, 3, spectral=spectral, gain=GAIN)
        self.conv_1 = conv(middle, outputs, 3, spectral=spectral, gain=GAIN)
        self.norm_s = SpatiallyAdaptive(inputs, seen, arch) if inputs != outputs else None
        self.conv_s = conv(inputs, outputs, 1, spectral=spectral, gain=GAIN, bias=False) if inputs != outputs else None

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        """[N, inputs, h, w] -> [N, outputs, h, w]."""
        beside = x
        if self.norm_s is not None and self.conv_s is not None:
            beside = self.conv_s(self.norm_s(x, seen))
        x = self.conv_0(F.leaky_relu(self.norm_0(x, seen), SLOPE))
        return beside + self.conv_1(F.leaky_relu(self.norm_1(x, seen), SLOPE))


class SpatialNetwork(nn.Module):
    """From a coarse map to a picture; each level is told the mask again.

    Args:
        arch: its shape.
        spectral: whether the convolutions are normalised, for training; `baked` takes that away.
    """

    def __init__(self, arch: SpatialArch, *, spectral: bool) -> None:
        super().__init__()
        self.arch, self.size = arch, arch.size
        seen = arch.labels + (arch.latent_dim if arch.noise else 0)
        first, (height, width) = arch.channels[0], arch.coarsest
        self.start = nn.Linear(arch.latent_dim, first * height * width) if arch.start != "labels" else None
        # where the latent makes a map of its own, its noise would only carry the style of a region over its border here
        told = {"latent": 0, "labels": seen, "both": arch.labels}[arch.start]
        self.first = conv(told, first, 3, gain=GAIN) if told else None
        self.blocks = nn.ModuleList([SpatialBlock(*ends, seen, arch, spectral) for ends in pairwise(arch.channels)])
        self.last = conv(arch.channels[-1], 3, 3, gain=GAIN)
        if self.start is not None:
            published(self.start)

    def forward(self, labels: Tensor, z: Tensor) -> Tensor:
        """Labels [N, K + 1, H, W] float32 as `as_channels` makes them -> [N, 3, H, W] in (-1, 1).

        `z` is [N, latent_dim], or [N, 1 + K, latent_dim] as `Painter.paint` takes it where `arch.noise`.
        """
        own = z if z.ndim == 2 else z[:, 0]
        seen, step = self._seen(labels, z), 2 ** sum(self.arch.doubled)
        x = self._coarse(seen[..., ::step, ::step], own)
        for doubled, block in zip(self.arch.doubled, self.blocks, strict=True):
            if doubled:
                step //= 2
                x = F.interpolate(x, scale_factor=2, mode="nearest")
            x = block(x, seen[..., ::step, ::step])
        picture = torch.tanh(self.last(F.leaky_relu(x, SLOPE)))
        return picture[..., : self.size[0], : self.size[1]]

    def _coarse(self, seen: Tensor, z: Tensor) -> Tensor:
        """The first map, [N, C, h, w]."""
        parts = []
        if self.start is not None:
            parts.append(self.start(z).unflatten(1, (-1, *self.arch.coarsest)))
        if self.first is not None:
            parts.append(self.first(seen if self.arch.start == "labels" else seen[:, -self.arch.labels :]))
        return parts[0] if len(parts) == 1 else parts[0] + parts[1]

    def _seen(self, labels: Tensor, z: Tensor) -> Tensor:
        """What every level is told, at full size: noise, mask, edges; continued to a multiple of the coarsest map."""
        arch, told = self.arch, labels
        if arch.unknown == "first":
            told = labels.roll(1, dims=1)
        elif arch.unknown == "none":
            told = labels[:, :-1]
        if arch.edges:
            told = torch.cat([told, edges(labels)], dim=1)
        if arch.noise:
            told = torch.cat([spread(z, labels), told], dim=1)
        elif arch.start == "labels":
            told = told + 0 * z.sum()  # so that a latent without effect stays an input of exported networks
        step = 2 ** sum(arch.doubled)
        height, width = (-(-side // step) * step for side in arch.size)
        return F.pad(told, (0, width - arch.size[1], 0, height - arch.size[0]), mode="replicate")


def spread(z: Tensor, labels: Tensor) -> Tensor:
    """The latent in every pixel: [N, D], or [N, 1 + K, D] by region, and labels [N, K + 1, H, W] -> [N, D, H, W]."""
    if z.ndim == 2:
        return z[:, :, None, None].expand(-1, -1, *labels.shape[2:])
    return torch.einsum("nkd,nkhw->ndhw", z.roll(-1, dims=1), labels)  # in the order of the labels


def edges(labels: Tensor) -> Tensor:
    """1 in the pixels that have a neighbour of another class, left, right, above or below: [N, 1, H, W]."""
    across = (labels[..., 1:] != labels[..., :-1]).any(dim=1, keepdim=True).float()
    down = (labels[..., 1:, :] != labels[..., :-1, :]).any(dim=1, keepdim=True).float()
    beside = torch.maximum(F.pad(across, (1, 0)), F.pad(across, (0, 1)))
    return torch.maximum(beside, torch.maximum(F.pad(down, (0, 0, 1, 0)), F.pad(down, (0, 0, 0, 1))))


@dataclass(frozen=True)
class Plan:
    """`channels` and `doubled` of a `SpatialArch`."""

    channels: tuple[int, ...]
    doubled: tuple[bool, ...]


def short_plan(size: tuple[int, int], width: int, width_max: int) -> Plan:
    """A network with one block for each size, from about 4 px."""
    levels = halvings(size)
    channels = [min(width * 2**level, width_max) for level in range(levels, -1, -1)]
    return Plan((channels[0], *channels), (False, *[True] * levels))


def published_plan(painter: str, width: int, width_max: int) -> Plan:
    """The published network of "spade" or "oasis"; its coarsest map is a 32nd of the size."""
    times, doubled = PUBLISHED[painter]
    return Plan(tuple(min(width * one, width_max) for one in times), doubled)
