"""StyleGAN3 (Karras et al. 2021, "Alias-Free Generative Adversarial Networks"), configs T and R.

Parameter names and stored values are NVIDIA's; written from the layer tables. Layers run at sampling rates of their
own, on maps with a margin of 10 pixels around the picture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gsegkit.taps import TapPoint
from gsegkit_stylegan.config import StyleGAN3Arch
from gsegkit_stylegan.networks.alias_free import downsample, low_pass, upsample
from gsegkit_stylegan.networks.layers import SQRT2, Dense, leaky, modulated
from gsegkit_stylegan.networks.stylegan2 import Mapping, NoiseSource, StyleNetwork, stored_noise
from gsegkit_stylegan.networks.winograd import conv3x3

MARGIN = 10  # pixels around the picture, so that its border is not seen
CRITICAL = 2  # last layers, sampled as finely as the picture needs and no more
FIRST_CUTOFF, FIRST_STOPBAND, LAST_STOPBAND = 2.0, 2**2.1, 2**0.3
FILTER_SIZE, LRELU_UPSAMPLING = 6, 2
CLAMP = 256.0
OUTPUT_SCALE = 0.25
EPS = 1e-8


@dataclass(frozen=True)
class Signal:
    """What one layer hands to the next: `rate` samples and at most `cutoff` cycles a picture, maps of `size` pixels."""

    cutoff: float
    half_width: float
    rate: int
    size: int
    channels: int


def signals(arch: StyleGAN3Arch) -> list[Signal]:
    """The signals behind layers 0, 1 ... 13, and that of the image."""
    count, side = arch.NUM_LAYERS, arch.resolution
    made = []
    for i in range(count + 1):
        e = min(i / (count - CRITICAL), 1)
        cutoff = FIRST_CUTOFF * (side / 2 / FIRST_CUTOFF) ** e
        stopband = FIRST_STOPBAND * (side / 2 * LAST_STOPBAND / FIRST_STOPBAND) ** e
        rate = 2 ** math.ceil(math.log2(min(2 * stopband, side)))
        size = side if i >= count - 1 else rate + 2 * MARGIN
        channels = round(min(arch.channel_base / 2 / cutoff, arch.channel_max)) if i < count else arch.img_channels
        made.append(Signal(cutoff, max(stopband, rate / 2) - cutoff, rate, size, max(1, channels)))
    return made


@dataclass(frozen=True)
class LayerPlan:
    """Shape of one layer, worked out of the signals before and after it."""

    before: Signal
    after: Signal
    kernel: int
    radial: bool
    to_rgb: bool

    @property
    def rate(self) -> int:
        """Samples a picture where the activation works."""
        return max(self.before.rate, self.after.rate) * (1 if self.to_rgb else LRELU_UPSAMPLING)

    @property
    def up(self) -> int:
        """Factor of the up-sampling before the activation."""
        return self.rate // self.before.rate

    @property
    def down(self) -> int:
        """Factor of the down-sampling after it."""
        return self.rate // self.after.rate

    @property
    def up_taps(self) -> int:
        """Length of the filter; 1 = there is none."""
        return 1 if self.up == 1 or self.to_rgb else FILTER_SIZE * self.up

    @property
    def down_taps(self) -> int:
        """Length of the filter; 1 = there is none."""
        return 1 if self.down == 1 or self.to_rgb else FILTER_SIZE * self.down

    @property
    def inner(self) -> int:
        """Side of the map in which the activation works."""
        return (self.after.size - 1) * self.down + self.down_taps

    @property
    def padding(self) -> tuple[int, int]:
        """Zeros in front of and behind the map with zeros between its pixels; negative = cropped."""
        grown = (self.before.size + self.kernel - 1) * self.up
        total = self.inner - grown + self.up_taps - 1
        first = (total + self.up) // 2
        return first, total - first


def plans(arch: StyleGAN3Arch) -> dict[str, LayerPlan]:
    """Name -> plan of every layer, shallow to deep; names are those of the reference."""
    made, count = {}, arch.NUM_LAYERS
    chain = signals(arch)
    for i, after in enumerate(chain):
        to_rgb, critical = i == count, i >= count - CRITICAL
        kernel = 1 if to_rgb or arch.variant == "r" else 3
        plan = LayerPlan(chain[max(i - 1, 0)], after, kernel, arch.variant == "r" and not critical, to_rgb)
        made[f"L{i}_{after.size}_{after.channels}"] = plan
    return made


class FourierInput(nn.Module):
    """Waves of fixed frequencies in place of a constant; w turns and shifts them."""

    transform: Tensor
    freqs: Tensor
    phases: Tensor

    def __init__(self, signal: Signal, w_dim: int) -> None:
        super().__init__()
        self.signal = signal
        channels = signal.channels
        self.weight = nn.Parameter(torch.randn(channels, channels))
        self.affine = Dense(w_dim, 4)
        nn.init.zeros_(self.affine.weight)
        assert self.affine.bias is not None
        nn.init.ones_(self.affine.bias[:1])
        self.register_buffer("transform", torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]]))
        # of a random network only: the square inside the disc that trained ones draw from (see networks/layers.py)
        self.register_buffer("freqs", torch.rand(channels, 2).sub_(0.5).mul_(math.sqrt(2) * signal.cutoff))
        self.register_buffer("phases", torch.rand(channels).sub_(0.5))

    def forward(self, w: Tensor) -> Tensor:
        """[N, w_dim] -> [N, C, size, size], channels last."""
        rate, size = self.signal.rate, self.signal.size
        transforms = self._transforms(w)
        phases = self.phases + (self.freqs @ transforms[:, :2, 2:]).squeeze(2)  # [N,C]
        freqs = self.freqs @ transforms[:, :2, :2]  # [N,C,2]
        # waves that a transform has moved out of the band fade
        over = (freqs.norm(dim=2) - self.signal.cutoff) / (rate / 2 - self.signal.cutoff)
        amplitudes = (1 - over).clamp(0, 1)
        place = (torch.arange(size, device=w.device, dtype=w.dtype) * 2 + 1 - size) / (2 * rate)
        x = place[None, :, None] * freqs[:, None, :, 0]  # [N,width,C]
        y = place[None, :, None] * freqs[:, None, :, 1] + phases[:, None]  # [N,height,C]
        waves = torch.sin((y[:, :, None] + x[:, None]) * (2 * math.pi)) * amplitudes[:, None, None]
        return F.linear(waves, self.weight / math.sqrt(len(self.weight))).permute(0, 3, 1, 2)

    def _transforms(self, w: Tensor) -> Tensor:
        """[N, 3, 3]: rotation and translation out of w, then the stored transform."""
        t = self.affine(w)
        t = t / t[:, :2].norm(dim=1, keepdim=True)
        zero, one = torch.zeros_like(t[:, 0]), torch.ones_like(t[:, 0])
        rotation = [t[:, 0], -t[:, 1], zero, t[:, 1], t[:, 0], zero, zero, zero, one]
        translation = [one, zero, -t[:, 2], zero, one, -t[:, 3], zero, zero, one]
        turn, shift = (torch.stack(entries, dim=1).view(-1, 3, 3) for entries in (rotation, translation))
        return turn @ shift @ self.transform


class Layer(nn.Module):
    """Modulated convolution, bias, and a leaky ReLU between up- and down-sampling that keeps it free of aliasing."""

    magnitude_ema: Tensor
    up_filter: Tensor
    down_filter: Tensor

    def __init__(self, plan: LayerPlan, w_dim: int) -> None:
        super().__init__()
        self.plan = plan
        inputs, outputs = plan.before.channels, plan.after.channels
        self.affine = Dense(w_dim, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, plan.kernel, plan.kernel))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.register_buffer("magnitude_ema", torch.ones(()))
        if plan.up_taps > 1:
            self.register_buffer("up_filter", _filter(plan.up_taps, plan.before, plan.rate))
        if plan.down_taps > 1:
            self.register_buffer("down_filter", _filter(plan.down_taps, plan.after, plan.rate, plan.radial))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """[N, I, h, h], [N, w_dim] -> [N, O, H, H]."""
        styles, gain = self.affine(w), self.magnitude_ema.rsqrt()
        if self.plan.to_rgb:
            styles = styles / math.sqrt(styles.shape[1])
            after = gain.expand(len(x), len(self.weight))
            return modulated(x, self.weight, styles, after, self.bias, self._convolve).clamp(-CLAMP, CLAMP)
        weight = self.weight * self.weight.square().mean(dim=(1, 2, 3), keepdim=True).rsqrt()
        # over the whole batch, as the reference does: demodulation takes it out again, but for its epsilon
        styles = styles * styles.square().mean().rsqrt()
        demod = (styles.square() @ weight.square().sum(dim=(2, 3)).T + EPS).rsqrt()
        # the gain of the activation goes in front of it: everything between is linear, and so is lrelu up to a factor
        x = modulated(x, weight, styles, demod * (gain * SQRT2), self.bias * SQRT2, self._convolve)
        x = upsample(x, self.up_filter, self.plan.up, self.plan.padding[0], self.plan.inner)
        x = leaky(x, CLAMP)
        return downsample(x, self.down_filter, self.plan.down, self.plan.after.size)

    def _convolve(self, x: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
        return F.conv2d(x, kernel, bias) if self.plan.kernel == 1 else conv3x3(x, kernel, bias, padding=2)


def _filter(taps: int, signal: Signal, rate: int, radial: bool = False) -> Tensor:
    return torch.tensor(low_pass(taps, signal.cutoff, signal.half_width, rate, radial), dtype=torch.float32)


class Synthesis(nn.Module):
    """g: one w per layer -> image."""

    def __init__(self, arch: StyleGAN3Arch) -> None:
        super().__init__()
        self.arch = arch
        self.plans = plans(arch)
        self.input = FourierInput(signals(arch)[0], arch.w_dim)
        self.tap_input = TapPoint()
        for i, (name, plan) in enumerate(self.plans.items()):
            setattr(self, name, Layer(plan, arch.w_dim))
            setattr(self, f"tap_{i}", TapPoint())

    def taps(self) -> dict[str, TapPoint]:
        """Named activations, shallow to deep: input, L0 ... L13, rgb; with their margins."""
        names = [f"L{i}" for i in range(self.arch.NUM_LAYERS)] + ["rgb"]
        return {"input": self.tap_input, **{name: getattr(self, f"tap_{i}") for i, name in enumerate(names)}}

    def forward(self, ws: Tensor, *, noise: NoiseSource = stored_noise, dtype: torch.dtype = torch.float32) -> Tensor:
        """[N, num_ws, w_dim] -> [N, 3, R, R] float32; there is no noise. `dtype`: of the activations."""
        x = self.tap_input(self.input(ws[:, 0]).to(dtype))
        for i, name in enumerate(self.plans):
            x = getattr(self, f"tap_{i}")(getattr(self, name)(x, ws[:, i + 1]))
        return (x.float() if x.dtype in (torch.float16, torch.bfloat16) else x) * OUTPUT_SCALE


class StyleGAN3Network(StyleNetwork):
    """StyleGAN3; `state_dict()` is NVIDIA's, filters included."""

    mapping: Mapping
    synthesis: Synthesis

    def __init__(self, arch: StyleGAN3Arch) -> None:
        super().__init__(arch.num_ws, Mapping(arch), Synthesis(arch))
        self.arch = arch
