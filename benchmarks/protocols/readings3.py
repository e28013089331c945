"""StyleGAN3 as its own code computes it on a CPU: kernels of each sample in groups, filters on zeros between pixels.

Input, mapping and shapes of the layers are ours; what takes the time, the layers themselves, is written out plainly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch.nn.functional as F
from gsegkit_stylegan.networks.stylegan3 import LayerPlan, StyleGAN3Network
from torch import Tensor

from benchmarks.protocols.readings import by_sample, dense

State = Mapping[str, Tensor]


def images(state: State, network: StyleGAN3Network, z: Tensor) -> Tensor:
    """[N, z_dim] -> [N, 3, R, R]."""
    w = network.mapping(z)
    x = network.synthesis.input(w).contiguous()
    for name, plan in network.synthesis.plans.items():
        x = layer(state, f"synthesis.{name}", plan, x, w)
    return x * 0.25


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
