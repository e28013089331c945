"""What pictures are judged by: patches of mask and picture, or a network that segments real and painted pictures."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gsegkit_spade.layers import SLOPE, conv, halvings, padded

MAX_LEVELS = 6  # of the segmenting discriminator, as published


class Discriminators(nn.Module):
    """Two of equal form that score patches of (mask, picture); the second sees half the size.

    Args:
        num_classes: K.
        width: channels of the first layer; they double in each of the others.
        layers: before the score.
        gain: of the initial weights, see `conv`.
    """

    def __init__(self, num_classes: int, width: int, layers: int, gain: float = 0) -> None:
        super().__init__()
        self.scales = nn.ModuleList([Patches(num_classes + 4, width, layers, gain) for _ in range(2)])

    def forward(self, labels: Tensor, pictures: Tensor) -> list[list[Tensor]]:
        """For each scale its inner maps and, as the last of the list, its scores [N, 1, h, w]."""
        seen, found = torch.cat([labels, pictures], dim=1), []
        for scale in self.scales:
            found.append(scale(seen))
            seen = F.avg_pool2d(seen, 3, stride=2, padding=1, count_include_pad=False)
        return found


class Patches(nn.Module):
    """A patch discriminator: 4 x 4 convolutions, spectral and instance normalisation between the first and the last."""

    def __init__(self, inputs: int, width: int, layers: int, gain: float) -> None:
        super().__init__()
        steps: list[nn.Module] = [conv(inputs, width, 4, gain=gain, stride=2)]
        for layer in range(1, layers):
            ends, stride = (width * 2 ** (layer - 1), width * 2**layer), 1 if layer == layers - 1 else 2
            inner = conv(*ends, 4, spectral=True, gain=gain, stride=stride, bias=False)
            steps.append(nn.Sequential(inner, nn.InstanceNorm2d(ends[1])))
        self.steps = nn.ModuleList(steps)
        self.score = conv(width * 2 ** (layers - 1), 1, 4, gain=gain)

    def forward(self, x: Tensor) -> list[Tensor]:
        """The maps of every layer, then the scores."""
        maps = []
        for step in self.steps:
            x = F.leaky_relu(step(x), SLOPE)
            maps.append(x)
        return [*maps, self.score(x)]


class SegmentingDiscriminator(nn.Module):
    """A U-Net that finds K classes in true pictures, and one more, painted, everywhere in painted ones.

    Args:
        num_classes: K.
        size: (height, width) of the pictures.
        width: channels of the first two levels; they double on every second one.
        width_max: upper limit of the channels.
        gain: of the initial weights, see `conv`.
    """

    def __init__(self, num_classes: int, size: tuple[int, int], width: int, width_max: int, gain: float = 0) -> None:
        super().__init__()
        self.size, self.levels = size, min(max(halvings(size), 1), MAX_LEVELS)
        channels = [min(width * 2 ** (level // 2), width_max) for level in range(self.levels)]
        ends = pairwise([3, *channels])
        self.down = nn.ModuleList([_Residual(*pair, gain, first=not level) for level, pair in enumerate(ends)])
        outputs = [*channels[-2::-1], max(width // 2, 1)]
        inputs = [*channels[-1:], *(2 * one for one in outputs[:-1])]
        self.up = nn.ModuleList([_Residual(*pair, gain) for pair in zip(inputs, outputs, strict=True)])
        self.last = conv(outputs[-1], num_classes + 1, 1, gain=gain)

    def forward(self, pictures: Tensor) -> Tensor:
        """[N, 3, H, W] in [-1, 1] -> logits [N, 1 + K, H, W]: painted, then the classes."""
        x, beside = padded(pictures, self.size, 2**self.levels), list[Tensor]()
        for block in self.down:
            x = F.avg_pool2d(block(x), 2)
            beside.append(x)
        beside.pop()
        for block in self.up:
            x = block(F.interpolate(x, scale_factor=2, mode="nearest"))
            if beside:
                x = torch.cat([x, beside.pop()], dim=1)
        logits: Tensor = self.last(x)[..., : self.size[0], : self.size[1]]
        return logits


class _Residual(nn.Module):
    """Two 3 x 3 convolutions, each after a leaky ReLU (but for the first of all), beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, gain: float, *, first: bool = False) -> None:
        super().__init__()
        self.first = first
        self.conv_0 = conv(inputs, outputs, 3, spectral=True, gain=gain)
        self.conv_1 = conv(outputs, outputs, 3, spectral=True, gain=gain)
        self.conv_s = conv(inputs, outputs, 1, spectral=True, gain=gain) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, h, w] -> [N, outputs, h, w]."""
        inside = self.conv_0(x if self.first else F.leaky_relu(x, SLOPE))
        result: Tensor = self.conv_s(x) + self.conv_1(F.leaky_relu(inside, SLOPE))
        return result
