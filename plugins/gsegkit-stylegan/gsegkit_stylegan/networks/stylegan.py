"""StyleGAN v1 (Karras et al. 2019, "A Style-Based Generator Architecture"), from its layer tables.

Names follow the StyleGAN2 networks: `synthesis.b{r}.conv0` and `conv1` hold a layer's convolution (none for the first
one, which is the constant), noise, bias and style.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gsegkit.taps import TapPoint
from gsegkit_stylegan.config import StyleGANArch
from gsegkit_stylegan.networks.layers import SLOPE, SQRT2, Conv, Dense, blur, filter_2d, normalize
from gsegkit_stylegan.networks.stylegan2 import NoiseSource, StyleNetwork, mapping_widths, named_taps, stored_noise

EPS = 1e-8
BLUR = (1, 2, 1)


class Mapping(nn.Module):
    """f: z -> w; with labels, z and a row of the label matrix are normalised as one vector."""

    w_avg: Tensor

    def __init__(self, arch: StyleGANArch) -> None:
        super().__init__()
        self.arch = arch
        if arch.num_classes:
            self.embed = nn.Module()  # named as in the published files
            size = arch.embed_features or arch.w_dim
            self.embed.register_parameter("weight", nn.Parameter(torch.randn(size, arch.num_classes)))
        for i, (inputs, outputs) in enumerate(pairwise(mapping_widths(arch))):
            setattr(self, f"fc{i}", Dense(inputs, outputs, lr=arch.lr_multiplier, gain=SQRT2))
        self.register_buffer("w_avg", torch.zeros(arch.w_dim))

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """[N, z_dim] float32, labels [N] int64 -> [N, w_dim]."""
        if self.arch.num_classes:
            if labels is None:
                raise ValueError("a class-conditional network needs labels")
            z = torch.cat([z, self.embed.get_parameter("weight").T[labels]], dim=1)
        x = normalize(z)
        for i in range(self.arch.mapping_layers):
            x = F.leaky_relu(getattr(self, f"fc{i}")(x), SLOPE)
        return x


class Layer(nn.Module):
    """Convolution (or none), noise, bias, leaky ReLU, instance normalisation, style."""

    noise_const: Tensor
    filter: Tensor

    def __init__(self, inputs: int, outputs: int, resolution: int, arch: StyleGANArch, kind: str) -> None:
        super().__init__()
        self.kind = kind  # "const", "plain" or "up"
        if kind != "const":
            self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.noise_strength = nn.Parameter(torch.zeros(outputs))
        self.register_buffer("noise_const", torch.randn(resolution, resolution))
        self.affine = Dense(arch.w_dim, 2 * outputs)
        self.scale = SQRT2 / math.sqrt(inputs * 9)
        self.register_buffer("filter", filter_2d(BLUR), persistent=False)

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None) -> Tensor:
        """[N, I, h, w], [N, w_dim], noise [N or 1, 1, r, r] or None for the stored -> [N, O, r, r]."""
        if self.kind == "plain":
            x = F.conv2d(x, (self.weight * self.scale).to(x.dtype), padding=1)
        elif self.kind == "up":
            x = blur(nearest_up_conv(x, (self.weight * self.scale).to(x.dtype)), self.filter, (1, 1))
        noise = self.noise_const[None, None] if noise is None else noise
        shift = noise * self.noise_strength[:, None, None] + self.bias[:, None, None]
        x = F.leaky_relu(x + shift.to(x.dtype), SLOPE)
        var, mean = torch.var_mean(x.float(), dim=(2, 3), correction=0, keepdim=True)
        scale, offset = self.affine(w)[:, :, None, None].chunk(2, dim=1)
        # (x - mean) / std * (y_s + 1) + y_b as one product and one sum over the map.
        scale = (scale + 1) * (var + EPS).rsqrt()
        return torch.addcmul((offset - mean * scale).to(x.dtype), x, scale.to(x.dtype))


def nearest_up_conv(x: Tensor, weight: Tensor) -> Tensor:
    """Nearest up-sampling by 2, then a 3x3 convolution, as one transposed 4x4 convolution with 16 of 36 products.

    Equal to the last bit of rounding, borders included.
    """
    flipped = weight.flip(2, 3).transpose(0, 1)
    padded = F.pad(flipped, (1, 1, 1, 1))
    kernel = padded[:, :, 1:, 1:] + padded[:, :, :-1, 1:] + padded[:, :, 1:, :-1] + padded[:, :, :-1, :-1]
    return F.conv_transpose2d(x, kernel, stride=2, padding=1)


class Block(nn.Module):
    """One resolution: two layers; the last block also makes the image."""

    def __init__(self, resolution: int, arch: StyleGANArch) -> None:
        super().__init__()
        self.resolution = resolution
        channels = arch.channels(resolution)
        if resolution == 4:
            self.const = nn.Parameter(torch.ones(channels, 4, 4))
            self.tap_const = TapPoint()
            self.conv0 = Layer(channels, channels, 4, arch, "const")
        else:
            self.conv0 = Layer(arch.channels(resolution // 2), channels, resolution, arch, "up")
        self.tap_conv0 = TapPoint()
        self.conv1 = Layer(channels, channels, resolution, arch, "plain")
        self.tap_conv1 = TapPoint()
        if resolution == arch.resolution:
            self.torgb = Conv(channels, arch.img_channels, 1)

    def forward(self, x: Tensor | None, ws: Tensor, noise: NoiseSource, dtype: torch.dtype) -> Tensor:
        """Features of the block before -> of this one."""
        name, r = f"b{self.resolution}", self.resolution
        if x is None:
            const = self.const.to(dtype).expand(len(ws), *self.const.shape)
            x = self.tap_const(const.contiguous(memory_format=torch.channels_last))
        x = self.tap_conv0(self.conv0(x, ws[:, 0], noise(f"{name}.conv0", r)))
        return self.tap_conv1(self.conv1(x, ws[:, 1], noise(f"{name}.conv1", r)))


class Synthesis(nn.Module):
    """g: one w per layer -> image."""

    def __init__(self, arch: StyleGANArch) -> None:
        super().__init__()
        self.arch = arch
        for resolution in arch.resolutions:
            setattr(self, f"b{resolution}", Block(resolution, arch))

    def taps(self) -> dict[str, TapPoint]:
        """Named activations, shallow to deep: b4.const, b4.conv0, b4.conv1, b8.conv0 ..."""
        return named_taps(self, ("const", "conv0", "conv1"))

    def forward(self, ws: Tensor, *, noise: NoiseSource = stored_noise, dtype: torch.dtype = torch.float32) -> Tensor:
        """[N, num_ws, w_dim] -> [N, 3, H, W] float32."""
        x: Tensor | None = None
        for i, r in enumerate(self.arch.resolutions):
            x = getattr(self, f"b{r}")(x, ws[:, 2 * i : 2 * i + 2], noise, dtype)
        assert x is not None
        return getattr(self, f"b{self.arch.resolution}").torgb(x.float())


class StyleGANNetwork(StyleNetwork):
    """StyleGAN v1."""

    mapping: Mapping
    synthesis: Synthesis

    def __init__(self, arch: StyleGANArch) -> None:
        super().__init__(arch.num_ws, Mapping(arch), Synthesis(arch))
        self.arch = arch
