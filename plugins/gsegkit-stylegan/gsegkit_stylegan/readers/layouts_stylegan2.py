"""StyleGAN2 in four layouts: where each tensor of the canonical (NVIDIA) layout is stored elsewhere.

Layer j is the j-th style convolution: 0 at 4 px, then two a resolution. Orientation of the up-sampling
kernels: NVIDIA and rosinality agree, TensorFlow and genforce store them flipped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from gsegkit_stylegan.readers.rules import (
    FLIPPED,
    FRONT,
    FRONT2,
    HWIO,
    ROW,
    SAME,
    SCALAR,
    TRANSPOSED,
    WITHOUT_ONE,
    Op,
    Rule,
)

_KEY = re.compile(r"synthesis\.b(\d+)\.(conv0|conv1|torgb|skip|const)\.?(.*)")


@dataclass(frozen=True)
class Skeleton:
    """Which parts a network has; with it all canonical names are known."""

    resolution: int
    mapping_layers: int
    embed: tuple[str, ...] = ()  # of "weight", "bias"
    torgb_everywhere: bool = True
    skip: bool = False

    @property
    def resolutions(self) -> list[int]:
        """4, 8 ... resolution."""
        return [2**k for k in range(2, self.resolution.bit_length())]

    def names(self) -> list[str]:
        """Canonical names of all tensors."""
        names = [f"mapping.embed.{leaf}" for leaf in self.embed]
        names += [f"mapping.fc{i}.{leaf}" for i in range(self.mapping_layers) for leaf in ("weight", "bias")]
        names += ["mapping.w_avg", "synthesis.b4.const"]
        leaves = ("weight", "bias", "affine.weight", "affine.bias")
        for r in self.resolutions:
            for conv in ("conv1",) if r == 4 else ("conv0", "conv1"):
                names += [f"synthesis.b{r}.{conv}.{leaf}" for leaf in (*leaves, "noise_strength", "noise_const")]
            if self.torgb_everywhere or r == self.resolution:
                names += [f"synthesis.b{r}.torgb.{leaf}" for leaf in leaves]
            if self.skip and r > 4:
                names.append(f"synthesis.b{r}.skip.weight")
        return names


def layer_index(r: int, conv: str) -> int:
    """Number of a style convolution, from 0 at 4 px."""
    k = r.bit_length() - 1
    return 0 if r == 4 else 2 * k - 5 + (conv == "conv1")


def _split(key: str) -> tuple[int, str, str]:
    match = _KEY.fullmatch(key)
    if match is None:
        raise KeyError(key)
    return int(match[1]), match[2], match[3]


def nvidia(key: str) -> Rule:
    """The canonical layout itself."""
    return Rule(key, SAME)


def tensorflow(key: str) -> Rule:
    """Variables of NVIDIA's TensorFlow networks, component names in front."""
    if key == "mapping.w_avg":
        return Rule("dlatent_avg", SAME)
    if key.startswith("mapping."):
        _, layer, leaf = key.split(".")
        name = "LabelEmbed" if layer == "embed" else f"Dense{layer.removeprefix('fc')}"
        return Rule(f"mapping/{name}/{leaf}", TRANSPOSED if leaf == "weight" else SAME)
    r, layer, leaf = _split(key)
    if layer == "const":
        return Rule("synthesis/4x4/Const/const", FRONT)
    if leaf == "noise_const":
        return Rule(f"synthesis/noise{layer_index(r, layer)}", FRONT2)
    names = {"conv0": "Conv0_up", "conv1": "Conv" if r == 4 else "Conv1", "torgb": "ToRGB", "skip": "Skip"}
    leaves: dict[str, tuple[str, Op]] = {
        "weight": ("weight", HWIO.then(FLIPPED) if layer in ("conv0", "skip") else HWIO),
        "bias": ("bias", SAME),
        "affine.weight": ("mod_weight", TRANSPOSED),
        "affine.bias": ("mod_bias", WITHOUT_ONE),
        "noise_strength": ("noise_strength", SAME),
    }
    theirs, op = leaves[leaf]
    return Rule(f"synthesis/{r}x{r}/{names[layer]}/{theirs}", op)


def tensorflow_joint(key: str) -> Rule:
    """As `tensorflow`, with the label matrix of StyleGAN2 before ADA."""
    return Rule("mapping/LabelConcat/weight", TRANSPOSED) if key == "mapping.embed.weight" else tensorflow(key)


def rosinality(key: str) -> Rule:
    """rosinality/stylegan2-pytorch; `latent_avg` stands beside the state dict and is put in by the reader."""
    if key == "mapping.w_avg":
        return Rule("latent_avg", SAME)
    if key.startswith("mapping.fc"):
        number, leaf = key.removeprefix("mapping.fc").split(".")
        return Rule(f"style.{int(number) + 1}.{leaf}", SAME)
    r, layer, leaf = _split(key)
    index = layer_index(r, layer)
    k = r.bit_length() - 1
    if layer == "const":
        return Rule("input.input", FRONT)
    if leaf == "noise_const":
        return Rule(f"noises.noise_{index}", FRONT2)
    if layer == "torgb":
        place = "to_rgb1" if r == 4 else f"to_rgbs.{k - 3}"
    else:
        place = "conv1" if r == 4 else f"convs.{index - 1}"
    leaves: dict[str, tuple[str, Op]] = {
        "weight": ("conv.weight", FRONT),
        "bias": ("bias", ROW) if layer == "torgb" else ("activate.bias", SAME),
        "affine.weight": ("conv.modulation.weight", SAME),
        "affine.bias": ("conv.modulation.bias", SAME),
        "noise_strength": ("noise.weight", SCALAR),
    }
    theirs, op = leaves[leaf]
    return Rule(f"{place}.{theirs}", op)


def genforce(key: str) -> Rule:
    """genforce/genforce."""
    if key == "mapping.w_avg":
        return Rule("truncation.w_avg", SAME)
    if key == "mapping.embed.weight":
        return Rule("mapping.label_weight", TRANSPOSED)
    if key.startswith("mapping.fc"):
        return Rule(key.replace(".fc", ".dense"), SAME)
    r, layer, leaf = _split(key)
    k = r.bit_length() - 1
    if layer == "const":
        return Rule("synthesis.early_layer.const", FRONT)
    place = f"output{k - 2}" if layer == "torgb" else f"layer{layer_index(r, layer)}"
    leaves: dict[str, tuple[str, Op]] = {
        "weight": ("weight", FLIPPED if layer == "conv0" else SAME),
        "bias": ("bias", SAME),
        "affine.weight": ("style.weight", SAME),
        "affine.bias": ("style.bias", WITHOUT_ONE),
        "noise_strength": ("noise_strength", SAME),
        "noise_const": ("noise", FRONT2),
    }
    theirs, op = leaves[leaf]
    return Rule(f"synthesis.{place}.{theirs}", op)


def genforce_ada(key: str) -> Rule:
    """As `genforce`, with the embedding layer of its ADA networks."""
    leaf = key.removeprefix("mapping.embed.")
    return genforce(key) if leaf == key else Rule(f"mapping.LabelEmbed.{leaf}", SAME)


_IGNORED = re.compile(
    r".*\.(resample_filter|blur\.kernel|upsample\.kernel|filter\.kernel)|(.*\.)?lod|"
    r"synthesis\.upsample\.kernel|synthesis/lod|lod"
)


def carries_no_weights(name: str) -> bool:
    """Whether a tensor of a file is a filter or a growth counter, which the configuration already says."""
    return _IGNORED.fullmatch(name) is not None


def count(names: Iterable[str], pattern: str) -> int:
    """One more than the largest number in the first group of `pattern` over all names; 0 without a match."""
    compiled = re.compile(pattern)
    numbers = [int(match[1]) for match in map(compiled.fullmatch, names) if match]
    return max(numbers) + 1 if numbers and max(numbers) < 10_000 else 0
