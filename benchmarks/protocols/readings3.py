"""StyleGAN3 as its own code computes it on a CPU: kernels of each sample in groups, filters on zeros between pixels.

Written from the layer tables; only the shapes of the layers are ours. Networks without labels, contiguous tensors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from gsegkit_stylegan.config import StyleGAN3Arch
from gsegkit_stylegan.networks.stylegan3 import LayerPlan, Signal, plans, signals
from torch import Tensor

from benchmarks.protocols.readings import bias_act, by_sample, dense

State = Mapping[str, Tensor]


def images(state: State, arch: StyleGAN3Arch, z: Tensor) -> Tensor:
    """[N, z_dim] -> [N, 3, R, R]."""
    return synthesis(state, arch, mapping(state, arch, z))


def mapping(state: State, arch: StyleGAN3Arch, z: Tensor) -> Tensor:
    """[N, z_dim] -> [N, w_dim]."""
    w = z * (z.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()
    for i in range(arch.mapping_layers):
        w = bias_act(dense(state, f"mapping.fc{i}", w, arch.lr_multiplier, bias=False),
                     state[f"mapping.fc{i}.bias"] * arch.lr_multiplier)  # fmt: skip
    return w


def synthesis(state: State, arch: StyleGAN3Arch, w: Tensor) -> Tensor:
    """[N, w_dim] -> [N, 3, R, R]."""
    x = waves(state, "synthesis.input", signals(arch)[0], w)
    for name, plan in plans(arch).items():
        x = layer(state, f"synthesis.{name}", plan, x, w)
    return x * 0.25


def waves(state: State, name: str, signal: Signal, w: Tensor) -> Tensor:
    """The input: sines on a grid that w has turned and shifted."""
    t = dense(state, f"{name}.affine", w)
    t = t / t[:, :2].norm(dim=1, keepdim=True)
    turn, shift = (torch.eye(3, dtype=w.dtype).repeat(len(w), 1, 1) for _ in range(2))
    turn[:, 0, 0], turn[:, 0, 1], turn[:, 1, 0], turn[:, 1, 1] = t[:, 0], -t[:, 1], t[:, 1], t[:, 0]
    shift[:, 0, 2], shift[:, 1, 2] = -t[:, 2], -t[:, 3]
    transforms = turn @ shift @ state[f"{name}.transform"]
    freqs, phases = state[f"{name}.freqs"][None], state[f"{name}.phases"][None]
    phases = phases + (freqs @ transforms[:, :2, 2:]).squeeze(2)
    freqs = freqs @ transforms[:, :2, :2]
    band = signal.rate / 2 - signal.cutoff
    amplitudes = (1 - (freqs.norm(dim=2) - signal.cutoff) / band).clamp(0, 1)
    theta = torch.eye(2, 3, dtype=w.dtype) * (0.5 * signal.size / signal.rate)
    grid = F.affine_grid(theta[None], [1, 1, signal.size, signal.size], align_corners=False)
    x = (grid.unsqueeze(3) @ freqs.permute(0, 2, 1)[:, None, None]).squeeze(3)  # [N,h,w,C]
    x = torch.sin((x + phases[:, None, None]) * (2 * math.pi)) * amplitudes[:, None, None]
    weight = state[f"{name}.weight"]
    return (x @ (weight / math.sqrt(len(weight))).t()).permute(0, 3, 1, 2).contiguous()


def layer(state: State, name: str, plan: LayerPlan, x: Tensor, w: Tensor) -> Tensor:
    """Modulated convolution, bias, up-sampling, activation, down-sampling, each a step."""
    styles, weight = dense(state, f"{name}.affine", w), state[f"{name}.weight"]
    gain = state[f"{name}.magnitude_ema"].rsqrt()
    if plan.to_rgb:
        kernels = weight[None] * (styles / math.sqrt(styles.shape[1]))[:, None, :, None, None]
        y = by_sample(x, kernels * gain, up=False) + state[f"{name}.bias"][:, None, None]
        return y.clamp(-256, 256)
    weight = weight * weight.square().mean(dim=(1, 2, 3), keepdim=True).rsqrt()
    styles = styles * styles.square().mean().rsqrt()
    kernels = weight[None] * styles[:, None, :, None, None]
    kernels = kernels * (kernels.square().sum(dim=(2, 3, 4)) + 1e-8).rsqrt()[:, :, None, None, None] * gain
    border = (plan.kernel - 1) // 2  # by_sample pads by half a kernel; the layer by a whole one
    x = by_sample(F.pad(x, (border,) * 4), kernels, up=False)
    x = x + state[f"{name}.bias"][:, None, None]
    x = filtered(x, state[f"{name}.up_filter"], plan.up, 1, plan.padding, plan.up**2)
    x = (F.leaky_relu(x, 0.2) * math.sqrt(2)).clamp(-256, 256)
    return filtered(x, state[f"{name}.down_filter"], 1, plan.down, (0, 0), 1)


def filtered(x: Tensor, taps: Tensor, up: int, down: int, pads: tuple[int, int], gain: float) -> Tensor:
    """Zeros between the pixels, padding, the filter as depthwise convolutions, then every `down`-th pixel."""
    n, c, h, w = x.shape
    grown = F.pad(x.reshape(n, c, h, 1, w, 1), (0, up - 1, 0, 0, 0, up - 1)).reshape(n, c, h * up, w * up)
    grown = F.pad(grown, (*pads, *pads))
    if taps.ndim == 2:
        grown = F.conv2d(grown, (taps * gain).flip(0, 1).expand(c, 1, *taps.shape), groups=c)
    else:
        line = (taps * math.sqrt(gain)).flip(0)
        grown = F.conv2d(grown, line[None, :].expand(c, 1, 1, -1), groups=c)
        grown = F.conv2d(grown, line[:, None].expand(c, 1, -1, 1), groups=c)
    made: Tensor = grown[:, :, ::down, ::down]
    return made
