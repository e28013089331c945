"""The painting network of `class-adaptive`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gsegkit_spade.layers import SLOPE, conv, halvings


class ClassAdaptive(nn.Module):
    """Batch normalisation, then a scale and a shift from a table of classes and, linearly, from the latent."""

    def __init__(self, channels: int, num_labels: int, latent_dim: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.table = nn.Conv2d(num_labels, 2 * channels, 1, bias=False)
        self.style = nn.Linear(latent_dim, 2 * channels)

    def forward(self, x: Tensor, labels: Tensor, z: Tensor) -> Tensor:
        """[N, C, h, w], labels [N, K + 1, h, w], z [N, latent_dim] or [N, K + 1, latent_dim] -> [N, C, h, w]."""
        style = self.style(z)
        spread = style[:, :, None, None] if z.ndim == 2 else torch.einsum("nkc,nkhw->nchw", style, labels)
        scale, shift = (self.table(labels) + spread).chunk(2, dim=1)
        return self.norm(x) * (1 + scale) + shift


class Block(nn.Module):
    """Two modulated 3 x 3 convolutions beside a shortcut, which has no activation."""

    def __init__(self, inputs: int, outputs: int, num_labels: int, latent_dim: int, spectral: bool) -> None:
        super().__init__()
        middle = min(inputs, outputs)
        self.norm_0 = ClassAdaptive(inputs, num_labels, latent_dim)
        self.norm_1 = ClassAdaptive(middle, num_labels, latent_dim)
        self.conv_0 = conv(inputs, middle, 3, spectral=spectral)
        self.conv_1 = conv(middle, outputs, 3, spectral=spectral)
        self.norm_s = ClassAdaptive(inputs, num_labels, latent_dim) if inputs != outputs else None
        self.conv_s = conv(inputs, outputs, 1, spectral=spectral, bias=False) if inputs != outputs else None

    def forward(self, x: Tensor, labels: Tensor, z: Tensor) -> Tensor:
        """[N, inputs, h, w] -> [N, outputs, h, w]."""
        beside = x
        if self.norm_s is not None and self.conv_s is not None:
            beside = self.conv_s(self.norm_s(x, labels, z))
        x = self.conv_0(F.leaky_relu(self.norm_0(x, labels, z), SLOPE))
        return beside + self.conv_1(F.leaky_relu(self.norm_1(x, labels, z), SLOPE))


class PaintingNetwork(nn.Module):
    """From a coarse map, made of latent and mask, to a picture; each level is told the mask and the latent again.

    Args:
        num_classes: K.
        size: (height, width); maps are padded to a multiple of the coarsest, and the picture is cut.
        latent_dim: numbers in a latent.
        width: channels at full size.
        width_max: upper limit of the channels.
        spectral: whether the convolutions are normalised, for training; `baked` takes that away.
    """

    def __init__(
        self, num_classes: int, size: tuple[int, int], latent_dim: int, width: int, width_max: int, *, spectral: bool
    ) -> None:
        super().__init__()
        self.size, labels = size, num_classes + 1
        self.levels = halvings(size)
        self.coarsest = (-(-size[0] // 2**self.levels), -(-size[1] // 2**self.levels))
        channels = [min(width * 2**level, width_max) for level in range(self.levels, -1, -1)]
        self.start = nn.Linear(latent_dim, channels[0] * self.coarsest[0] * self.coarsest[1])
        self.first = nn.Conv2d(labels, channels[0], 3, padding=1)
        ends = zip([channels[0], *channels], channels, strict=False)
        self.blocks = nn.ModuleList([Block(*pair, labels, latent_dim, spectral) for pair in ends])
        self.last = nn.Conv2d(channels[-1], 3, 3, padding=1)

    def forward(self, labels: Tensor, z: Tensor) -> Tensor:
        """Labels [N, K + 1, H, W] float32 as `as_channels` makes them -> [N, 3, H, W] in (-1, 1).

        `z` is [N, latent_dim], or [N, 1 + K, latent_dim] as `Painter.paint` takes it.
        """
        own = z if z.ndim == 2 else z[:, 0]
        if z.ndim == 3:
            z = z.roll(-1, dims=1)  # in the order of the labels, where unknown pixels come last
        height, width = (side * 2**self.levels for side in self.coarsest)
        labels = F.pad(labels, (0, width - self.size[1], 0, height - self.size[0]), mode="replicate")
        coarse = _every(labels, 2**self.levels)
        x = self.start(own).unflatten(1, (-1, *self.coarsest)) + self.first(coarse)
        for index, block in enumerate(self.blocks):
            if index:
                x = F.interpolate(x, scale_factor=2, mode="nearest")
            x = block(x, _every(labels, 2 ** (self.levels - index)), z)
        picture = torch.tanh(self.last(F.leaky_relu(x, SLOPE)))
        return picture[..., : self.size[0], : self.size[1]]


def _every(labels: Tensor, step: int) -> Tensor:
    """The labels in the middle of each step x step square: nearest neighbour."""
    return labels[..., step // 2 :: step, step // 2 :: step]
