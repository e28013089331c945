"""Layers that all three generations share: equalised dense and convolution layers, normalisation, resampling.

Weights are stored with unit variance and scaled at run time by gain / sqrt(fan-in); stored values are NVIDIA's.

The readers build a network on the meta device, to compare shapes. There a product of tensors imports torch's compiler,
which takes seconds; so what is computed in a constructor is computed in place, or by NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

SLOPE = 0.2
SQRT2 = math.sqrt(2)


def leaky(x: Tensor, clamp: float | None = None) -> Tensor:
    """lrelu(x) in place, clamped to +-clamp. The gain sqrt(2) is already in x: lrelu is positively homogeneous."""
    x = F.leaky_relu_(x, SLOPE)
    if clamp is None:
        return x
    return x.clamp(-clamp, clamp) if x.requires_grad else x.clamp_(-clamp, clamp)


def times(x: Tensor, factor: Tensor) -> Tensor:
    """X * factor, in place unless a gradient needs x: new memory costs more than the product."""
    return x * factor if x.requires_grad or factor.requires_grad else x.mul_(factor)


def normalize(x: Tensor, eps: float = 1e-8) -> Tensor:
    """Divide each row of [N, C, ...] by its root mean square over C."""
    return x * (x.square().mean(dim=1, keepdim=True) + eps).rsqrt()


def modulated(
    x: Tensor,
    weight: Tensor,
    before: Tensor,
    after: Tensor,
    bias: Tensor,
    convolve: Callable[[Tensor, Tensor, Tensor | None], Tensor],
) -> Tensor:
    """The modulated convolution: input channels of each sample scaled, convolved, output channels scaled, plus bias.

    Several samples have their activations scaled around one shared weight, one sample has a kernel of its own made:
    each is the faster one on a CPU (benchmarks/generators.py), and both are the same product.

    Args:
        x: [N, I, h, w].
        weight: [O, I, k, k] float32, shared.
        before: [N, I] float32, the styles.
        after: [N, O] float32, demodulation and gains.
        bias: [O] float32.
        convolve: (x, kernel, bias or None) -> [N, O, H, W].

    Returns:
        [N, O, H, W], dtype of x; new memory, which may be changed in place.
    """
    bias = bias.to(x.dtype)
    if len(x) == 1:
        return convolve(x, (weight * (after.T * before)[:, :, None, None]).to(x.dtype), bias)
    x = convolve(x * before[:, :, None, None].to(x.dtype), weight.to(x.dtype), None)
    return times(x, after[:, :, None, None].to(x.dtype)).add_(bias[:, None, None])


class Dense(nn.Module):
    """y = x W^T g + b lr, g = gain lr / sqrt(in); W is stored with standard deviation 1 / lr."""

    def __init__(
        self, inputs: int, outputs: int, *, lr: float = 1.0, gain: float = 1.0, bias: float | None = 0.0
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs).div_(lr))
        self.bias = nn.Parameter(torch.full((outputs,), bias / lr)) if bias is not None else None
        self.weight_gain = gain * lr / math.sqrt(inputs)
        self.bias_gain = lr

    def forward(self, x: Tensor, gain: float = 1.0) -> Tensor:
        """[N, in] -> [N, out]; `gain` multiplies the result (the activation's sqrt(2))."""
        weight = self.weight * (self.weight_gain * gain)
        if self.bias is None:
            return F.linear(x, weight)
        return F.linear(x, weight, self.bias * (self.bias_gain * gain))


class Conv(nn.Module):
    """Equalised convolution: weight [O, I, k, k] scaled by gain / sqrt(I k^2), bias unscaled."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, gain: float = 1.0, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.gain = gain / math.sqrt(inputs * kernel * kernel)
        self.padding = kernel // 2

    def forward(self, x: Tensor, gain: float = 1.0) -> Tensor:
        """Same size; `gain` multiplies weight and bias."""
        bias = None if self.bias is None else (self.bias * gain).to(x.dtype)
        return F.conv2d(x, (self.weight * (self.gain * gain)).to(x.dtype), bias, padding=self.padding)


# ---- resampling --------------------------------------------------------------------------------------------------


def filter_2d(taps: Sequence[float]) -> Tensor:
    """Outer product of a 1-D filter with itself, sum 1."""
    kernel = np.outer(taps, taps).astype(np.float32)
    return torch.tensor(kernel / kernel.sum())


def blur(x: Tensor, kernel: Tensor, pads: tuple[int, int], stride: int = 1, bias: Tensor | None = None) -> Tensor:
    """Correlate every channel with `kernel`, after zero padding of pads[0] above and left, pads[1] below and right.

    One depthwise convolution: folding channels into the batch, as some implementations do, is 6 to 9 times slower.
    """
    channels = x.shape[1]
    weight = kernel.to(x.dtype).expand(channels, 1, *kernel.shape)
    first, last = pads
    if first != last:  # filters with an odd number of taps
        x, first = F.pad(x, (first, last, first, last)), 0
    return F.conv2d(x, weight, bias, padding=first, stride=stride, groups=channels)


def upsample(x: Tensor, kernel: Tensor) -> Tensor:
    """Twice the size: zeros between the pixels, then the filter with gain 4."""
    channels, taps = x.shape[1], kernel.shape[0]
    # A transposed convolution with the (symmetric) filter is both steps at once; crop what hangs over.
    weight = (kernel.flip(0, 1) * 4).to(x.dtype).expand(channels, 1, taps, taps)
    grown = F.conv_transpose2d(x, weight, stride=2, padding=taps // 2 - 1, groups=channels)
    return grown if taps % 2 == 0 else grown[:, :, :-1, :-1]


def up_conv(x: Tensor, weight: Tensor, kernel: Tensor, bias: Tensor | None = None) -> Tensor:
    """Up-sampling 3x3 convolution of StyleGAN2: transposed convolution (2h + 1), then the filter with gain 4.

    The equal single convolution with four 3x3 phases and a pixel shuffle was measured too: with channels-last
    tensors and a depthwise filter this form is the faster one, see benchmarks/generators.py.
    """
    grown = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
    taps = kernel.shape[0]
    return blur(grown, kernel * 4, ((taps + 1) // 2 - 1, taps // 2 - 1), bias=bias)


def down_conv(x: Tensor, weight: Tensor, kernel: Tensor) -> Tensor:
    """Half the size: the filter, then a convolution of stride 2 (1x1 or 3x3)."""
    if weight.shape[-1] == 1:  # make only the pixels that the 1x1 kernel reads
        return F.conv2d(halve(x, kernel), weight)
    taps = kernel.shape[0]
    return F.conv2d(blur(x, kernel, ((taps + 1) // 2, taps // 2)), weight, stride=2)


def halve(x: Tensor, kernel: Tensor) -> Tensor:
    """Half the size: the filter, then every second pixel."""
    taps = kernel.shape[0]
    return blur(x, kernel, ((taps + 1) // 2 - 1, taps // 2 - 1), stride=2)
