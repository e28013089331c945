"""Tiny networks of other software, from the facts alone: the variables that its files hold, and what its code computes.

Nothing here knows our networks or readers. Names, shapes and axes are those of the other software; pictures are computed
step by step, products summed one by one. So a reader that is wrong in both directions does not pass.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F


class Variables(dict):
    """Random variables by name, in double precision."""

    def __init__(self, seed: int = 0):
        super().__init__()
        self.generator = torch.Generator().manual_seed(seed)

    def add(self, name: str, *shape: int, std: float = 1.0, mean: float = 0.0):
        self[name] = torch.randn(shape, generator=self.generator, dtype=torch.float64) * std + mean

    def stored(self) -> dict[str, torch.Tensor]:
        """As files hold them."""
        return {name: tensor.float() for name, tensor in self.items()}

    def arrays(self) -> dict:
        """As pickles of TensorFlow networks hold them."""
        return {name: tensor.numpy()[()] for name, tensor in self.stored().items()}


# ---- steps ---------------------------------------------------------------------------------------------------------


def lrelu(x, gain=1.0):
    return torch.where(x > 0, x, 0.2 * x) * gain


def pixel_norm(x):
    return x / (x.square().mean(dim=1, keepdim=True) + 1e-8).sqrt()


def nearest(x):
    return x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)


def correlated(x, kernel):
    """tf.nn.conv2d, padding SAME: kernel [k, k, I, O]."""
    k = kernel.shape[0]
    n, _, h, w = x.shape
    padded = F.pad(x, (k // 2,) * 4)
    y = x.new_zeros(n, kernel.shape[3], h, w)
    for a in range(k):
        for b in range(k):
            y += torch.einsum("nihw,io->nohw", padded[:, :, a : a + h, b : b + w], kernel[a, b])
    return y


def scattered(x, kernel, crop=0):
    """tf.nn.conv2d_transpose of stride 2: kernel [k, k, O, I]. Pixel (i, j) adds its product at (2i + a, 2j + b)."""
    k = kernel.shape[0]
    n, _, h, w = x.shape
    y = x.new_zeros(n, kernel.shape[2], 2 * h - 2 + k, 2 * w - 2 + k)
    for a in range(k):
        for b in range(k):
            y[:, :, a : a + 2 * h - 1 : 2, b : b + 2 * w - 1 : 2] += torch.einsum("nihw,oi->nohw", x, kernel[a, b])
    return y[:, :, crop : y.shape[2] - crop, crop : y.shape[3] - crop]


def four_shifts(kernel):
    """A 3x3 kernel [3, 3, ...] summed over four shifts: [4, 4, ...]."""
    padded = F.pad(kernel, (0, 0, 0, 0, 1, 1, 1, 1))
    return padded[1:, 1:] + padded[:-1, 1:] + padded[1:, :-1] + padded[:-1, :-1]


def upfirdn(x, taps, up=1, gain=1.0, pads=(0, 0)):
    """Zeros between the pixels, padding (cropping where negative), every channel convolved with outer(taps, taps)."""
    kernel = torch.outer(torch.tensor(taps), torch.tensor(taps)).double()
    kernel = kernel / kernel.sum() * gain
    n, c, h, w = x.shape
    grown = x.new_zeros(n, c, h * up, w * up)
    grown[:, :, ::up, ::up] = x
    grown = F.pad(grown, (*pads, *pads))
    y = F.conv2d(grown.reshape(n * c, 1, *grown.shape[2:]), kernel.flip(0, 1)[None, None])
    return y.reshape(n, c, *y.shape[2:])


def channels(r, base, most):
    return min(base // r, most)


def sizes(resolution):
    return [2**k for k in range(2, int(math.log2(resolution)) + 1)]


# ---- Progressive GAN, TensorFlow -----------------------------------------------------------------------------------


class TensorFlowPGGAN:
    """Karras et al. 2018. Fused layers are called Conv0_up and hold [k, k, out, in]; plain ones Conv0, [k, k, in, out]."""

    def __init__(self, resolution, base, most, z_dim, fused, labels=0, colours=3):
        self.resolution, self.fused, self.labels, self.z_dim = resolution, fused, labels, z_dim
        self.v = v = Variables()
        c = lambda r: channels(r, base, most)  # noqa: E731
        v.add("4x4/Dense/weight", z_dim + labels, c(4) * 16)
        v.add("4x4/Dense/bias", c(4))
        v.add("4x4/Conv/weight", 3, 3, c(4), c(4))
        v.add("4x4/Conv/bias", c(4))
        for r in sizes(resolution)[1:]:
            first = f"{r}x{r}/Conv0_up" if fused else f"{r}x{r}/Conv0"
            v.add(f"{first}/weight", 3, 3, *((c(r), c(r // 2)) if fused else (c(r // 2), c(r))))
            v.add(f"{first}/bias", c(r))
            v.add(f"{r}x{r}/Conv1/weight", 3, 3, c(r), c(r))
            v.add(f"{r}x{r}/Conv1/bias", c(r))
        for lod, r in enumerate(reversed(sizes(resolution))):
            v.add(f"ToRGB_lod{lod}/weight", 1, 1, c(r), colours)
            v.add(f"ToRGB_lod{lod}/bias", colours, std=0.1)
        v["lod"] = torch.zeros((), dtype=torch.float64)

    def kwargs(self):
        return {"num_channels": 3, "resolution": self.resolution, "label_size": self.labels, "fused_scale": self.fused}

    def __call__(self, z, labels=None):
        v, root2 = self.v, math.sqrt(2)
        x = z if labels is None else torch.cat([z, labels], dim=1)
        weight = v["4x4/Dense/weight"]
        x = pixel_norm(x) @ weight * (root2 / 4 / math.sqrt(len(weight)))
        x = x.reshape(len(z), -1, 4, 4)
        x = pixel_norm(lrelu(x + v["4x4/Dense/bias"][:, None, None]))
        x = self._conv("4x4/Conv", x)
        for r in sizes(self.resolution)[1:]:
            if self.fused:
                weight = v[f"{r}x{r}/Conv0_up/weight"]
                x = scattered(x, four_shifts(weight * (root2 / math.sqrt(9 * weight.shape[3]))), crop=1)
                x = pixel_norm(lrelu(x + v[f"{r}x{r}/Conv0_up/bias"][:, None, None]))
            else:
                x = self._conv(f"{r}x{r}/Conv0", nearest(x))
            x = self._conv(f"{r}x{r}/Conv1", x)
        weight = v["ToRGB_lod0/weight"]
        return correlated(x, weight / math.sqrt(weight.shape[2])) + v["ToRGB_lod0/bias"][:, None, None]

    def _conv(self, name, x):
        weight = self.v[f"{name}/weight"]
        x = correlated(x, weight * (math.sqrt(2) / math.sqrt(9 * weight.shape[2])))
        return pixel_norm(lrelu(x + self.v[f"{name}/bias"][:, None, None]))


# ---- Progressive GAN, genforce -------------------------------------------------------------------------------------


class GenforcePGGAN:
    """genforce: normalises before each layer. Fused kernels are [in, out, k, k], plain ones [out, in, k, k].

    `old`: the layout of HiGAN, where fused kernels are [k, k, in, out] and called `weight`, plain ones `conv.weight`.
    """

    def __init__(self, resolution, base, most, z_dim, fused, old=False, colours=3):
        self.resolution, self.fused, self.old, self.z_dim = resolution, fused, old, z_dim
        self.v = v = Variables()
        c = lambda r: channels(r, base, most)  # noqa: E731
        self.plain, self.bias = plain, bias = ("conv.weight", "wscale.bias") if old else ("weight", "bias")
        for i, r in enumerate(sizes(resolution)):
            if r == 4:
                v.add(f"layer0.{plain}", c(4), z_dim, 4, 4)
            elif fused:
                v.add(f"layer{2 * i}.weight", *((3, 3, c(r // 2), c(r)) if old else (c(r // 2), c(r), 3, 3)))
            else:
                v.add(f"layer{2 * i}.{plain}", c(r), c(r // 2), 3, 3)
            v.add(f"layer{2 * i + 1}.{plain}", c(r), c(r), 3, 3)
            v.add(f"layer{2 * i}.{bias}", c(r))
            v.add(f"layer{2 * i + 1}.{bias}", c(r))
            v.add(f"output{i}.{plain}", colours, c(r), 1, 1)
            v.add(f"output{i}.{bias}", colours, std=0.1)
        v["lod"] = torch.zeros((), dtype=torch.float64)

    def __call__(self, z):
        v, x = self.v, z[:, :, None, None]
        for i, r in enumerate(sizes(self.resolution)):
            x = pixel_norm(x)
            if r > 4 and self.fused:
                weight = v[f"layer{2 * i}.weight"]
                weight = weight.permute(0, 1, 3, 2) if self.old else weight.permute(2, 3, 1, 0)  # [k, k, out, in]
                x = scattered(x, four_shifts(weight * (math.sqrt(2) / math.sqrt(9 * weight.shape[3]))), crop=1)
                x = self._finish(f"layer{2 * i}", x)
            else:
                x = self._conv(f"layer{2 * i}", nearest(x) if r > 4 else x)  # the first: 4x4 on one padded pixel
            x = self._conv(f"layer{2 * i + 1}", pixel_norm(x))
        weight = v[f"output{i}.{self.plain}"]
        x = F.conv2d(pixel_norm(x), weight / math.sqrt(weight.shape[1]))
        return x + v[f"output{i}.{self.bias}"][:, None, None]

    def _conv(self, name, x):
        weight = self.v[f"{name}.{self.plain}"]
        weight, padding = weight * (math.sqrt(2) / math.sqrt(weight[0].numel())), {3: 1, 4: 3}[weight.shape[3]]
        return self._finish(name, F.conv2d(x, weight, padding=padding))

    def _finish(self, name, x):
        return lrelu(x + self.v[f"{name}.{self.bias}"][:, None, None])


# ---- StyleGAN ------------------------------------------------------------------------------------------------------


def _stylegan_names(code: str, fused) -> dict:
    """Where each code keeps a part; `kernel`: a stored kernel as [k, k, in, out]."""
    if code == "tensorflow":
        at4, above = {True: "Const", False: "Conv"}, {True: "Conv0_up", False: "Conv1"}
        block = lambda r, first: f"synthesis/{r}x{r}/{(at4 if r == 4 else above)[first]}"  # noqa: E731
        return {
            "label": "mapping/LabelConcat/weight", "dense": "mapping/Dense{}/weight", "dense_bias": "mapping/Dense{}/bias",
            "mean": "dlatent_avg", "const": "synthesis/4x4/Const/const",
            "weight": lambda r, first: f"{block(r, first)}/weight", "bias": lambda r, first: f"{block(r, first)}/bias",
            "style": lambda r, first: f"{block(r, first)}/StyleMod/weight",
            "style_bias": lambda r, first: f"{block(r, first)}/StyleMod/bias",
            "strength": lambda r, first: f"{block(r, first)}/Noise/weight", "noise": lambda j: f"synthesis/noise{j}",
            "rgb": lambda i, last: f"synthesis/ToRGB_lod{last - i}/weight",
            "rgb_bias": lambda i, last: f"synthesis/ToRGB_lod{last - i}/bias",
            "shape": lambda r, first, i, o: (3, 3, i, o), "kernel": lambda r, first, w: w, "dense_shape": lambda i, o: (i, o),
            "matrix": lambda w: w, "rgb_shape": lambda c: (1, 1, c, 3),
        }  # fmt: skip
    layer = lambda r, first: f"synthesis.layer{2 * (r.bit_length() - 3) + (not first)}"  # noqa: E731
    old = code == "genforce, older"
    style = ".epilogue.style_mod.dense.{}" if old else ".style.{}"
    names = {
        "label": "mapping.label_weight",
        "dense": "mapping.dense{}.fc.weight" if old else "mapping.dense{}.weight",
        "dense_bias": "mapping.dense{}.wscale.bias" if old else "mapping.dense{}.bias",
        "mean": "truncation.w_avg", "const": "synthesis.layer0.const",
        "weight": lambda r, first: layer(r, first) + (".conv.weight" if old and not (first and fused(r)) else ".weight"),
        "bias": lambda r, first: layer(r, first) + (".epilogue.bias" if old else ".bias"),
        "style": lambda r, first: layer(r, first) + style.format("fc.weight" if old else "weight"),
        "style_bias": lambda r, first: layer(r, first) + style.format("wscale.bias" if old else "bias"),
        "strength": lambda r, first: layer(r, first) + (".epilogue" if old else "") + ".apply_noise.weight",
        "noise": lambda j: f"synthesis.layer{j}" + (".epilogue" if old else "") + ".apply_noise.noise",
        "rgb": lambda i, last: f"synthesis.output{i}." + ("conv.weight" if old else "weight"),
        "rgb_bias": lambda i, last: f"synthesis.output{i}.bias",
        "shape": lambda r, first, i, o: (o, i, 3, 3), "kernel": lambda r, first, w: w.permute(2, 3, 1, 0),
        "dense_shape": lambda i, o: (o, i), "matrix": lambda w: w.T, "rgb_shape": lambda c: (3, c, 1, 1),
    }  # fmt: skip
    if old:  # only here are fused kernels kept in another order than plain ones
        names["shape"] = lambda r, first, i, o: (3, 3, i, o) if first and fused(r) else (o, i, 3, 3)
        names["kernel"] = lambda r, first, w: w if first and fused(r) else w.permute(2, 3, 1, 0)
    return names


class StyleGAN:
    """Karras et al. 2019, of three codes: "tensorflow", "genforce" or "genforce, older". `fused`: resolution -> bool."""

    def __init__(self, code, resolution, base, most, z_dim, w_dim, fused, layers=2, hidden=0, labels=0, lr=0.01):
        self.resolution, self.fused, self.z_dim, self.layers, self.lr = resolution, fused, z_dim, layers, lr
        self.n = n = _stylegan_names(code, fused)
        self.v = v = Variables()
        c = lambda r: channels(r, base, most)  # noqa: E731
        if labels:
            v.add(n["label"], labels, z_dim)
        widths = [z_dim * (2 if labels else 1), *[hidden or w_dim] * (layers - 1), w_dim]
        for i in range(layers):
            v.add(n["dense"].format(i), *n["dense_shape"](widths[i], widths[i + 1]), std=1 / lr)
            v.add(n["dense_bias"].format(i), widths[i + 1], std=0.1 / lr)
        v.add(n["mean"], w_dim)
        v.add(n["const"], 1, c(4), 4, 4)
        rs = sizes(resolution)
        for i, r in enumerate(rs):
            for first in (True, False):
                inputs = c(r // 2) if first else c(r)
                if r > 4 or not first:
                    v.add(n["weight"](r, first), *n["shape"](r, first, inputs, c(r)))
                v.add(n["bias"](r, first), c(r))
                v.add(n["style"](r, first), *n["dense_shape"](w_dim, 2 * c(r)))
                v.add(n["style_bias"](r, first), 2 * c(r))
                v.add(n["strength"](r, first), c(r))
                v.add(n["noise"](2 * i + (not first)), 1, 1, r, r)
            v.add(n["rgb"](i, len(rs) - 1), *n["rgb_shape"](c(r)))
            v.add(n["rgb_bias"](i, len(rs) - 1), 3)

    def mapped(self, z, labels=None):
        v, n = self.v, self.n
        x = pixel_norm(z if labels is None else torch.cat([z, labels @ v[n["label"]]], dim=1))
        for i in range(self.layers):
            matrix = n["matrix"](v[n["dense"].format(i)])
            x = x @ matrix * (math.sqrt(2) / math.sqrt(len(matrix)) * self.lr) + v[n["dense_bias"].format(i)] * self.lr
            x = lrelu(x)
        return x

    def __call__(self, z, labels=None):
        v, n, w = self.v, self.n, self.mapped(z, labels)
        x = v[n["const"]].expand(len(z), -1, -1, -1)
        rs = sizes(self.resolution)
        for i, r in enumerate(rs):
            for first in (True, False):
                if r > 4 or not first:
                    kernel = n["kernel"](r, first, v[n["weight"](r, first)])
                    kernel = kernel * (math.sqrt(2) / math.sqrt(9 * kernel.shape[2]))
                    if first and self.fused(r):
                        x = scattered(x, four_shifts(kernel.transpose(2, 3)), crop=1)
                    else:
                        x = correlated(nearest(x) if first else x, kernel)
                    x = upfirdn(x, (1.0, 2.0, 1.0), pads=(1, 1)) if first else x
                x = x + v[n["noise"](2 * i + (not first))] * v[n["strength"](r, first)][:, None, None]
                x = lrelu(x + v[n["bias"](r, first)][:, None, None])
                x = x - x.mean(dim=(2, 3), keepdim=True)
                x = x / (x.square().mean(dim=(2, 3), keepdim=True) + 1e-8).sqrt()
                matrix = n["matrix"](v[n["style"](r, first)])
                style = w @ matrix / math.sqrt(len(matrix)) + v[n["style_bias"](r, first)]
                scale, shift = style[:, :, None, None].chunk(2, dim=1)
                x = x * (scale + 1) + shift
        rgb = v[n["rgb"](i, len(rs) - 1)]
        rgb = rgb if rgb.shape[0] == 1 else rgb.permute(2, 3, 1, 0)
        return correlated(x, rgb / math.sqrt(rgb.shape[2])) + v[n["rgb_bias"](i, len(rs) - 1)][:, None, None]


# ---- StyleGAN2 -----------------------------------------------------------------------------------------------------


class StyleGAN2:
    """Karras et al. 2020, of the codes "rosinality" and "genforce".

    `taps`: the blur_kernel of rosinality's code. `conditioning` of genforce: "joint", or "apart" in its ADA networks.
    """

    def __init__(self, code, resolution, base, most, z_dim, w_dim, taps=(1.0, 3.0, 3.0, 1.0), layers=2, hidden=0,
                 labels=0, conditioning="", lr=0.01):  # fmt: skip
        self.code, self.resolution, self.z_dim, self.layers, self.taps = code, resolution, z_dim, layers, taps
        self.lr, self.conditioning = lr, conditioning
        self.v = v = Variables()
        c = lambda r: channels(r, base, most)  # noqa: E731
        if labels and conditioning == "joint":
            v.add("mapping.label_weight", labels, z_dim)
        elif labels:
            v.add("mapping.LabelEmbed.weight", z_dim, labels)
            v.add("mapping.LabelEmbed.bias", z_dim)
        widths = [z_dim * (2 if labels else 1), *[hidden or w_dim] * (layers - 1), w_dim]
        for i in range(layers):
            v.add(self._dense(i, "weight"), widths[i + 1], widths[i], std=1 / lr)
            v.add(self._dense(i, "bias"), widths[i + 1], std=0.1 / lr)
        v.add("input.input" if code == "rosinality" else "synthesis.early_layer.const", 1, c(4), 4, 4)
        if code == "genforce":
            v.add("truncation.w_avg", w_dim)
        for j, (r, up) in enumerate(self._convolutions()):
            self._add_layer(j, c(r // 2) if up else c(r), c(r), w_dim, 3)
            v.add(self._noise(j), 1, 1, r, r)
            v.add(
                *(
                    (f"{self._conv(j)}.noise.weight", 1)
                    if code == "rosinality"
                    else (f"{self._conv(j)}.noise_strength",)
                )
            )
            if up:
                name = "conv.blur.kernel" if code == "rosinality" else "filter.kernel"
                v[f"{self._conv(j)}.{name}"] = self._kernel(taps)
        for i, r in enumerate(sizes(resolution)):
            self._add_layer(-1 - i, c(r), 3, w_dim, 1)
            if code == "rosinality" and i:
                v[f"to_rgbs.{i - 1}.upsample.kernel"] = self._kernel((1.0, 3.0, 3.0, 1.0))
        if code == "genforce":
            v["synthesis.upsample.kernel"] = self._kernel((1.0, 3.0, 3.0, 1.0))

    def _kernel(self, taps):
        kernel = torch.outer(torch.tensor(taps), torch.tensor(taps)).double()
        kernel = kernel / kernel.sum() * 4
        return kernel if self.code == "rosinality" else kernel[None, None]

    def _convolutions(self):
        return [(4, False), *((r, up) for r in sizes(self.resolution)[1:] for up in (True, False))]

    def _dense(self, i, leaf):
        return f"style.{i + 1}.{leaf}" if self.code == "rosinality" else f"mapping.dense{i}.{leaf}"

    def _noise(self, j):
        return f"noises.noise_{j}" if self.code == "rosinality" else f"synthesis.layer{j}.noise"

    def _conv(self, j):
        """Layers from 0; toRGB layers are -1, -2 ..."""
        if self.code == "genforce":
            return f"synthesis.layer{j}" if j >= 0 else f"synthesis.output{-1 - j}"
        if j < 0:
            return "to_rgb1" if j == -1 else f"to_rgbs.{-2 - j}"
        return "conv1" if j == 0 else f"convs.{j - 1}"

    def _add_layer(self, j, inputs, outputs, w_dim, k):
        v, name = self.v, self._conv(j)
        if self.code == "rosinality":
            v.add(f"{name}.conv.weight", 1, outputs, inputs, k, k)
            v.add(f"{name}.conv.modulation.weight", inputs, w_dim)
            v.add(f"{name}.conv.modulation.bias", inputs, mean=1.0)
            v.add(f"{name}.bias" if j < 0 else f"{name}.activate.bias", *((1, outputs, 1, 1) if j < 0 else (outputs,)))
        else:
            v.add(f"{name}.weight", outputs, inputs, k, k)
            v.add(f"{name}.style.weight", inputs, w_dim)
            v.add(f"{name}.style.bias", inputs)
            v.add(f"{name}.bias", outputs)

    def mapped(self, z, labels=None):
        v, x = self.v, z
        if labels is not None and self.conditioning == "joint":
            x = torch.cat([z, labels @ v["mapping.label_weight"]], dim=1)
        x = pixel_norm(x)
        if labels is not None and self.conditioning == "apart":
            weight = v["mapping.LabelEmbed.weight"]
            embedded = labels @ weight.T / math.sqrt(weight.shape[1]) + v["mapping.LabelEmbed.bias"]
            x = torch.cat([x, pixel_norm(embedded)], dim=1)
        for i in range(self.layers):
            weight = v[self._dense(i, "weight")]
            x = x @ weight.T * (self.lr / math.sqrt(weight.shape[1])) + v[self._dense(i, "bias")] * self.lr
            x = lrelu(x, math.sqrt(2))
        return x

    def _modulated(self, j, w, demodulate):
        """One kernel for each sample: [N, out, in, k, k]."""
        v, name = self.v, self._conv(j)
        if self.code == "rosinality":
            weight = v[f"{name}.conv.weight"]
            a, b = (v[f"{name}.conv.modulation.{leaf}"] for leaf in ("weight", "bias"))
        else:
            weight, a, b = v[f"{name}.weight"][None], v[f"{name}.style.weight"], v[f"{name}.style.bias"] + 1
        style = w @ a.T / math.sqrt(a.shape[1]) + b
        kernels = weight / math.sqrt(weight[0, 0].numel()) * style[:, None, :, None, None]
        if demodulate:
            kernels = kernels / (kernels.square().sum(dim=(2, 3, 4), keepdim=True) + 1e-8).sqrt()
        return kernels

    def __call__(self, z, labels=None):
        v, w = self.v, self.mapped(z, labels)
        const = v["input.input" if self.code == "rosinality" else "synthesis.early_layer.const"]
        x, image = const.expand(len(z), -1, -1, -1), None
        for j, (r, up) in enumerate(self._convolutions()):
            name = self._conv(j)
            kernels = self._modulated(j, w, True)
            if up:
                kernels = kernels if self.code == "rosinality" else kernels.flip(3, 4)
                x = torch.cat([scattered(one[None], k.permute(2, 3, 0, 1)) for one, k in zip(x, kernels, strict=True)])
                p = len(self.taps) - 4
                x = upfirdn(x, self.taps, gain=4.0, pads=((p + 1) // 2 + 1, p // 2 + 1))
            else:
                x = torch.cat([F.conv2d(one[None], k, padding=1) for one, k in zip(x, kernels, strict=True)])
            strength = v[f"{name}.noise.weight" if self.code == "rosinality" else f"{name}.noise_strength"]
            bias = v[f"{name}.activate.bias" if self.code == "rosinality" else f"{name}.bias"]
            x = lrelu(x + v[self._noise(j)] * strength + bias[:, None, None], math.sqrt(2))
            if not up:
                place = -1 - sizes(self.resolution).index(r)
                rgb = torch.einsum("nihw,noi->nohw", x, self._modulated(place, w, False)[..., 0, 0])
                rgb = rgb + v[f"{self._conv(place)}.bias"].reshape(-1, 1, 1)
                image = (
                    rgb if image is None else rgb + upfirdn(image, (1.0, 3.0, 3.0, 1.0), up=2, gain=4.0, pads=(2, 1))
                )
        return image
