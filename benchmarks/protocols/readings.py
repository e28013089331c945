"""StyleGAN2 as its own code computes it on a CPU, in both readings of the modulated convolution.

`grouped` scales the weights, one kernel a sample, and convolves in groups; `shared` scales the activations around one
weight and demodulates after it. Between the convolutions both do what NVIDIA's reference operators do: zeros are put in
and padded before every filter, the filter is a depthwise convolution, bias, leaky ReLU and gain are steps of their own.
Written from the layer tables; `skip` networks without labels, contiguous float32 tensors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from gsegkit_stylegan.config import StyleGAN2Arch
from torch import Tensor

State = Mapping[str, Tensor]
#: (input, weight, styles, up) -> convolved and demodulated.
Modulated = Callable[[Tensor, Tensor, Tensor, bool], Tensor]


def images(state: State, arch: StyleGAN2Arch, z: Tensor, modulated: Modulated) -> Tensor:
    """[N, z_dim] -> [N, 3, R, R]."""
    w = z * (z.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()
    for i in range(arch.mapping_layers):
        w = bias_act(dense(state, f"mapping.fc{i}", w, arch.lr_multiplier, bias=False),
                     state[f"mapping.fc{i}.bias"] * arch.lr_multiplier)  # fmt: skip
    x = state["synthesis.b4.const"].expand(len(z), -1, -1, -1)
    image: Tensor | None = None
    for r in arch.resolutions:
        name = f"synthesis.b{r}"
        if r > 4:
            x = layer(state, f"{name}.conv0", x, w, modulated, up=True)
        x = layer(state, f"{name}.conv1", x, w, modulated)
        image = None if image is None else upfirdn(image, gain=4, up=2, pads=(2, 1))
        weight = state[f"{name}.torgb.weight"]
        styles = dense(state, f"{name}.torgb.affine", w) / math.sqrt(weight.shape[1])
        y = to_rgb(x, weight, styles, modulated) + state[f"{name}.torgb.bias"][:, None, None]
        image = y if image is None else image + y
    assert image is not None
    return image


def layer(state: State, name: str, x: Tensor, w: Tensor, modulated: Modulated, up: bool = False) -> Tensor:
    """One style convolution with noise, bias and activation."""
    styles = dense(state, f"{name}.affine", w)
    x = modulated(x, state[f"{name}.weight"], styles, up)
    x = x.add_(state[f"{name}.noise_const"] * state[f"{name}.noise_strength"])
    return bias_act(x, state[f"{name}.bias"])


def grouped(x: Tensor, weight: Tensor, styles: Tensor, up: bool) -> Tensor:
    """Scaled weights in groups."""
    kernels = weight[None] * styles[:, None, :, None, None]
    kernels = kernels * (kernels.square().sum(dim=(2, 3, 4)) + 1e-8).rsqrt()[:, :, None, None, None]
    return by_sample(x, kernels, up)


def by_sample(x: Tensor, kernels: Tensor, up: bool) -> Tensor:
    """A kernel [N, O, I, k, k] for each sample: one convolution in N groups."""
    n, o, i, k, _ = kernels.shape
    flat = x.reshape(1, n * i, *x.shape[2:])
    if up:
        y = F.conv_transpose2d(flat, kernels.transpose(1, 2).reshape(n * i, o, k, k), stride=2, groups=n)
        y = upfirdn(y, gain=4, pads=(1, 1))
    else:
        y = F.conv2d(flat, kernels.reshape(n * o, i, k, k), padding=k // 2, groups=n)
    return y.reshape(n, o, *y.shape[2:])


def shared(x: Tensor, weight: Tensor, styles: Tensor, up: bool) -> Tensor:
    """Scaled activations around one shared weight, demodulated after it."""
    kernels = weight[None] * styles[:, None, :, None, None]
    factor = (kernels.square().sum(dim=(2, 3, 4)) + 1e-8).rsqrt()
    x = x * styles[:, :, None, None]
    if up:
        x = upfirdn(F.conv_transpose2d(x, weight.transpose(0, 1), stride=2), gain=4, pads=(1, 1))
    else:
        x = F.conv2d(x, weight, padding=1)
    return x * factor[:, :, None, None]


def to_rgb(x: Tensor, weight: Tensor, styles: Tensor, modulated: Modulated) -> Tensor:
    """The 1x1 convolution to colours in the same reading, without demodulation."""
    if modulated is grouped:
        return by_sample(x, weight[None] * styles[:, None, :, None, None], up=False)
    return F.conv2d(x * styles[:, :, None, None], weight)


def dense(state: State, name: str, x: Tensor, lr: float = 1.0, bias: bool = True) -> Tensor:
    """A dense layer with its weight scaled at run time."""
    weight = state[f"{name}.weight"]
    x = x.matmul((weight * (lr / math.sqrt(weight.shape[1]))).t())
    return x + state[f"{name}.bias"] * lr if bias else x


def bias_act(x: Tensor, bias: Tensor) -> Tensor:
    """Bias, leaky ReLU, gain, each a step."""
    x = x + bias.reshape(1, -1, *[1] * (x.ndim - 2))
    return F.leaky_relu(x, 0.2) * math.sqrt(2)


def upfirdn(x: Tensor, gain: float, up: int = 1, pads: tuple[int, int] = (0, 0)) -> Tensor:
    """Zeros between the pixels, padding, then [1, 3, 3, 1] both ways as a depthwise convolution."""
    n, c, h, w = x.shape
    x = x.reshape(n, c, h, 1, w, 1)
    x = F.pad(x, (0, up - 1, 0, 0, 0, up - 1)).reshape(n, c, h * up, w * up)
    x = F.pad(x, (*pads, *pads))
    taps = x.new_tensor([1.0, 3.0, 3.0, 1.0])
    kernel = torch.outer(taps, taps) * (gain / 64)
    return F.conv2d(x, kernel.expand(c, 1, 4, 4), groups=c)
