"""StyleGAN v1 and PGGAN in three layouts: TensorFlow, genforce, and genforce's older one (HiGAN, InterFaceGAN, KLiSH).

Both networks grew, so a file holds one toRGB a resolution; only the last is used. Where a code base fuses up-sampling
and convolution into one transposed convolution, the stored kernel is flipped against the plain one.
Its axes differ too:

| code | StyleGAN, fused | PGGAN, fused |
| --- | --- | --- |
| TensorFlow | k, k, in, out | k, k, out, in |
| genforce | out, in, k, k | in, out, k, k |
| genforce, older | k, k, in, out | k, k, in, out |
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from gsegkit_stylegan.readers.rules import (
    FLIPPED,
    FRONT,
    FRONT2,
    HWIO,
    HWOI,
    IOHW,
    SAME,
    TRANSPOSED,
    Layout,
    Op,
    Rule,
)

_KEY = re.compile(r"synthesis\.b(\d+)\.(conv0|conv1|torgb|const)\.?(.*)")
FUSED_FROM = 128  # StyleGAN v1: "auto" fuses layers of this resolution and above

Fused = Callable[[int], bool]


@dataclass(frozen=True)
class Grown:
    """Which parts a network has."""

    resolution: int
    mapping_layers: int = 0  # 0 = PGGAN
    embed: bool = False

    @property
    def resolutions(self) -> list[int]:
        """4, 8 ... resolution."""
        return [2**k for k in range(2, self.resolution.bit_length())]

    def names(self) -> list[str]:
        """Canonical names of all tensors."""
        style = self.mapping_layers > 0
        names = ["mapping.embed.weight"] if self.embed else []
        names += [f"mapping.fc{i}.{leaf}" for i in range(self.mapping_layers) for leaf in ("weight", "bias")]
        names += ["mapping.w_avg", "synthesis.b4.const"] if style else []
        for r in self.resolutions:
            for conv in ("conv0", "conv1"):
                names += [f"synthesis.b{r}.{conv}.{leaf}" for leaf in _leaves(r, conv, style)]
        return [*names, *(f"synthesis.b{self.resolution}.torgb.{leaf}" for leaf in ("weight", "bias"))]


def _leaves(r: int, conv: str, style: bool) -> list[str]:
    weight = [] if style and r == 4 and conv == "conv0" else ["weight"]  # StyleGAN begins with its constant
    more = ["noise_strength", "noise_const", "affine.weight", "affine.bias"] if style else []
    return [*weight, "bias", *more]


def _split(key: str) -> tuple[int, str, str]:
    match = _KEY.fullmatch(key)
    if match is None:
        raise KeyError(key)
    return int(match[1]), match[2], match[3]


def _index(r: int, conv: str) -> int:
    """Number of a layer: two a resolution, from 0."""
    return 2 * (r.bit_length() - 3) + (conv == "conv1")


def _dense_read(t: Tensor) -> Tensor:
    if t.ndim != 2 or t.shape[1] % 16:
        raise ValueError("expected [inputs, 16 outputs]")
    return t.reshape(t.shape[0], -1, 4, 4).transpose(0, 1)


#: PGGAN's dense layer [I, O x 16] as kernels [O, I, 4, 4].
DENSE = Op(_dense_read, lambda t: t.transpose(0, 1).reshape(t.shape[1], -1))


def tensorflow(resolution: int, fused: Fused, style: bool) -> Layout:
    """Variables of NVIDIA's TensorFlow networks. StyleGAN: component names in front."""
    root = "synthesis/" if style else ""

    def layout(key: str) -> Rule:
        if key == "mapping.w_avg":
            return Rule("dlatent_avg", SAME)
        if key == "mapping.embed.weight":
            return Rule("mapping/LabelConcat/weight", TRANSPOSED)
        if key.startswith("mapping.fc"):
            number, leaf = key.removeprefix("mapping.fc").split(".")
            return Rule(f"mapping/Dense{number}/{leaf}", TRANSPOSED if leaf == "weight" else SAME)
        r, layer, leaf = _split(key)
        if layer == "const":
            return Rule(f"{root}4x4/Const/const", FRONT)
        if layer == "torgb":
            return Rule(f"{root}ToRGB_lod0/{leaf}", HWIO if leaf == "weight" else SAME)
        if leaf == "noise_const":
            return Rule(f"{root}noise{_index(r, layer)}", FRONT2)
        place = f"{root}{r}x{r}/{_tensorflow_name(r, layer, fused, style)}"
        kernel = HWIO
        if layer == "conv0" and r == 4:
            kernel = DENSE
        elif layer == "conv0" and fused(r):
            kernel = (HWIO if style else HWOI).then(FLIPPED)
        leaves: dict[str, tuple[str, Op]] = {
            "weight": ("weight", kernel),
            "bias": ("bias", SAME),
            "noise_strength": ("Noise/weight", SAME),
            "affine.weight": ("StyleMod/weight", TRANSPOSED),
            "affine.bias": ("StyleMod/bias", SAME),
        }
        theirs, op = leaves[leaf]
        return Rule(f"{place}/{theirs}", op)

    return layout


def _tensorflow_name(r: int, layer: str, fused: Fused, style: bool) -> str:
    if r == 4:
        return "Conv" if layer == "conv1" else "Const" if style else "Dense"
    if layer == "conv1":
        return "Conv1"
    return "Conv0_up" if style or fused(r) else "Conv0"


def genforce(resolution: int, fused: Fused, style: bool) -> Layout:
    """genforce/genforce."""
    root = "synthesis." if style else ""

    def layout(key: str) -> Rule:
        if not key.startswith("synthesis."):
            return _genforce_mapping(key, "mapping.dense{0}.{1}", ("weight", "bias"))
        r, layer, leaf = _split(key)
        if layer == "const":
            return Rule(f"{root}layer0.const", FRONT)
        if layer == "torgb":
            return Rule(f"{root}output{resolution.bit_length() - 3}.{leaf}", SAME)
        leaves: dict[str, tuple[str, Op]] = {
            "weight": ("weight", _genforce_kernel(r, layer, fused, style)),
            "bias": ("bias", SAME),
            "noise_strength": ("apply_noise.weight", SAME),
            "noise_const": ("apply_noise.noise", FRONT2),
            "affine.weight": ("style.weight", SAME),
            "affine.bias": ("style.bias", SAME),
        }
        theirs, op = leaves[leaf]
        return Rule(f"{root}layer{_index(r, layer)}.{theirs}", op)

    return layout


def genforce_old(resolution: int, fused: Fused, style: bool) -> Layout:
    """The layout of genforce's earlier code, in which scaling is a layer of its own."""
    root = "synthesis." if style else ""

    def layout(key: str) -> Rule:
        if not key.startswith("synthesis."):
            return _genforce_mapping(key, "mapping.dense{0}.{1}", ("fc.weight", "wscale.bias"))
        r, layer, leaf = _split(key)
        if layer == "const":
            return Rule(f"{root}layer0.const", FRONT)
        bias = "epilogue.bias" if style else "wscale.bias"
        if layer == "torgb":
            theirs = "conv.weight" if leaf == "weight" else "bias" if style else "wscale.bias"
            return Rule(f"{root}output{resolution.bit_length() - 3}.{theirs}", SAME)
        one = r > 4 and layer == "conv0" and fused(r)
        kernel = HWIO.then(FLIPPED) if one else _genforce_kernel(r, layer, lambda r: False, style)
        leaves: dict[str, tuple[str, Op]] = {
            "weight": ("weight" if one else "conv.weight", kernel),
            "bias": (bias, SAME),
            "noise_strength": ("epilogue.apply_noise.weight", SAME),
            "noise_const": ("epilogue.apply_noise.noise", FRONT2),
            "affine.weight": ("epilogue.style_mod.dense.fc.weight", SAME),
            "affine.bias": ("epilogue.style_mod.dense.wscale.bias", SAME),
        }
        theirs, op = leaves[leaf]
        return Rule(f"{root}layer{_index(r, layer)}.{theirs}", op)

    return layout


def _genforce_kernel(r: int, layer: str, fused: Fused, style: bool) -> Op:
    if layer != "conv0":
        return SAME
    if r == 4:  # PGGAN's dense layer runs as a padded correlation
        return SAME if style else FLIPPED
    if not fused(r):
        return SAME
    return FLIPPED if style else IOHW.then(FLIPPED)


def _genforce_mapping(key: str, pattern: str, leaves: tuple[str, str]) -> Rule:
    if key == "mapping.w_avg":
        return Rule("truncation.w_avg", SAME)
    if key == "mapping.embed.weight":
        return Rule("mapping.label_weight", TRANSPOSED)
    number, leaf = key.removeprefix("mapping.fc").split(".")
    return Rule(pattern.format(number, leaves[leaf == "bias"]), SAME)


_IGNORED = re.compile(
    r"(synthesis[./])?lod|(synthesis/)?ToRGB_lod[1-9]\d*/(weight|bias)|"
    r"(synthesis\.)?output\d+\.(conv\.)?(weight|bias|wscale\.bias)|.*\.blur\.kernel|.*\.kernel|truncation\.truncation"
)


def carries_no_weights(name: str) -> bool:
    """Whether a tensor is a filter, a growth counter, or a toRGB that the grown network does not use."""
    return _IGNORED.fullmatch(name) is not None
