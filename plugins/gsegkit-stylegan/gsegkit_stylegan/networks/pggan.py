"""Progressive GAN (Karras et al. 2018, "Progressive Growing of GANs"), fully grown, from its layer tables.

Names follow the StyleGAN2 networks: `synthesis.b4.conv0` is the dense layer (kept as a 4x4 kernel), `conv1` the first
convolution; at every further resolution `conv0` up-samples. Only the last `torgb` is used and kept.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gsegkit.taps import TapPoint
from gsegkit_stylegan.config import PGGANArch
from gsegkit_stylegan.networks.layers import SLOPE, SQRT2, Conv, normalize
from gsegkit_stylegan.networks.stylegan import nearest_up_conv
from gsegkit_stylegan.networks.stylegan2 import NoiseSource, named_taps, stored_noise


class Layer(nn.Module):
    """Convolution with bias and leaky ReLU; `kind` "dense" (z -> 4x4), "plain" or "up"."""

    def __init__(self, inputs: int, outputs: int, kind: str) -> None:
        super().__init__()
        side = 4 if kind == "dense" else 3
        self.kind = kind
        self.weight = nn.Parameter(torch.randn(outputs, inputs, side, side))
        self.bias = nn.Parameter(torch.zeros(outputs))
        # The dense layer's gain is sqrt(2) / 4 over sqrt(inputs); for it the 16 positions are outputs.
        self.scale = SQRT2 / 4 / math.sqrt(inputs) if kind == "dense" else SQRT2 / math.sqrt(inputs * 9)

    def forward(self, x: Tensor) -> Tensor:
        """[N, I, h, w] (or [N, I] for the dense layer) -> [N, O, r, r], before PixelNorm."""
        weight = (self.weight * self.scale).to(x.dtype)
        if self.kind == "dense":
            flat = F.linear(x, weight.permute(2, 3, 0, 1).reshape(-1, weight.shape[1]))
            x = flat.reshape(len(x), 4, 4, -1).permute(0, 3, 1, 2)  # channels last
        elif self.kind == "up":
            x = nearest_up_conv(x, weight)
        else:
            x = F.conv2d(x, weight, padding=1)
        return F.leaky_relu(x + self.bias.to(x.dtype)[:, None, None], SLOPE)


class Block(nn.Module):
    """One resolution. Named activations are taken before PixelNorm, as the published segmentation methods do."""

    def __init__(self, resolution: int, arch: PGGANArch) -> None:
        super().__init__()
        channels = arch.channels(resolution)
        if resolution == 4:
            self.conv0 = Layer(arch.z_dim + arch.num_classes, channels, "dense")
        else:
            self.conv0 = Layer(arch.channels(resolution // 2), channels, "up")
        self.tap_conv0 = TapPoint()
        self.conv1 = Layer(channels, channels, "plain")
        self.tap_conv1 = TapPoint()
        if resolution == arch.resolution:
            self.torgb = Conv(channels, arch.img_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Features of the block before -> of this one, normalised."""
        x = normalize(self.tap_conv0(self.conv0(x)))
        return normalize(self.tap_conv1(self.conv1(x)))


class Synthesis(nn.Module):
    """z (with the one-hot label behind it) -> image."""

    def __init__(self, arch: PGGANArch) -> None:
        super().__init__()
        self.arch = arch
        for resolution in arch.resolutions:
            setattr(self, f"b{resolution}", Block(resolution, arch))

    def taps(self) -> dict[str, TapPoint]:
        """Named activations, shallow to deep: b4.conv0, b4.conv1, b8.conv0 ..."""
        return named_taps(self, ("conv0", "conv1"))

    def forward(
        self, inputs: Tensor, *, noise: NoiseSource = stored_noise, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """[N, z_dim + num_classes] -> [N, 3, H, W] float32; there is no noise."""
        x = normalize(inputs).to(dtype)
        for r in self.arch.resolutions:
            x = getattr(self, f"b{r}")(x)
        return getattr(self, f"b{self.arch.resolution}").torgb(x.float())


class PGGANNetwork(nn.Module):
    """The synthesis network alone: a PGGAN has no mapping."""

    def __init__(self, arch: PGGANArch) -> None:
        super().__init__()
        self.arch = arch
        self.synthesis = Synthesis(arch)

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """[N, z_dim], labels [N] int64 -> images."""
        return self.synthesis(self.inputs(z, labels))

    def inputs(self, z: Tensor, labels: Tensor | None) -> Tensor:
        """The latents with their one-hot labels behind them."""
        if not self.arch.num_classes:
            return z
        if labels is None:
            raise ValueError("a class-conditional network needs labels")
        return torch.cat([z, F.one_hot(labels, self.arch.num_classes).to(z.dtype)], dim=1)
