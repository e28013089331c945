"""The two networks that are trained: the alpha network (Labels4Free, Fig. 3) and the weak discriminator.

Both are made from a list of sizes, so that any generator fits: square or not, any width, any number of resolutions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gsegkit.types import FeatureSpec

WIDTH = 6  # channels that one level hands to the next: 3 from each of its two tensors
SLOPE = 0.2  # of leaky ReLUs
STD_GROUP = 4  # samples whose spread the discriminator looks at
TOP = 4  # side of the discriminator's last maps


@dataclass(frozen=True)
class Level:
    """One resolution of the generator: its size and one or two named tensors."""

    height: int
    width: int
    names: tuple[str, ...]
    channels: tuple[int, ...]

    @staticmethod
    def of(specs: Sequence[FeatureSpec]) -> Level:
        """The level of some maps of one size."""
        names, channels = tuple(s.name for s in specs), tuple(s.channels for s in specs)
        return Level(specs[0].height, specs[0].width, names, channels)


class AlphaNetwork(nn.Module):
    """A: features of the frozen generator -> alpha, [N, 1, H, W] in (0, 1).

    Only 1 x 1 convolutions: pixels meet through the upsampling alone. Each level squeezes its tensors to 6 channels,
    takes in what the level below handed up, and hands 6 channels up; the last level adds instead of joining.

    Args:
        levels: shallow to deep; see `taps.levels_of`.
        height, width: of the images.
    """

    def __init__(self, levels: Sequence[Level], height: int, width: int) -> None:
        super().__init__()
        self.levels, self.size = tuple(levels), (height, width)
        self.squeeze = nn.ModuleList(
            nn.ModuleList(nn.Conv2d(c, WIDTH // len(level.channels), 1) for c in level.channels) for level in levels
        )
        self.join = nn.ModuleList(nn.Conv2d(2 * WIDTH, WIDTH, 1) for _ in range(max(len(levels) - 2, 0)))
        self.alpha = nn.Conv2d(WIDTH, 1, 1)

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """Name -> [N, C, h, w] float32, at least the levels' own."""
        carried: Tensor | None = None
        last = len(self.levels) - 1
        for i, (level, squeeze) in enumerate(zip(self.levels, self.squeeze, strict=True)):
            squeezed = [conv(features[name]) for conv, name in zip(squeeze.children(), level.names, strict=True)]
            current = torch.cat(squeezed, dim=1)  # [N,6,h,w]
            if carried is None:
                carried = current
            elif i < last:
                carried = F.leaky_relu(self.join[i - 1](torch.cat([current, carried], dim=1)), SLOPE)
            else:
                carried = current + carried
            if i < last:
                carried = upsample(carried, (self.levels[i + 1].height, self.levels[i + 1].width))
        assert carried is not None
        return torch.sigmoid(self.alpha(upsample(carried, self.size)))

    def invert(self) -> None:
        """From now on 1 - alpha."""
        with torch.no_grad():
            for parameter in self.alpha.parameters():
                parameter.neg_()


def upsample(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Bicubic with aligned corners, as in the released code; [N, C, h, w] -> [N, C, *size]."""
    if tuple(maps.shape[-2:]) == size:
        return maps
    return F.interpolate(maps, size=size, mode="bicubic", align_corners=True)


class Discriminator(nn.Module):
    """D, deliberately weak: StyleGAN2's residual discriminator with equalised weights; images -> logits [N].

    Trained from scratch, so that it does not yet know how light and shadow tie object and background (Sec. 3.3 a).

    Args:
        height, width: of the images.
        base, most: channels at a side of r pixels are base / r, at most `most`.
    """

    def __init__(self, height: int, width: int, base: int, most: int) -> None:
        super().__init__()
        side, blocks = min(height, width), []
        channels = _channels(side, base, most)
        self.read = Equal(3, channels, 1)
        while side >= 2 * TOP:
            outputs = _channels(side // 2, base, most)
            blocks.append(Residual(channels, outputs))
            side, channels = side // 2, outputs
        self.blocks = nn.ModuleList(blocks)
        self.mix = Equal(channels + 1, channels, 3)
        self.dense = Equal(channels * TOP * TOP, channels, 0)
        self.output = Equal(channels, 1, 0)
        self.register_load_state_dict_pre_hook(_stored_names)  # type: ignore[no-untyped-call]

    def forward(self, images: Tensor) -> Tensor:
        """[N, 3, H, W] float32 in [-1, 1] -> [N], high for real ones."""
        x = leaky(self.read(images))
        for block in self.blocks:
            x = block(x)
        x = torch.cat([x, spread(x)], dim=1)
        x = F.adaptive_avg_pool2d(leaky(self.mix(x)), TOP)  # as it is when the side is a power of two
        return self.output(leaky(self.dense(x.flatten(1))))[:, 0]


class Residual(nn.Module):
    """Two 3 x 3 convolutions to half the size, beside a 1 x 1 skip."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv0, self.conv1 = Equal(inputs, inputs, 3), Equal(inputs, outputs, 3)
        self.skip = Equal(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[N, I, h, w] -> [N, O, h // 2, w // 2]."""
        y = self.skip(F.avg_pool2d(x, 2))
        x = leaky(self.conv1(F.avg_pool2d(leaky(self.conv0(x)), 2)))
        return (x + y) * math.sqrt(0.5)


class Equal(nn.Module):
    """Convolution (`kernel` > 0) or dense layer (0), its weights scaled when used (Karras et al. 2018)."""

    def __init__(self, inputs: int, outputs: int, kernel: int, bias: bool = True) -> None:
        super().__init__()
        shape = (outputs, inputs, kernel, kernel) if kernel else (outputs, inputs)
        self.weight = nn.Parameter(torch.randn(shape))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.scale, self.padding = 1 / math.sqrt(inputs * max(kernel, 1) ** 2), kernel // 2

    def forward(self, x: Tensor) -> Tensor:
        """[N, I, h, w] or [N, I] -> the same with O channels."""
        weight = self.weight * self.scale
        if weight.ndim == 2:
            return F.linear(x, weight, self.bias)
        return F.conv2d(x, weight, self.bias, padding=self.padding)


def leaky(x: Tensor) -> Tensor:
    """Leaky ReLU that keeps the variance."""
    return F.leaky_relu(x, SLOPE) * math.sqrt(2)


def spread(x: Tensor, group: int = STD_GROUP) -> Tensor:
    """Minibatch standard deviation: [N, C, h, w] -> [N, 1, h, w], equal within groups of samples."""
    n, _, h, w = x.shape
    size = group if n % group == 0 else n
    y = x.reshape(size, n // size, *x.shape[1:])
    y = ((y - y.mean(dim=0)).square().mean(dim=0) + 1e-8).sqrt().mean(dim=(1, 2, 3))  # [groups]
    return y.repeat(size).reshape(n, 1, 1, 1).expand(n, 1, h, w)


def _channels(side: int, base: int, most: int) -> int:
    return max(1, min(base // side, most))


def _stored_names(module: nn.Module, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Trainings stopped under an earlier version call the last layer `judge`."""
    for name in [name for name in state if name.startswith(f"{prefix}judge.")]:
        state[name.replace("judge.", "output.", 1)] = state.pop(name)
