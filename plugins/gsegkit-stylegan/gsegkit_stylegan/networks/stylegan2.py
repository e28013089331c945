"""StyleGAN2 (Karras et al. 2020, "Analyzing and Improving the Image Quality of StyleGAN") and its ADA variant.

Parameter names and stored values are those of NVIDIA's stylegan2-ada-pytorch. Written from the layer tables.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gsegkit.taps import TapPoint
from gsegkit_stylegan.config import StyleGAN2Arch, StyleGAN3Arch, StyleGANArch
from gsegkit_stylegan.networks.layers import (
    SQRT2,
    Conv,
    Dense,
    filter_2d,
    leaky,
    modulated,
    normalize,
    up_conv,
    upsample,
)
from gsegkit_stylegan.networks.winograd import conv3x3

#: Noise of a layer: (layer name, resolution) -> [N or 1, 1, r, r] float32, or None for the stored one.
NoiseSource = Callable[[str, int], Tensor | None]
EPS = 1e-8


def stored_noise(name: str, resolution: int) -> Tensor | None:
    """The noise source of fixed images: each layer's own buffer."""
    return None


def mapping_widths(arch: StyleGAN2Arch | StyleGANArch | StyleGAN3Arch) -> list[int]:
    """Sizes between the dense layers of a mapping network: of z with the embedded label, of hidden layers, of w."""
    inputs = arch.z_dim + ((arch.embed_features or arch.w_dim) if arch.num_classes else 0)
    hidden = arch.layer_features or arch.w_dim
    return [inputs, *[hidden] * (arch.mapping_layers - 1), arch.w_dim]


class Mapping(nn.Module):
    """f: z -> w, dense layers with leaky ReLU on the normalised z (and the embedded label)."""

    w_avg: Tensor

    def __init__(self, arch: StyleGAN2Arch | StyleGAN3Arch) -> None:
        super().__init__()
        self.arch = arch
        if arch.num_classes:
            size = arch.embed_features or arch.w_dim
            self.embed = Dense(arch.num_classes, size, bias=None if arch.joint_labels else 0.0)
        for i, (inputs, outputs) in enumerate(pairwise(mapping_widths(arch))):
            setattr(self, f"fc{i}", Dense(inputs, outputs, lr=arch.lr_multiplier))
        self.register_buffer("w_avg", torch.zeros(arch.w_dim))

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """[N, z_dim] float32, labels [N] int64 -> [N, w_dim]."""
        x = self._inputs(z, labels)
        for i in range(self.arch.mapping_layers):
            x = leaky(getattr(self, f"fc{i}")(x, gain=SQRT2))
        return x

    def _inputs(self, z: Tensor, labels: Tensor | None) -> Tensor:
        if not self.arch.num_classes:
            return normalize(z)
        if labels is None:
            raise ValueError("a class-conditional network needs labels")
        onehot = F.one_hot(labels, self.arch.num_classes).to(z.dtype)
        if self.arch.joint_labels:  # TensorFlow: the raw row of the label matrix, one normalisation of both
            return normalize(torch.cat([z, F.linear(onehot, self.embed.weight)], dim=1))
        return torch.cat([normalize(z), normalize(self.embed(onehot))], dim=1)


class StyleConv(nn.Module):
    """Modulated, demodulated 3x3 convolution with noise, bias and leaky ReLU."""

    noise_const: Tensor
    filter: Tensor

    def __init__(self, inputs: int, outputs: int, resolution: int, arch: StyleGAN2Arch, *, up: bool = False) -> None:
        super().__init__()
        self.up, self.clamp, self.resolution = up, arch.conv_clamp, resolution
        self.affine = Dense(arch.w_dim, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.register_buffer("noise_const", torch.randn(resolution, resolution))
        self.register_buffer("filter", filter_2d(arch.resample_filter), persistent=False)
        self.scale = 1 / math.sqrt(inputs * 9)
        # Epsilon beside the raw weight (NVIDIA's PyTorch) or beside the scaled one (everybody else).
        self.eps = EPS if arch.demod_gain_first else EPS * self.scale**2

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None = None, gain: float = 1.0) -> Tensor:
        """[N, I, h, w], [N, w_dim], noise [N or 1, 1, r, r] or None for the stored -> [N, O, r, r]."""
        gain = gain * SQRT2
        styles = self.affine(w)  # s = A(w)
        if x.dtype == torch.float16:  # keeps sums inside half's range; demodulation takes the factor out again
            styles = styles / styles.abs().amax(dim=1, keepdim=True)
        styles = styles * self.scale  # the weight's own factor: in the styles it costs no copy of the weight
        # d_o = (sum_i s_i^2 sum_k w_oik^2 + eps)^(-1/2): one small matrix product instead of a kernel per sample.
        demod = (styles.square() @ self.weight.square().sum(dim=(2, 3)).T + self.eps).rsqrt() * gain
        x = modulated(x, self.weight, styles, demod, self.bias * gain, self._convolve)
        # In place from here on: no gradient needs the values before the shift.
        noise = self.noise_const if noise is None else noise
        x = x.add_((noise * (self.noise_strength * gain)).to(x.dtype))
        return leaky(x, None if self.clamp is None else self.clamp * gain / SQRT2)

    def _convolve(self, x: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
        return up_conv(x, kernel, self.filter, bias) if self.up else conv3x3(x, kernel, bias)


class ToRGB(nn.Module):
    """Modulated 1x1 convolution to colours: no demodulation, no noise, linear."""

    def __init__(self, inputs: int, arch: StyleGAN2Arch) -> None:
        super().__init__()
        self.clamp = arch.conv_clamp
        self.affine = Dense(arch.w_dim, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(arch.img_channels, inputs, 1, 1))
        self.bias = nn.Parameter(torch.zeros(arch.img_channels))
        self.scale = 1 / math.sqrt(inputs)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """[N, C, r, r], [N, w_dim] -> [N, 3, r, r] float32."""
        styles = self.affine(w) * self.scale
        # Three output channels: the kernel of each sample is tiny, so here it is made, and x is read only once.
        kernels = styles[:, None, :] * self.weight[None, :, :, 0, 0]
        n, c, h, width = x.shape
        flat = x.permute(0, 2, 3, 1).reshape(n, h * width, c)
        images = torch.bmm(flat, kernels.transpose(1, 2).to(x.dtype)).float() + self.bias
        images = images.transpose(1, 2).reshape(n, -1, h, width)
        return images if self.clamp is None else images.clamp(-self.clamp, self.clamp)


class Block(nn.Module):
    """One resolution: two style convolutions (one at 4x4), and the way to the image."""

    filter: Tensor

    def __init__(self, resolution: int, arch: StyleGAN2Arch) -> None:
        super().__init__()
        self.resolution, self.architecture = resolution, arch.architecture
        channels = arch.channels(resolution)
        if resolution == 4:
            self.const = nn.Parameter(torch.randn(channels, 4, 4))
            self.tap_const = TapPoint()
        else:
            self.conv0 = StyleConv(arch.channels(resolution // 2), channels, resolution, arch, up=True)
            self.tap_conv0 = TapPoint()
        self.conv1 = StyleConv(channels, channels, resolution, arch)
        self.tap_conv1 = TapPoint()
        if arch.architecture == "skip" or resolution == arch.resolution:
            self.torgb = ToRGB(channels, arch)
            self.tap_rgb = TapPoint()
        if arch.architecture == "resnet" and resolution > 4:
            self.skip = Conv(arch.channels(resolution // 2), channels, 1, bias=False)
        # up-samples the image of a `skip` network, the features beside the convolutions of a `resnet` one
        image = arch.image_filter if arch.architecture == "skip" else None
        self.register_buffer("filter", filter_2d(image or arch.resample_filter), persistent=False)

    def forward(
        self, x: Tensor | None, images: Tensor | None, ws: Tensor, noise: NoiseSource, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor | None]:
        """Features of the block before [N, C, r/2, r/2] and its images -> features and images at r."""
        x = self._first(ws, noise, dtype) if x is None else self._features(x, ws, noise)
        if images is not None:
            images = upsample(images, self.filter)
        if hasattr(self, "torgb"):
            rgb = self.tap_rgb(self.torgb(x, ws[:, -1]))
            images = rgb if images is None else images + rgb
        return x, images

    def _first(self, ws: Tensor, noise: NoiseSource, dtype: torch.dtype) -> Tensor:
        const = self.const.to(dtype).expand(len(ws), *self.const.shape)
        x = self.tap_const(const.contiguous(memory_format=torch.channels_last))
        return self.tap_conv1(self.conv1(x, ws[:, 0], noise("b4.conv1", 4)))

    def _features(self, x: Tensor, ws: Tensor, noise: NoiseSource) -> Tensor:
        r, name = self.resolution, f"b{self.resolution}"
        branch = upsample(self.skip(x, gain=math.sqrt(0.5)), self.filter) if self.architecture == "resnet" else None
        gain = 1.0 if branch is None else math.sqrt(0.5)
        x = self.tap_conv0(self.conv0(x, ws[:, 0], noise(f"{name}.conv0", r)))
        x = self.conv1(x, ws[:, 1], noise(f"{name}.conv1", r), gain=gain)
        return self.tap_conv1(x if branch is None else x + branch)


class Synthesis(nn.Module):
    """g: one w per layer -> image."""

    def __init__(self, arch: StyleGAN2Arch) -> None:
        super().__init__()
        self.arch = arch
        for resolution in arch.resolutions:
            setattr(self, f"b{resolution}", Block(resolution, arch))

    def taps(self) -> dict[str, TapPoint]:
        """Named activations, shallow to deep: b4.const, b4.conv1, b4.rgb, b8.conv0, b8.conv1, b8.rgb ..."""
        return named_taps(self, ("const", "conv0", "conv1", "rgb"))

    def forward(
        self,
        ws: Tensor,
        *,
        noise: NoiseSource = stored_noise,
        dtype: torch.dtype = torch.float32,
        resolution: int | None = None,
    ) -> Tensor:
        """Make images.

        Args:
            ws: [N, num_ws, w_dim] float32.
            noise: noise of each layer; the stored buffers by default.
            dtype: of the activations; images are summed in float32 always.
            resolution: stop here (`skip` networks only), as a growing training does.

        Returns:
            [N, 3, H, W] float32.
        """
        x: Tensor | None = None
        images: Tensor | None = None
        start = 0
        for r in self.arch.resolutions:
            # toRGB of a block shares its w with the first convolution of the next block.
            count = 2 if r == 4 else 3
            x, images = getattr(self, f"b{r}")(x, images, ws[:, start : start + count], noise, dtype)
            start += count - 1
            if r == resolution:
                break
        assert images is not None
        return images


def named_taps(synthesis: nn.Module, places: tuple[str, ...]) -> dict[str, TapPoint]:
    """The tap points `tap_{place}` of the blocks `b{r}`, shallow to deep."""
    return {
        f"{name}.{place}": getattr(block, f"tap_{place}")
        for name, block in synthesis.named_children()
        for place in places
        if hasattr(block, f"tap_{place}")
    }


class StyleNetwork(nn.Module):
    """Mapping and synthesis of either StyleGAN: f makes one w of each z, g takes one a layer."""

    def __init__(self, num_ws: int, mapping: nn.Module, synthesis: nn.Module) -> None:
        super().__init__()
        self.num_ws = num_ws
        self.mapping = mapping
        self.synthesis = synthesis

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """[N, z_dim] -> images with the stored noise, no truncation."""
        images: Tensor = self.synthesis(self.broadcast(self.mapping(z, labels)))
        return images

    def broadcast(self, w: Tensor) -> Tensor:
        """[N, w_dim] -> [N, num_ws, w_dim]."""
        return w[:, None].expand(-1, self.num_ws, -1)


class StyleGAN2Network(StyleNetwork):
    """StyleGAN2; `state_dict()` is NVIDIA's without the resample filters."""

    mapping: Mapping
    synthesis: Synthesis

    def __init__(self, arch: StyleGAN2Arch) -> None:
        super().__init__(arch.num_ws, Mapping(arch), Synthesis(arch))
        self.arch = arch


def lay_out(network: nn.Module) -> nn.Module:
    """Give the weights the strides in which their convolutions read them; values, names and shapes stay.

    Channels last, and for the transposed convolutions of StyleGAN2 also the first two axes exchanged: otherwise every
    pass copies those weights, which takes as long as the convolution itself at low resolutions.

    Returns:
        The same network.
    """
    network.to(memory_format=torch.channels_last)
    for module in network.modules():
        if isinstance(module, StyleConv) and module.up:
            order = module.weight.data.transpose(0, 1).contiguous(memory_format=torch.channels_last)
            module.weight.data = order.transpose(0, 1)
    return network


def truncate(ws: Tensor, w_avg: Tensor, psi: float, cutoff: int | None) -> Tensor:
    """w_avg + psi (w - w_avg) on the first `cutoff` layers (all when None) of [N, L, w_dim]."""
    if psi == 1:
        return ws
    truncated = torch.lerp(w_avg, ws, psi)
    if cutoff is None:
        return truncated
    return torch.cat([truncated[:, :cutoff], ws[:, cutoff:]], dim=1)
