"""StyleGAN2 checkpoints of every layout -> the canonical network."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from gsegkit.errors import ArtifactError
from gsegkit.seeds import normals
from gsegkit_stylegan.config import MAX_RESOLUTION, StyleGAN2Arch
from gsegkit_stylegan.networks.stylegan2 import Mapping as MappingNetwork
from gsegkit_stylegan.networks.stylegan2 import StyleGAN2Network
from gsegkit_stylegan.readers.assumed import LR_MULTIPLIER, NO_MULTIPLIER, assumed, doubts, own_truncation
from gsegkit_stylegan.readers.filters import USUAL_TAPS, filter_taps, filters
from gsegkit_stylegan.readers.found import Found
from gsegkit_stylegan.readers.layouts_stylegan2 import (
    Skeleton,
    carries_no_weights,
    count,
    genforce,
    genforce_ada,
    nvidia,
    rosinality,
    tensorflow,
    tensorflow_joint,
)
from gsegkit_stylegan.readers.rules import Layout, read_layout
from gsegkit_stylegan.readers.shapes import as_rgb, channel_rule, check_fits, length, make_arch, mapping_sizes

MEAN_SAMPLES = 10_000
_FILTER = re.compile(r"synthesis\.b(\d+)\.(conv0\.|skip\.)?resample_filter")


def skeleton(resolution: int, mapping_layers: int, **parts: Any) -> Skeleton:
    """The parts of a network, if their numbers are possible at all."""
    if resolution == 4:
        raise ArtifactError("a StyleGAN2 of 4 px", f"8 to {MAX_RESOLUTION} px are supported")
    possible = 8 <= resolution <= MAX_RESOLUTION and resolution & (resolution - 1) == 0
    if not possible or not 1 <= mapping_layers <= 32:
        raise ArtifactError(
            f"seems to be StyleGAN2 with {resolution} px and {mapping_layers} mapping layers",
            f"8 to {MAX_RESOLUTION} px and 1 to 32 mapping layers are supported; the file may be incomplete",
        )
    return Skeleton(resolution, mapping_layers, **parts)


def from_state_dict(tensors: Mapping[str, Tensor], facts: Mapping[str, Any] | None = None) -> Found:
    """NVIDIA's layout. `facts`: what the module attributes say; None for a bare state dict."""
    resolution = count(tensors, r"synthesis\.b(\d+)\.conv1\.weight") - 1
    parts = skeleton(
        resolution,
        count(tensors, r"mapping\.fc(\d+)\.weight"),
        embed=tuple(leaf for leaf in ("weight", "bias") if f"mapping.embed.{leaf}" in tensors),
        torgb_everywhere="synthesis.b4.torgb.weight" in tensors,
        skip="synthesis.b8.skip.weight" in tensors,
    )
    notes: list[str] = []
    bare = facts is None
    if bare:
        notes.append("a bare state dict does not say whether activations are clamped: no clamp was assumed")
        options = {"lr_multiplier": LR_MULTIPLIER, "activation": "lrelu"}
        notes.append(assumed("a bare state dict", options))
    facts = {**(facts or {}), **_nvidia_filters(tensors, parts, notes)}
    tensors = _with_noise(tensors, parts, nvidia, notes)
    lost = not bare and "mapping.w_avg" not in tensors  # trained with w_avg_beta=None
    if lost:
        tensors["mapping.w_avg"] = _no_mean(tensors.get(f"mapping.fc{parts.mapping_layers - 1}.bias"))
    found = _build(tensors, parts, nvidia, "StyleGAN2 (NVIDIA, PyTorch)", facts, notes)
    found = _with_mean(found) if lost else found
    return replace(found, notes=(*found.notes, *doubts(found.state))) if bare else found


def _nvidia_filters(tensors: Mapping[str, Tensor], parts: Skeleton, notes: list[str]) -> dict[str, Any]:
    """Of all the filters that it stores, NVIDIA's code runs only those of layers that change the size."""
    used: dict[str, list[Tensor]] = {"conv": [], "image": []}
    for name, kernel in tensors.items():
        place = _FILTER.fullmatch(name)
        if place is not None and place[1] != "4":
            used["conv" if place[2] else "image"].append(kernel)
    return filters(used["conv"], used["image"] if parts.torgb_everywhere else (), notes)


def from_tensorflow(tensors: Mapping[str, Tensor], kwargs: Mapping[str, Any]) -> Found:
    """NVIDIA's TensorFlow layout, of StyleGAN2 and of its ADA version."""
    joint = "mapping/LabelConcat/weight" in tensors
    layout: Layout = tensorflow_joint if joint else tensorflow
    embed = [leaf for leaf in ("weight", "bias") if f"mapping/LabelEmbed/{leaf}" in tensors]
    parts = skeleton(
        count(tensors, r"synthesis/(\d+)x\d+/.*") - 1,
        count(tensors, r"mapping/Dense(\d+)/weight"),
        embed=("weight",) if joint else tuple(embed),
        torgb_everywhere="synthesis/4x4/ToRGB/weight" in tensors,
        skip="synthesis/8x8/Skip/weight" in tensors,
    )
    _only(kwargs, "nonlinearity", "lrelu")
    _only(kwargs, "mapping_nonlinearity", "lrelu")
    _only(kwargs, "normalize_latents", True)
    notes: list[str] = []
    if "mapping_lrmul" not in kwargs:
        notes.append(NO_MULTIPLIER)
    notes += own_truncation({"truncation_psi": 0.5, **kwargs})
    facts = {
        "conv_clamp": kwargs.get("conv_clamp"),
        "lr_multiplier": kwargs.get("mapping_lrmul", LR_MULTIPLIER),
        "resample_filter": _tensorflow_filter(kwargs),
        "demod_gain_first": True,
        "joint_labels": joint,
    }
    tensors = _with_noise(tensors, parts, layout, notes)
    return _build(tensors, parts, layout, "StyleGAN2 (NVIDIA, TensorFlow)", facts, notes)


def _tensorflow_filter(kwargs: Mapping[str, Any]) -> tuple[float, ...]:
    kernel = kwargs.get("resample_kernel", USUAL_TAPS)
    if kernel is None:  # that code's own meaning of none
        return (1.0, 1.0)
    try:
        return filter_taps(torch.tensor(kernel))
    except (TypeError, ValueError, RuntimeError):
        raise ArtifactError(f"a network with resample_kernel={str(kernel)[:40]}", "numbers were expected") from None


def from_rosinality(tensors: Mapping[str, Tensor], latent_avg: Tensor | None) -> Found:
    """The layout of rosinality/stylegan2-pytorch; training files lack the latent mean."""
    convs = count(tensors, r"convs\.(\d+)\.conv\.weight")
    parts = skeleton(4 * 2 ** min(convs // 2, 16), count(tensors, r"style\.(\d+)\.weight") - 1)
    notes = [assumed("a rosinality file", {"lr_mlp": LR_MULTIPLIER})]
    # Its option blur_kernel reaches the convolutions only: the image is up-sampled with the usual filter.
    convolutions = [kernel for name, kernel in tensors.items() if name.endswith(".conv.blur.kernel")]
    images = [kernel for name, kernel in tensors.items() if name.endswith(".upsample.kernel")]
    facts = {**filters(convolutions, images, notes), "demod_gain_first": True}
    tensors = _with_noise(tensors, parts, rosinality, notes)
    tensors["latent_avg"] = _no_mean(tensors.get("style.1.bias")) if latent_avg is None else latent_avg.reshape(-1)
    found = _build(tensors, parts, rosinality, "StyleGAN2 (rosinality)", facts, notes)
    found = found if latent_avg is not None else _with_mean(found)
    return replace(found, notes=(*found.notes, *doubts(found.state)))


def from_genforce(tensors: Mapping[str, Tensor]) -> Found:
    """The layout of genforce/genforce, of StyleGAN2 and of its ADA version."""
    layers = count(tensors, r"synthesis\.layer(\d+)\.weight")
    joint = "mapping.label_weight" in tensors
    embed = [leaf for leaf in ("weight", "bias") if f"mapping.LabelEmbed.{leaf}" in tensors]
    layout: Layout = genforce if joint else genforce_ada
    parts = skeleton(
        4 * 2 ** min(layers // 2, 16),
        count(tensors, r"mapping\.dense(\d+)\.weight"),
        embed=("weight",) if joint else tuple(embed),
        torgb_everywhere="synthesis.output0.weight" in tensors,
    )
    options = {"mapping_lr_mul": LR_MULTIPLIER, "final_tanh": False, "use_wscale": True, "demodulate": True}
    notes = [assumed("a genforce file", options)]
    convolutions = [kernel for name, kernel in tensors.items() if name.endswith(".filter.kernel")]
    images = [kernel for name, kernel in tensors.items() if name == "synthesis.upsample.kernel"]
    facts = {**filters(convolutions, images, notes), "demod_gain_first": True, "joint_labels": joint}
    tensors = _with_noise(tensors, parts, layout, notes)
    found = _build(tensors, parts, layout, "StyleGAN2 (genforce)", facts, notes)
    return replace(found, notes=(*found.notes, *doubts(found.state)))


def _only(kwargs: Mapping[str, Any], name: str, supported: Any) -> None:
    if kwargs.get(name, supported) != supported:
        raise ArtifactError(f"a network with {name}={kwargs[name]!r}", f"only {name}={supported!r} is supported")


def _with_noise(tensors: Mapping[str, Tensor], parts: Skeleton, layout: Layout, notes: list[str]) -> dict[str, Tensor]:
    """Fill in noise that the file lacks altogether: zero strength of a network without, fixed images where lost."""
    filled = dict(tensors)
    strengths = [layout(name) for name in parts.names() if name.endswith("noise_strength")]
    if not any(rule.theirs in filled for rule in strengths):
        filled.update({rule.theirs: rule.op.write(torch.zeros(())) for rule in strengths})
        notes.append("the network was trained without noise: its strength is zero")
    images = {name: layout(name) for name in parts.names() if name.endswith("noise_const")}
    if any(rule.theirs in filled for rule in images.values()):
        return filled
    for name, rule in images.items():
        r = int(name.split(".")[1].removeprefix("b"))
        drawn = normals(torch.tensor([0]), (r, r), f"noise {name}")[0]
        filled[rule.theirs] = rule.op.write(drawn)
    if any(bool(filled[rule.theirs].ne(0).any()) for rule in strengths if rule.theirs in filled):
        notes.append("the file holds no noise images: fixed ones were drawn, so details differ from the original's")
    return filled


def _no_mean(like: Tensor | None) -> Tensor:
    """Stands in the place of a latent mean that is estimated afterwards."""
    return torch.zeros(1) if like is None else torch.zeros_like(like)


def _build(
    tensors: Mapping[str, Tensor],
    parts: Skeleton,
    layout: Layout,
    what: str,
    facts: Mapping[str, Any],
    notes: list[str],
) -> Found:
    """Rename, infer the configuration from the shapes, and compare with the real network."""
    state = read_layout(tensors, parts.names(), layout, carries_no_weights, what)
    as_rgb(state, notes)
    base, most = channel_rule({r: length(state, f"synthesis.b{r}.conv1.weight") for r in parts.resolutions})
    arch = make_arch(
        StyleGAN2Arch,
        resolution=parts.resolution,
        channel_base=base,
        channel_max=most,
        architecture="resnet" if parts.skip else "skip" if parts.torgb_everywhere else "orig",
        **mapping_sizes(state, parts.mapping_layers, bool(parts.embed), "synthesis.b4.conv1.affine.weight"),
        **facts,
    )
    check_fits(state, lambda: StyleGAN2Network(arch), what)
    return Found("stylegan2", what, arch, state, tuple(notes))


def _with_mean(found: Found) -> Found:
    """Estimate the latent mean that a file lacks."""
    assert isinstance(found.arch, StyleGAN2Arch)
    mapping = MappingNetwork(found.arch)
    own = {name.removeprefix("mapping."): t for name, t in found.state.items() if name.startswith("mapping.")}
    mapping.load_state_dict(own)
    seeds, classes = torch.arange(MEAN_SAMPLES), found.arch.num_classes
    with torch.no_grad():
        w = mapping(normals(seeds, (found.arch.z_dim,)), seeds % classes if classes else None)
    note = f"the file holds no latent mean: estimated from {MEAN_SAMPLES} samples"
    return replace(found, state={**found.state, "mapping.w_avg": w.mean(dim=0)}, notes=(*found.notes, note))
