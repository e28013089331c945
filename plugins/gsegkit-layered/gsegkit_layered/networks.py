"""The networks: two generators that share the public code, a discriminator, and the heads that guess the codes.

After the paper's Appendix A and FineGAN, whose gated units are ReLUs here. What the paper's text lost and where each
value comes from is told in config.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.nn.utils.parametrize import is_parametrized

from gsegkit_layered.config import Widths

LEAK = 0.2  # of the discriminator's leaky ReLU
BN_STD = 0.02  # spread of the normalisation's initial weights


@dataclass(frozen=True)
class Codes:
    """Latent codes of a batch.

    Attributes:
        z: [N, z_dim] float32, public: reaches background and foreground.
        p: [N, P] float32, parent of the private code: reaches mask and colours; P may be 0.
        c: [N, C] float32, private code: reaches the colours, and in a normal code the mask; C may be 0.
    """

    z: Tensor
    p: Tensor
    c: Tensor


@dataclass(frozen=True)
class Layers:
    """What the generators paint: b and f [N, 3, H, W] in [-1, 1], m [N, 1, H, W] in (0, 1)."""

    b: Tensor
    f: Tensor
    m: Tensor


# ---- generators ----------------------------------------------------------------------------------------------------


class Stem(nn.Module):
    """Code -> [N, C, 4, 4]."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs * 16, bias=False)
        self.norm = nn.BatchNorm1d(outputs * 16)

    def forward(self, code: Tensor) -> Tensor:
        """[N, I] -> [N, C, 4, 4]."""
        return F.relu(self.norm(self.linear(code))).view(len(code), -1, 4, 4)


class Block(nn.Module):
    """Convolution, normalisation, ReLU; with `up`, the maps are doubled first."""

    def __init__(self, inputs: int, outputs: int, up: bool = False) -> None:
        super().__init__()
        self.up = up
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, maps: Tensor) -> Tensor:
        """[N, I, h, w] -> [N, O, h, w] or [N, O, 2h, 2w]."""
        if self.up:
            maps = F.interpolate(maps, scale_factor=2.0, mode="nearest")
        return F.relu(self.norm(self.conv(maps)))


class Residual(nn.Module):
    """Two convolutions around which the input is added; nothing after the sum."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = Block(channels, channels)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, maps: Tensor) -> Tensor:
        """[N, C, h, w] -> the same shape."""
        out: Tensor = maps + self.norm(self.conv(self.first(maps)))
        return out


class Trunk(nn.Module):
    """Code -> maps at the image's size: a stem and doublings."""

    def __init__(self, inputs: int, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.levels = nn.ModuleList([Stem(inputs, channels[0])])
        self.levels.extend(Block(a, b, up=True) for a, b in pairwise(channels))

    def forward(self, code: Tensor) -> Tensor:
        """[N, I] -> [N, channels[-1], H, W]."""
        for level in self.levels:
            code = level(code)
        return code


class Stage(nn.Module):
    """Maps and a code tiled over them -> maps."""

    def __init__(self, code: int, inputs: int, width: int, outputs: int, residuals: int) -> None:
        super().__init__()
        blocks: list[nn.Module] = [Block(code + inputs, width)]
        blocks += [Residual(width) for _ in range(residuals)]
        self.blocks = nn.Sequential(*blocks, Block(width, outputs))

    def forward(self, code: Tensor, maps: Tensor) -> Tensor:
        """[N, code] and [N, I, H, W] -> [N, O, H, W]."""
        tiled = code[:, :, None, None].expand(-1, -1, *maps.shape[2:]).to(maps.dtype)
        out: Tensor = self.blocks(torch.cat([tiled, maps], dim=1))
        return out


class Background(nn.Module):
    """G_b: public code -> background."""

    def __init__(self, z_dim: int, widths: Widths) -> None:
        super().__init__()
        self.trunk = Trunk(z_dim, widths.channels)
        self.image = nn.Conv2d(widths.channels[-1], 3, 3, padding=1, bias=False)

    def forward(self, codes: Codes) -> Tensor:
        """The background b, [N, 3, H, W]."""
        return torch.tanh(self.image(self.trunk(codes.z)))


class Foreground(nn.Module):
    """G_f: public code, parent and private code -> colours and mask.

    The mask is made before the private code comes in, so that it depends on z and p alone. A code without groups
    (normal) has no parent: it takes the parent's place, and the second stage sees it again.

    Args:
        z_dim: length of the public code z.
        mask_dim: numbers of the code that reaches the mask.
        colour_dim: numbers of the code that reaches the colours only.
        widths: channels.
        mask_bias: start of the mask's bias; None = no bias.
        centre: height of a bump in the middle that the mask's logits begin with, learned on; 0 = none.
    """

    def __init__(
        self,
        z_dim: int,
        mask_dim: int,
        colour_dim: int,
        widths: Widths,
        mask_bias: float | None = None,
        centre: float = 0.0,
    ) -> None:
        super().__init__()
        last = widths.channels[-1]
        self.trunk = Trunk(mask_dim + z_dim, widths.channels)
        self.parent = Stage(mask_dim, last, last, widths.parent, widths.residuals)
        self.mask = nn.Conv2d(widths.parent, 1, 3, padding=1, bias=mask_bias is not None)
        self.child = Stage(colour_dim, widths.parent, widths.parent, widths.child, widths.residuals)
        self.image = nn.Conv2d(widths.child, 3, 3, padding=1, bias=False)
        self.place = nn.Parameter(centre * bump(4 << (len(widths.channels) - 1))) if centre else None

    def forward(self, codes: Codes) -> tuple[Tensor, Tensor]:
        """The object's colours f [N, 3, H, W] and mask m [N, 1, H, W]."""
        maps = self.parent(codes.p, self.trunk(torch.cat([codes.p, codes.z], dim=1)))
        logits = self.mask(maps).float()
        m = torch.sigmoid(logits if self.place is None else logits + self.place)
        f = torch.tanh(self.image(self.child(codes.c, maps)))
        return f, m


class LayeredNet(nn.Module):
    """Both generators."""

    def __init__(
        self,
        z_dim: int,
        mask_dim: int,
        colour_dim: int,
        widths: Widths,
        mask_bias: float | None = None,
        centre: float = 0.0,
    ) -> None:
        super().__init__()
        self.background = Background(z_dim, widths)
        self.foreground = Foreground(z_dim, mask_dim, colour_dim, widths, mask_bias, centre)
        initialise(self)
        if mask_bias is not None:
            assert self.foreground.mask.bias is not None
            nn.init.constant_(self.foreground.mask.bias, mask_bias)

    def forward(self, codes: Codes) -> Layers:
        """Codes -> layers, float32."""
        f, m = self.foreground(codes)
        return Layers(self.background(codes).float(), f.float(), m)

    def taps(self) -> dict[str, nn.Module]:
        """Name -> module of every hidden map, shallow to deep."""
        named: dict[str, nn.Module] = {}
        for name, trunk in (("background", self.background.trunk), ("foreground", self.foreground.trunk)):
            named |= {f"{name}.{4 << i}": level for i, level in enumerate(trunk.levels)}
        return {**named, "mask": self.foreground.parent, "colour": self.foreground.child}


# ---- discriminator and heads ---------------------------------------------------------------------------------------


class Backbone(nn.Module):
    """Image or mask -> [N, C, 4, 4] by strided convolutions; spectral normalisation where it is adversarial."""

    def __init__(self, inputs: int, channels: tuple[int, ...], top: int, spectral: bool) -> None:
        super().__init__()
        norm = spectral_norm if spectral else _plain
        convs = [norm(nn.Conv2d(a, b, 4, stride=2, padding=1)) for a, b in pairwise((inputs, *channels))]
        self.convs = nn.ModuleList([*convs, norm(nn.Conv2d(channels[-1], top, 3, padding=1))])

    def forward(self, maps: Tensor) -> Tensor:
        """[N, I, H, W] -> [N, top, 4, 4]."""
        for conv in self.convs:
            maps = F.leaky_relu(conv(maps), LEAK)
        return maps


class Discriminator(nn.Module):
    """D: image -> one number, large = real."""

    def __init__(self, widths: Widths) -> None:
        super().__init__()
        self.backbone = Backbone(3, widths.discriminator, widths.top, spectral=True)
        self.head = spectral_norm(nn.Conv2d(widths.top, 1, 4))
        initialise(self)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """[N, 3, H, W] -> scores [N] float32, and the backbone's maps [N, C, 4, 4] for the heads."""
        maps = self.backbone(images)
        return self.head(maps).flatten().float(), maps


class Head(nn.Module):
    """The two layers by which a guess of the code parts from its backbone."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, inputs, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(inputs)
        self.last = nn.Conv2d(inputs, outputs, 4)
        initialise(self)

    def forward(self, maps: Tensor) -> Tensor:
        """[N, C, 4, 4] -> [N, outputs] float32: logits of a category, or the mean of a normal code."""
        guess: Tensor = self.last(F.leaky_relu(self.norm(self.conv(maps)), LEAK))
        return guess.flatten(1).float()


class MaskHead(nn.Module):
    """Q_m: a guess of the code from the mask alone, with a backbone of its own, since D sees no masks."""

    def __init__(self, widths: Widths, outputs: int) -> None:
        super().__init__()
        channels = tuple(max(8, width // 2) for width in widths.discriminator)
        self.backbone = Backbone(1, channels, max(8, widths.top // 2), spectral=False)
        self.head = Head(max(8, widths.top // 2), outputs)
        initialise(self.backbone)

    def forward(self, m: Tensor) -> Tensor:
        """[N, 1, H, W] -> [N, outputs] float32."""
        out: Tensor = self.head(self.backbone(m))
        return out


def bump(side: int) -> Tensor:
    """A Gaussian in the middle, 1 at its top and a quarter of the side wide, [1, 1, S, S]."""
    axis = (torch.arange(side) * 2 + 1 - side) / side
    return torch.exp(-2 * (axis[:, None] ** 2 + axis**2))[None, None]


def _plain(layer: nn.Module) -> nn.Module:
    return layer


def _stored_weight(module: nn.Conv2d | nn.Linear) -> Tensor:
    """The parameter behind a weight, also behind a normalised one."""
    if not is_parametrized(module):
        return module.weight
    return module.get_parameter("parametrizations.weight.original")


@torch.no_grad()
def initialise(network: nn.Module) -> None:
    """Orthogonal weights of gain 1, no biases, normalisations near one."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.orthogonal_(_stored_weight(module))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, BN_STD)
            nn.init.zeros_(module.bias)
