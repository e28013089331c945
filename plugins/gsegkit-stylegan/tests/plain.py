"""StyleGAN2 as the paper is read: one kernel per sample, zeros inserted, filters as dense convolutions. Slow, separate."""

import math

import torch
import torch.nn.functional as F


def plain_filter(x, kernel, gain=1.0, up=1, down=1, pads=(0, 0)):
    """Insert zeros, pad, correlate with the flipped kernel as ONE dense convolution over all channels, drop pixels."""
    n, c, h, w = x.shape
    grown = x.new_zeros(n, c, h * up, w * up)
    grown[:, :, ::up, ::up] = x
    grown = F.pad(grown, (pads[0], pads[1], pads[0], pads[1]))
    dense = x.new_zeros(c, c, *kernel.shape)
    for i in range(c):
        dense[i, i] = kernel.flip(0, 1) * gain
    return F.conv2d(grown, dense)[:, :, ::down, ::down]


def kernel_of(taps):
    taps = torch.tensor(taps, dtype=torch.float64)
    return torch.outer(taps, taps) / taps.sum() ** 2


def dense(state, name, x, lr=1.0):
    weight = state[f"{name}.weight"]
    return x @ weight.T * (lr / math.sqrt(weight.shape[1])) + state[f"{name}.bias"] * lr


def lrelu(x, gain, clamp):
    x = torch.where(x > 0, x, 0.2 * x) * gain
    return x if clamp is None else x.clamp(-clamp, clamp)


def modulated(weight, styles, eps, gain_first):
    """One kernel per sample, demodulated: the fused form of the paper."""
    if gain_first:
        weight = weight / math.sqrt(weight[0].numel())
    kernels = weight[None] * styles[:, None, :, None, None]
    return kernels / (kernels.square().sum(dim=(2, 3, 4), keepdim=True) + eps).sqrt()


def style_conv(state, name, x, w, arch, up, noise, gain=1.0):
    styles = dense(state, f"{name}.affine", w)
    kernels = modulated(state[f"{name}.weight"], styles, 1e-8, arch.demod_gain_first)
    n, o, i, k, _ = kernels.shape
    flat = x.reshape(1, n * i, *x.shape[2:])
    if up:
        grouped = kernels.transpose(1, 2).reshape(n * i, o, k, k)
        y = F.conv_transpose2d(flat, grouped, stride=2, groups=n)
        y = y.reshape(n, o, *y.shape[2:])
        taps = len(arch.resample_filter)
        y = plain_filter(y, kernel_of(arch.resample_filter), gain=4, pads=((taps + 1) // 2 - 1, taps // 2 - 1))
    else:
        y = F.conv2d(flat, kernels.reshape(n * o, i, k, k), padding=1, groups=n)
        y = y.reshape(n, o, *y.shape[2:])
    y = y + noise * state[f"{name}.noise_strength"] + state[f"{name}.bias"][:, None, None]
    return lrelu(y, math.sqrt(2) * gain, None if arch.conv_clamp is None else arch.conv_clamp * gain)


def to_rgb(state, name, x, w, arch):
    weight = state[f"{name}.weight"]
    styles = dense(state, f"{name}.affine", w) / math.sqrt(weight.shape[1])
    y = torch.einsum("nihw,oi,ni->nohw", x, weight[:, :, 0, 0], styles) + state[f"{name}.bias"][:, None, None]
    return y if arch.conv_clamp is None else y.clamp(-arch.conv_clamp, arch.conv_clamp)


def mapping(state, arch, z, labels=None):
    x = z / (z.square().mean(dim=1, keepdim=True) + 1e-8).sqrt()
    if arch.num_classes:
        onehot = F.one_hot(labels, arch.num_classes).to(z.dtype)
        y = dense(state, "mapping.embed", onehot)
        x = torch.cat([x, y / (y.square().mean(dim=1, keepdim=True) + 1e-8).sqrt()], dim=1)
    for i in range(arch.mapping_layers):
        x = lrelu(dense(state, f"mapping.fc{i}", x, arch.lr_multiplier), math.sqrt(2), None)
    return x


def synthesis(state, arch, ws):
    """[N, num_ws, w_dim] -> images, with the stored noise; w indices spelled out from the table."""
    n = len(ws)
    x = state["synthesis.b4.const"].expand(n, -1, -1, -1)
    noise = {key[: -len(".noise_const")]: value for key, value in state.items() if key.endswith("noise_const")}
    image_filter = (arch.image_filter if arch.architecture == "skip" else None) or arch.resample_filter
    taps = kernel_of(image_filter)
    up_pads = ((len(image_filter) + 1) // 2, len(image_filter) // 2 - 1)
    image = None
    for k in range(2, int(math.log2(arch.resolution)) + 1):
        name = f"synthesis.b{2**k}"
        if k == 2:
            x = style_conv(state, f"{name}.conv1", x, ws[:, 0], arch, False, noise[f"{name}.conv1"])
            rgb_w = ws[:, 1]
        else:
            root = math.sqrt(0.5) if arch.architecture == "resnet" else 1.0
            before = x
            x = style_conv(state, f"{name}.conv0", x, ws[:, 2 * k - 5], arch, True, noise[f"{name}.conv0"])
            x = style_conv(state, f"{name}.conv1", x, ws[:, 2 * k - 4], arch, False, noise[f"{name}.conv1"], root)
            if arch.architecture == "resnet":
                weight = state[f"{name}.skip.weight"]
                y = F.conv2d(before, weight / math.sqrt(weight.shape[1]) * root)
                x = x + plain_filter(y, taps, gain=4, up=2, pads=up_pads)
            rgb_w = ws[:, 2 * k - 3]
        if image is not None:
            image = plain_filter(image, taps, gain=4, up=2, pads=up_pads)
        if arch.architecture == "skip" or 2**k == arch.resolution:
            y = to_rgb(state, f"{name}.torgb", x, rgb_w, arch)
            image = y if image is None else image + y
    return image
