"""The discriminator of StyleGAN2: residual blocks, minibatch standard deviation, two dense layers.

With `image_skips`, every resolution also reads the image itself, scaled down, and listens to the block above through
a learned gate that starts closed. A training can then grow: blocks above the current resolution are simply not run.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gsegkit_stylegan.config import StyleGAN2Arch
from gsegkit_stylegan.networks.layers import SQRT2, Conv, Dense, down_conv, filter_2d, halve, leaky

STD_GROUP = 4


class DownConv(nn.Module):
    """Equalised convolution that halves the size."""

    filter: Tensor

    def __init__(self, inputs: int, outputs: int, kernel: int, taps: tuple[float, ...], *, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.scale = 1 / math.sqrt(inputs * kernel * kernel)
        self.register_buffer("filter", filter_2d(taps), persistent=False)

    def forward(self, x: Tensor, gain: float) -> Tensor:
        """[N, I, h, w] -> [N, O, h/2, w/2], times `gain`."""
        x = down_conv(x, (self.weight * (self.scale * gain)).to(x.dtype), self.filter)
        return x if self.bias is None else x + (self.bias * gain).to(x.dtype)[:, None, None]


class DiscriminatorBlock(nn.Module):
    """Two convolutions down to half the size beside a 1x1 skip."""

    def __init__(self, resolution: int, arch: StyleGAN2Arch, image_skips: bool) -> None:
        super().__init__()
        inputs, outputs = arch.channels(resolution), arch.channels(resolution // 2)
        if image_skips or resolution == arch.resolution:
            self.fromrgb = Conv(arch.img_channels, inputs, 1)
        if image_skips and resolution < arch.resolution:
            self.gate = nn.Parameter(torch.zeros(()))
        self.conv0 = Conv(inputs, inputs, 3)
        self.conv1 = DownConv(inputs, outputs, 3, arch.resample_filter)
        self.skip = DownConv(inputs, outputs, 1, arch.resample_filter, bias=False)

    def forward(self, x: Tensor | None, images: Tensor, dtype: torch.dtype) -> Tensor:
        """Features from above (or None) and the image at this resolution -> features at half of it."""
        if hasattr(self, "fromrgb"):
            seen = leaky(self.fromrgb(images.to(dtype), gain=SQRT2))
            x = seen if x is None else seen + x * self.gate.to(dtype)
        y = self.skip(x, gain=math.sqrt(0.5))
        x = leaky(self.conv0(x, gain=SQRT2))
        return leaky(self.conv1(x, gain=1.0)) + y  # sqrt(2) of the activation times sqrt(0.5) of the branch


class Discriminator(nn.Module):
    """Images [N, 3, R, R] -> logits [N], high for real ones."""

    filter: Tensor

    def __init__(self, arch: StyleGAN2Arch, *, image_skips: bool = False) -> None:
        super().__init__()
        self.arch, self.image_skips = arch, image_skips
        for resolution in arch.resolutions[1:]:
            setattr(self, f"b{resolution}", DiscriminatorBlock(resolution, arch, image_skips))
        channels = arch.channels(4)
        self.conv = Conv(channels + 1, channels, 3)
        self.fc = Dense(channels * 16, channels)
        self.out = Dense(channels, max(arch.num_classes, 1) if not arch.num_classes else arch.w_dim)
        if arch.num_classes:
            self.embed = Dense(arch.num_classes, arch.w_dim)
        self.register_buffer("filter", filter_2d(arch.resample_filter), persistent=False)

    def forward(self, images: Tensor, labels: Tensor | None = None, dtype: torch.dtype = torch.float32) -> Tensor:
        """Judge images of the network's own resolution, or with `image_skips` of a lower one."""
        images = images.contiguous(memory_format=torch.channels_last)
        x: Tensor | None = None
        for r in (r for r in reversed(self.arch.resolutions[1:]) if r <= images.shape[-1]):
            if r < images.shape[-1] and self.image_skips:
                images = halve(images, self.filter)
            x = getattr(self, f"b{r}")(x, images, dtype)
        assert x is not None
        x = x.float()
        x = torch.cat([x, minibatch_std(x)], dim=1)
        x = leaky(self.conv(x, gain=SQRT2)).contiguous()
        x = leaky(self.fc(x.flatten(1), gain=SQRT2))
        x = self.out(x)
        if self.arch.num_classes:  # projection on the embedded label
            assert labels is not None
            onehot = F.one_hot(labels, self.arch.num_classes).to(x.dtype)
            embedded = F.normalize(self.embed(onehot), dim=1) * math.sqrt(self.arch.w_dim)
            return (x * embedded).sum(dim=1) / math.sqrt(self.arch.w_dim)
        return x[:, 0]


def minibatch_std(x: Tensor, group: int = STD_GROUP) -> Tensor:
    """[N, C, h, w] -> [N, 1, h, w]: mean over features of the standard deviation within groups of samples."""
    n, _, h, w = x.shape
    size = group if n % group == 0 else n
    y = x.reshape(size, n // size, *x.shape[1:])
    y = ((y - y.mean(dim=0)).square().mean(dim=0) + 1e-8).sqrt()  # [groups, C, h, w]
    y = y.mean(dim=(1, 2, 3))
    return y.repeat(size).reshape(n, 1, 1, 1).expand(n, 1, h, w)
