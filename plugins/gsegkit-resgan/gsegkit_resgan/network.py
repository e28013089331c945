"""One network for BigGAN, BigBiGAN, BigGAN-deep, the residual GANs of StudioGAN, SelfCondGAN and UncondGAN.

They are the same blocks; what differs is data (`Arch`): where gains and biases of the normalisations come from, which
part of the noise goes where, widths, epsilons. Three blocks exist: "resnet" for most, "deep" and "plain".

The tensors are folded: spectral normalisation, the 1 of `1 + gain`, the scale of an attention and of a residual branch
are in them already (`gsegkit_resgan.readers`). Two things are computed in an order of our own that changes rounding
only: a 1x1 shortcut acts before its maps are enlarged, and normalisation, gain and bias are one multiplication.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gsegkit.taps import Taps
from gsegkit_resgan.config import Arch, BlockSpec

SLOPE = 0.2  # of the leaky ReLU of plain blocks


@dataclass(frozen=True)
class Condition:
    """What a normalisation may depend on, beside its own tensors.

    Attributes:
        labels: [N] int64, or None.
        vector: [N, arch.vector], or None.
        at: set of statistics, and the share of the next set.
        added: gains are added, not multiplied with.
    """

    labels: Tensor | None
    vector: Tensor | None
    at: tuple[int, float]
    added: bool


def statistics_at(truncation: float, sets: int, reference: bool) -> tuple[int, float]:
    """Which set of statistics belongs to a truncation, and the share of the next one.

    Args:
        truncation: in (0, 1].
        sets: how many there are, for truncations from 0 to 1.
        reference: as the original BigGAN-deep code: the weights of the two sets are swapped, and rounding errors of
            the division may choose another set (0.14 takes that of 0.16).

    Example:
        >>> statistics_at(0.425, 51, False)
        (21, 0.25)
        >>> statistics_at(0.425, 51, True)
        (21, 0.75)
    """
    if sets == 1:
        return 0, 0.0
    if not reference:
        index, share = divmod(round(truncation * (sets - 1), 6), 1)
        return int(index), round(share, 6)
    share, index = math.modf(truncation / (1.0 / (sets - 1)))
    return int(index), 1 - share if share else 0.0


MOMENTUM = 0.1  # of the stored statistics in training


class Norm(nn.Module):
    """Normalisation by stored statistics, with gains and biases of its own, of the class, or of a vector.

    In training mode the batch's own statistics serve, and the stored ones follow them.

    `gain` and `bias` have one row, or one for each class; `gain_map` and `bias_map` add what a vector says.
    """

    mean: Tensor
    var: Tensor

    def __init__(self, channels: int, eps: float, sets: int = 1, rows: int = 1, vector: int = 0) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("mean", torch.zeros(sets, channels))
        self.register_buffer("var", torch.ones(sets, channels))
        self.gain = nn.Parameter(torch.ones(rows, channels))
        self.bias = nn.Parameter(torch.zeros(rows, channels))
        self.gain_map = nn.Parameter(torch.zeros(channels, vector)) if vector else None
        self.bias_map = nn.Parameter(torch.zeros(channels, vector)) if vector else None

    def forward(self, x: Tensor, condition: Condition) -> Tensor:
        """[N, C, h, w] -> the same shape."""
        gain, bias = self._affine(condition)
        if self.training:
            mean, var = self._of_batch(x)
        else:
            mean, var = self._stored(self.mean, condition.at), self._stored(self.var, condition.at)
        scale = (var + self.eps).rsqrt()
        if condition.added:
            bias = bias + gain
        else:
            scale = scale * gain
        shift = bias - mean * scale
        return torch.addcmul(shift[..., None, None], x, scale[..., None, None])

    def _affine(self, condition: Condition) -> tuple[Tensor, Tensor]:
        gain: Tensor = self.gain
        bias: Tensor = self.bias
        if len(gain) > 1:
            assert condition.labels is not None
            gain, bias = gain[condition.labels], bias[condition.labels]
        if self.gain_map is not None and self.bias_map is not None:
            assert condition.vector is not None
            gain, bias = (
                gain + F.linear(condition.vector, self.gain_map),
                bias + F.linear(condition.vector, self.bias_map),
            )
        return gain, bias

    def _of_batch(self, x: Tensor) -> tuple[Tensor, Tensor]:
        var, mean = torch.var_mean(x, dim=(0, 2, 3), correction=0)
        self.mean.lerp_(mean.detach()[None], MOMENTUM)
        self.var.lerp_(var.detach()[None], MOMENTUM)
        return mean, var

    @staticmethod
    def _stored(sets: Tensor, at: tuple[int, float]) -> Tensor:
        index, share = at
        return torch.lerp(sets[index], sets[index + 1], share) if share else sets[index]


class ResNetBlock(nn.Module):
    """Norm, ReLU, enlarge, 3x3, norm, ReLU, 3x3; beside it a 1x1 shortcut, enlarged."""

    def __init__(self, spec: BlockSpec, norms: list[Norm]) -> None:
        super().__init__()
        self.up = spec.up
        self.norms = nn.ModuleList(norms)
        self.convs = nn.ModuleList([_conv(spec.inputs, spec.outputs, 3), _conv(spec.outputs, spec.outputs, 3)])
        self.shortcut = _conv(spec.inputs, spec.outputs, 1)

    @staticmethod
    def widths(spec: BlockSpec) -> list[int]:
        """Channels of its normalisations."""
        return [spec.inputs, spec.outputs]

    def forward(self, x: Tensor, condition: Condition) -> Tensor:
        """[N, inputs, h, w] -> [N, outputs, 2h, 2w]."""
        hidden = self.norms[0](x, condition).relu_()
        hidden = self.convs[0](_enlarged(hidden, self.up))
        hidden = self.convs[1](self.norms[1](hidden, condition).relu_())
        return hidden + _enlarged(self.shortcut(x), self.up)


class DeepBlock(nn.Module):
    """Four times norm, ReLU and convolution (1x1, enlarge, 3x3, 3x3, 1x1); the shortcut is the first channels."""

    def __init__(self, spec: BlockSpec, norms: list[Norm]) -> None:
        super().__init__()
        self.up, self.outputs = spec.up, spec.outputs
        self.norms = nn.ModuleList(norms)
        widths = [*self.widths(spec), spec.outputs]
        kernels = (1, 3, 3, 1)
        self.convs = nn.ModuleList([_conv(widths[i], widths[i + 1], kernels[i]) for i in range(4)])

    @staticmethod
    def widths(spec: BlockSpec) -> list[int]:
        """Channels of its normalisations."""
        return [spec.inputs, *[max(1, spec.inputs // 4)] * 3]

    def forward(self, x: Tensor, condition: Condition) -> Tensor:
        """[N, inputs, h, w] -> [N, outputs, h, w], or twice the side."""
        hidden = x
        for i, (norm, conv) in enumerate(zip(self.norms, self.convs, strict=True)):
            hidden = conv(_enlarged(norm(hidden, condition).relu_(), self.up and i == 1))
        return hidden + _enlarged(x[:, : self.outputs], self.up)


class PlainBlock(nn.Module):
    """Enlarge, then twice leaky ReLU and 3x3; a 1x1 shortcut without bias where the width changes."""

    def __init__(self, spec: BlockSpec, norms: list[Norm]) -> None:
        super().__init__()
        self.up = spec.up
        hidden = min(spec.inputs, spec.outputs)
        self.convs = nn.ModuleList([_conv(spec.inputs, hidden, 3), _conv(hidden, spec.outputs, 3)])
        self.shortcut = _conv(spec.inputs, spec.outputs, 1, bias=False) if spec.inputs != spec.outputs else None

    @staticmethod
    def widths(spec: BlockSpec) -> list[int]:
        """It has no normalisations."""
        return []

    def forward(self, x: Tensor, condition: Condition) -> Tensor:
        """[N, inputs, h, w] -> [N, outputs, h, w], or twice the side."""
        skip = x if self.shortcut is None else self.shortcut(x)
        hidden = self.convs[0](_enlarged(F.leaky_relu(x, SLOPE), self.up))
        hidden = self.convs[1](F.leaky_relu(hidden, SLOPE))
        return hidden + _enlarged(skip, self.up)


class Attention(nn.Module):
    """Self-attention over a map, keys and values pooled 2x2, logits not scaled; added to what it is given."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        keys, values = max(1, channels // 8), max(1, channels // 2)
        self.theta = _conv(channels, keys, 1, bias=False)
        self.phi = _conv(channels, keys, 1, bias=False)
        self.g = _conv(channels, values, 1, bias=False)
        self.o = _conv(values, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, h, w] -> the same shape."""
        query = self.theta(x).flatten(2).transpose(1, 2)
        key = F.max_pool2d(self.phi(x), 2).flatten(2).transpose(1, 2)
        value = F.max_pool2d(self.g(x), 2).flatten(2).transpose(1, 2)
        found = F.scaled_dot_product_attention(query, key, value, scale=1.0)
        return x + self.o(found.transpose(1, 2).reshape(len(x), -1, *x.shape[2:]))


_BLOCKS: dict[str, type[ResNetBlock] | type[DeepBlock] | type[PlainBlock]] = {
    "resnet": ResNetBlock,
    "deep": DeepBlock,
    "plain": PlainBlock,
}


class Network(nn.Module):
    """A generator of the family: noise and labels in, images out.

    Example:
        >>> from gsegkit_resgan.config import resnet_blocks
        >>> arch = Arch(block="resnet", norm="affine", z_dim=8, blocks=resnet_blocks((4, 4, 4, 4), 2, 0))
        >>> Network(arch)(torch.zeros(1, 8)).shape
        torch.Size([1, 3, 32, 32])
    """

    def __init__(self, arch: Arch) -> None:
        super().__init__()
        self.arch = arch
        first, last = arch.blocks[0].inputs, arch.blocks[-1].outputs
        if arch.class_dim:
            self.embedding = nn.Parameter(torch.zeros(arch.num_classes, arch.class_dim))
        self.first = nn.Linear(arch.first_inputs, first * arch.start**2)
        block = _BLOCKS[arch.block]
        self.blocks = nn.ModuleList(block(spec, _norms(arch, block.widths(spec))) for spec in arch.blocks)
        attentive = {str(i): Attention(spec.outputs) for i, spec in enumerate(arch.blocks) if spec.attention}
        self.attention = nn.ModuleDict(attentive)
        self.last = Norm(last, arch.last_eps, arch.statistics) if arch.norm != "none" else None
        self.to_rgb = _conv(last, 3, 3)

    def taps(self) -> Taps:
        """Its feature maps by name."""
        places = self.arch.features()
        return Taps({name: self.attention[str(i)] if behind else self.blocks[i] for name, i, behind, _, _ in places})

    def forward(
        self,
        z: Tensor,
        labels: Tensor | None = None,
        *,
        at: tuple[int, float] | None = None,
        added: bool = False,
    ) -> Tensor:
        """Make images.

        Args:
            z: [N, z_dim], of the network's dtype.
            labels: [N] int64, needed when there are classes.
            at: see `Condition`; None = the statistics of truncation 1.
            added: see `Condition`.

        Returns:
            [N, 3, side, side] in [-1, 1].
        """
        arch, at = self.arch, at or (self.arch.statistics - 1, 0.0)
        of_class = self.embedding[labels] if arch.class_dim else None
        parts = z.split(arch.chunk, dim=1) if arch.chunk else ()
        first = {"z": [z], "chunk": parts[:1], "class+z": [of_class, z]}[arch.first]
        x = self.first(_joined(first)).view(len(z), -1, arch.start, arch.start)
        for i, block in enumerate(self.blocks):
            vector = [of_class, *{"class+chunk": parts[i + 1 : i + 2], "class+z": [z]}.get(arch.norm, [])]
            x = block(x, Condition(labels, _joined(vector) if arch.vector else None, at, added))
            if arch.blocks[i].attention:
                x = self.attention[str(i)](x)
        x = F.leaky_relu(x, SLOPE) if self.last is None else self.last(x, Condition(labels, None, at, added)).relu_()
        return torch.tanh(self.to_rgb(x))

    @torch.no_grad()
    def randomise(self) -> None:
        """Random weights under which noise, classes and every layer matter; of torch's global generator."""
        for name, tensor in self.named_parameters():
            leaf = name.rpartition(".")[2]
            if leaf in ("weight", "gain_map", "bias_map"):
                fan_in = tensor[0].numel()
                tensor.normal_(std=fan_in**-0.5)
            elif ".norms." in name or name == "embedding":
                tensor.normal_(mean=1.0 if leaf == "gain" else 0.0, std=1.0 if leaf == "embedding" else 0.3)
            else:
                tensor.fill_(1.0 if leaf == "gain" else 0.0)


def _norms(arch: Arch, widths: list[int]) -> list[Norm]:
    rows = arch.num_classes if arch.norm == "table" else 1
    return [Norm(width, arch.eps, arch.statistics, rows, arch.vector) for width in widths]


def _conv(inputs: int, outputs: int, kernel: int, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=bias)


def _enlarged(x: Tensor, up: bool) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest") if up else x


def _joined(parts: Sequence[Tensor | None]) -> Tensor:
    there = [part for part in parts if part is not None]
    return there[0] if len(there) == 1 else torch.cat(there, dim=1)
