"""Alias-free filters of StyleGAN3: designed with windowed low passes, and run as products with banded matrices.

Resampling along an axis is y[t] = sum_i f[offset + a t - b i] x[i], with (a, b) = (1, up) where zeros stand between
the samples, and (down, 1) where only some outputs are kept. Outputs in blocks of `BLOCK` all have the same matrix, a
few times larger than the filter; on a CPU such a product is faster than a depthwise convolution with long filters.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

BLOCK = 32  # outputs of one product


def low_pass(taps: int, cutoff: float, half_width: float, rate: float, radial: bool = False) -> NDArray[np.float64]:
    """A Kaiser-windowed low pass, sum 1.

    Args:
        taps: its length.
        cutoff: frequency where it falls to a half, in cycles a picture.
        half_width: half of the transition band.
        rate: samples a picture that it works on.
        radial: the same in every direction instead of separable.

    Returns:
        [taps], radial ones [taps, taps].
    """
    attenuation = 2.285 * (taps - 1) * math.pi * (2 * half_width) / (rate / 2) + 7.95
    window = np.kaiser(taps, _beta(attenuation))
    x = (np.arange(taps) - (taps - 1) / 2) / rate
    if not radial:
        made = np.sinc(2 * cutoff * x) * window
        return made / made.sum()
    r = np.hypot(*np.meshgrid(x, x))
    made = _bessel_j1(2 * cutoff * math.pi * r) / (math.pi * r) * np.outer(window, window)
    return made / made.sum()


def _beta(attenuation: float) -> float:
    """Shape of the Kaiser window for an attenuation in dB."""
    if attenuation > 50:
        return 0.1102 * (attenuation - 8.7)
    if attenuation > 21:
        return 0.5842 * (attenuation - 21) ** 0.4 + 0.07886 * (attenuation - 21)
    return 0.0


def _bessel_j1(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """J1 as the mean of cos(t - x sin t) over a circle, exact to rounding for the arguments of a filter (below 50)."""
    t = np.arange(256) * (2 * math.pi / 256)
    mean: NDArray[np.float64] = np.cos(t - x[..., None] * np.sin(t)).mean(axis=-1)
    return mean


def upsample(x: Tensor, taps: Tensor, up: int, first: int, size: int) -> Tensor:
    """Zeros between the pixels, padding, then convolution with `taps` along both axes, gain up^2.

    Args:
        x: [N, C, h, w].
        taps: [K].
        up: pixels become up times as many.
        first: zeros put in front, negative = cropped.
        size: side of the result; what lies beyond is not made.

    Returns:
        [N, C, size, size].
    """
    return _both_axes(x, taps * up, len(taps) - 1 - first, (1, up), size)


def downsample(x: Tensor, taps: Tensor, down: int, size: int) -> Tensor:
    """Convolution with `taps` [K], or radial ones [K, K], of which every `down`-th pixel is kept."""
    if taps.ndim == 2:
        channels = x.shape[1]
        kernel = taps.flip(0, 1).to(x.dtype).expand(channels, 1, *taps.shape)
        return F.conv2d(x, kernel, stride=down, groups=channels)
    return _both_axes(x, taps, len(taps) - 1, (down, 1), size)


def _both_axes(x: Tensor, taps: Tensor, offset: int, factors: tuple[int, int], size: int) -> Tensor:
    images = x.permute(0, 2, 3, 1).contiguous()  # [N,h,w,C], no copy of channels-last tensors
    n, height, width, channels = images.shape
    taps = taps.to(x.dtype)
    rows = _along(images.view(n, height, width * channels), taps, offset, factors, size)
    columns = _along(rows.reshape(n * size, width, channels), taps, offset, factors, size)
    return columns.reshape(n, size, size, channels).permute(0, 3, 1, 2)


def _along(x: Tensor, taps: Tensor, offset: int, factors: tuple[int, int], size: int) -> Tensor:
    """y[t] = sum_i taps[offset + a t - b i] x[i] along the middle axis: [M, L, C] -> [M, size, C]."""
    matrix, low, step = _band(taps, offset, factors)
    window, blocks = matrix.shape[1], -(-size // BLOCK)
    needed = (blocks - 1) * step + window
    x = F.pad(x, (0, 0, -low, needed + low - x.shape[1]))
    windows = x.unfold(1, window, step).transpose(2, 3)  # [M,blocks,window,C]
    return (matrix @ windows).flatten(1, 2)[:, :size]


def _band(taps: Tensor, offset: int, factors: tuple[int, int]) -> tuple[Tensor, int, int]:
    """The matrix [BLOCK, window] of a block of outputs, its first input, inputs from block to block."""
    a, b = factors
    last = len(taps) - 1
    low, high = -((last - offset) // b), (offset + a * (BLOCK - 1)) // b
    t, i = torch.arange(BLOCK, device=taps.device), torch.arange(low, high + 1, device=taps.device)
    index = offset + a * t[:, None] - b * i
    inside = (index >= 0) & (index <= last)
    return taps[index.clamp(0, last)] * inside, low, a * BLOCK // b
