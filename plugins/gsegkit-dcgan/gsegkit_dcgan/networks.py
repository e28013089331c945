"""The networks: a generator built from a list of layers, and the discriminator that trains it."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gsegkit_dcgan.config import DCGANArch, LayerSpec

INIT_STD = 0.02  # Radford et al.: all weights N(0, 0.02)


class Layer(nn.Module):
    """Linear map or convolution, batch normalisation, leaky ReLU; its output is the feature `layer{j}`."""

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__()
        self.spec = spec
        self.op: nn.Linear | nn.Conv2d | nn.ConvTranspose2d
        self.norm: nn.BatchNorm1d | nn.BatchNorm2d | None = None
        if spec.kind == "linear":
            self.op = nn.Linear(spec.inputs, spec.outputs * spec.kernel**2, bias=spec.bias)
        elif spec.kind == "conv":
            self.op = nn.Conv2d(spec.inputs, spec.outputs, spec.kernel, spec.stride, spec.padding, bias=spec.bias)
        else:
            self.op = nn.ConvTranspose2d(
                spec.inputs, spec.outputs, spec.kernel, spec.stride, spec.padding, spec.output_padding, bias=spec.bias
            )
        nn.init.normal_(self.op.weight, std=INIT_STD)
        if spec.norm == "feature":
            self.norm = nn.BatchNorm1d(spec.outputs * spec.kernel**2, eps=spec.eps)
        elif spec.norm == "channel":
            self.norm = nn.BatchNorm2d(spec.outputs, eps=spec.eps)
        if self.norm is not None:
            nn.init.normal_(self.norm.weight, mean=1.0, std=INIT_STD)

    def forward(self, x: Tensor) -> Tensor:
        """[N, I, h, w] -> [N, O, H, W]."""
        return self.finish(self.linear(x))

    def linear(self, x: Tensor) -> Tensor:
        """The part before the normalisation."""
        x = self.op(x.flatten(1) if self.spec.kind == "linear" else x)
        return x if self.spec.kind != "linear" or self.spec.norm == "feature" else self._maps(x)

    def finish(self, x: Tensor) -> Tensor:
        """Normalisation and activation."""
        if self.norm is not None:
            x = self.norm(x)
        if self.spec.slope < 1:
            x = F.leaky_relu(x, self.spec.slope)
        return self._maps(x) if x.ndim == 2 else x

    def _maps(self, x: Tensor) -> Tensor:
        return x.view(len(x), self.spec.outputs, self.spec.kernel, self.spec.kernel)


class GeneratorNet(nn.Module):
    """Noise -> image."""

    def __init__(self, arch: DCGANArch) -> None:
        super().__init__()
        self.arch = arch
        self.layers = nn.ModuleList(Layer(spec) for spec in arch.layers)

    def forward(self, z: Tensor) -> Tensor:
        """[N, z_dim] float32 -> [N, 3, H, W] float32 in [-1, 1]; grey networks repeat their one channel."""
        x = z[:, :, None, None]
        for layer in self.layers:
            x = layer(x)
        x = torch.tanh(x) if self.arch.output == "tanh" else torch.sigmoid(x) * 2 - 1
        return x.expand(-1, 3, -1, -1)

    def fix_statistics(self, z: Tensor) -> None:
        """Store the batch statistics of [N, z_dim] as the running ones, layer by layer.

        For networks that were trained and sampled with the statistics of each batch: afterwards an image depends on
        its own latent only, and equals what the network gives in a batch as large as this one.
        """
        x = z[:, :, None, None]
        for layer in self.layers:
            assert isinstance(layer, Layer)
            x = layer.linear(x)
            if layer.norm is not None:
                over = [axis for axis in range(x.ndim) if axis != 1]
                variance, mean = torch.var_mean(x, dim=over, correction=0)
                layer.norm.running_mean, layer.norm.running_var = mean, variance
            x = layer.finish(x)


class Discriminator(nn.Module):
    """Image -> one number: strided convolutions with leaky ReLU, no normalisation (it would tie a batch together)."""

    def __init__(self, resolution: int, channels: int, channel_max: int) -> None:
        super().__init__()
        steps = resolution.bit_length() - 3
        widths = [3, *(min(channels * 2**i, channel_max) for i in range(steps))]
        convs = [nn.Conv2d(a, b, 4, stride=2, padding=1) for a, b in pairwise(widths)]
        self.convs = nn.ModuleList(convs)
        self.last = nn.Linear(widths[-1] * 16, 1)

    def forward(self, images: Tensor) -> Tensor:
        """[N, 3, H, W] in [-1, 1] -> [N]; large = real."""
        x = images
        for conv in self.convs:
            x = F.leaky_relu(conv(x), 0.2)
        return self.last(x.flatten(1))[:, 0]


def image_size(arch: DCGANArch) -> list[tuple[int, int]]:
    """(channels, side) after each layer."""
    sizes, side = [], 1
    for spec in arch.layers:
        if spec.kind == "linear":
            side = spec.kernel
        elif spec.kind == "conv":
            side = (side + 2 * spec.padding - spec.kernel) // spec.stride + 1
        else:
            side = (side - 1) * spec.stride - 2 * spec.padding + spec.kernel + spec.output_padding
        sizes.append((spec.outputs, side))
    return sizes
