"""StyleGAN2 checkpoints of every layout -> the canonical network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from gsegkit.errors import ArtifactError
from gsegkit.seeds import normals
from gsegkit_stylegan.config import MAX_RESOLUTION, StyleGAN2Arch
from gsegkit_stylegan.networks.stylegan2 import Mapping as MappingNetwork
from gsegkit_stylegan.networks.stylegan2 import StyleGAN2Network
from gsegkit_stylegan.readers.found import Found
from gsegkit_stylegan.readers.layouts_stylegan2 import (
    Skeleton,
    carries_no_weights,
    count,
    genforce,
    nvidia,
    rosinality,
    tensorflow,
    tensorflow_joint,
)
from gsegkit_stylegan.readers.rules import Layout, read_layout
from gsegkit_stylegan.readers.shapes import channel_rule, check_fits, filter_taps, make_arch

MEAN_SAMPLES = 10_000
USUAL_TAPS = (1.0, 3.0, 3.0, 1.0)


def skeleton(resolution: int, mapping_layers: int, **parts: Any) -> Skeleton:
    """The parts of a network, if their numbers are possible at all."""
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
    if facts is None:
        notes.append("a bare state dict does not say whether activations are clamped: no clamp was assumed")
        filters = [t for name, t in tensors.items() if name.endswith("resample_filter") and t.numel() > 1]
        facts = {"resample_filter": filter_taps(filters[0]) if filters else USUAL_TAPS}
    tensors = _with_noise(tensors, parts, nvidia, notes)
    return _build(tensors, parts, nvidia, "StyleGAN2 (NVIDIA, PyTorch)", facts, notes)


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
    notes = []
    if "mapping_lrmul" not in kwargs:
        notes.append("the file does not say the mapping's learning-rate multiplier: the format's 0.01 was taken")
    facts = {
        "conv_clamp": kwargs.get("conv_clamp"),
        "lr_multiplier": kwargs.get("mapping_lrmul", 0.01),
        "resample_filter": tuple(kwargs.get("resample_kernel") or USUAL_TAPS),
        "demod_gain_first": True,
        "joint_labels": joint,
    }
    tensors = _with_noise(tensors, parts, layout, notes)
    return _build(tensors, parts, layout, "StyleGAN2 (NVIDIA, TensorFlow)", facts, notes)


def from_rosinality(tensors: Mapping[str, Tensor], latent_avg: Tensor | None) -> Found:
    """The layout of rosinality/stylegan2-pytorch; training files lack the latent mean."""
    convs = count(tensors, r"convs\.(\d+)\.conv\.weight")
    parts = skeleton(4 * 2 ** min(convs // 2, 16), count(tensors, r"style\.(\d+)\.weight") - 1)
    notes: list[str] = []
    kernel = tensors.get("to_rgbs.0.upsample.kernel", tensors.get("convs.0.conv.blur.kernel"))
    facts = {
        "resample_filter": USUAL_TAPS if kernel is None else filter_taps(kernel / kernel.sum()),
        "demod_gain_first": True,
    }
    tensors = _with_noise(tensors, parts, rosinality, notes)
    lost = torch.zeros_like(tensors.get("style.1.bias", torch.zeros(1)))
    tensors["latent_avg"] = lost if latent_avg is None else latent_avg.reshape(-1)
    found = _build(tensors, parts, rosinality, "StyleGAN2 (rosinality)", facts, notes)
    return found if latent_avg is not None else _with_mean(found)


def from_genforce(tensors: Mapping[str, Tensor]) -> Found:
    """The layout of genforce/genforce."""
    layers = count(tensors, r"synthesis\.layer(\d+)\.weight")
    joint = "mapping.label_weight" in tensors
    parts = skeleton(
        4 * 2 ** min(layers // 2, 16),
        count(tensors, r"mapping\.dense(\d+)\.weight"),
        embed=("weight",) if joint else (),
        torgb_everywhere="synthesis.output0.weight" in tensors,
    )
    kernel = tensors.get("synthesis.upsample.kernel")
    facts = {
        "resample_filter": USUAL_TAPS if kernel is None else filter_taps(_flat(kernel)),
        "demod_gain_first": True,
        "joint_labels": joint,
    }
    notes: list[str] = []
    tensors = _with_noise(tensors, parts, genforce, notes)
    return _build(tensors, parts, genforce, "StyleGAN2 (genforce)", facts, notes)


def _flat(kernel: Tensor) -> Tensor:
    kernel = kernel.reshape(kernel.shape[-2:]) if kernel.ndim > 2 else kernel
    return kernel / kernel.sum()


def _only(kwargs: Mapping[str, Any], name: str, supported: Any) -> None:
    if kwargs.get(name, supported) != supported:
        raise ArtifactError(f"a network with {name}={kwargs[name]!r}", f"only {name}={supported!r} is supported")


def _with_noise(tensors: Mapping[str, Tensor], parts: Skeleton, layout: Layout, notes: list[str]) -> dict[str, Tensor]:
    """Fill in noise that the file lacks: zero strength where a network has none, fixed buffers where they are lost."""
    filled = dict(tensors)
    for name in parts.names():
        rule = layout(name)
        if name.endswith("noise_strength") and rule.theirs not in filled:
            filled[rule.theirs] = rule.op.write(torch.zeros(()))
            _note(notes, "the network was trained without noise: its strength is zero")
        if name.endswith("noise_const") and rule.theirs not in filled:
            r = int(name.split(".")[1].removeprefix("b"))
            drawn = normals(torch.tensor([0]), (r, r), f"noise {name}")[0]
            filled[rule.theirs] = rule.op.write(drawn)
            _note(notes, "the file holds no noise images: fixed ones were drawn, so details differ from the original's")
    return filled


def _note(notes: list[str], text: str) -> None:
    if text not in notes:
        notes.append(text)


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
    first, last = state["mapping.fc0.weight"], state[f"mapping.fc{parts.mapping_layers - 1}.weight"]
    w_dim = last.shape[0]
    base, most = channel_rule({r: state[f"synthesis.b{r}.conv1.weight"].shape[0] for r in parts.resolutions})
    arch = make_arch(
        StyleGAN2Arch,
        resolution=parts.resolution,
        channel_base=base,
        channel_max=most,
        z_dim=first.shape[-1] - (w_dim if parts.embed else 0),
        w_dim=w_dim,
        num_classes=state["mapping.embed.weight"].shape[-1] if parts.embed else 0,
        img_channels=state[f"synthesis.b{parts.resolution}.torgb.weight"].shape[0],
        mapping_layers=parts.mapping_layers,
        architecture="resnet" if parts.skip else "skip" if parts.torgb_everywhere else "orig",
        **facts,
    )
    check_fits(state, lambda: StyleGAN2Network(arch), what)
    return Found("stylegan2", what, arch, state, tuple(notes))


def _with_mean(found: Found) -> Found:
    """Estimate the latent mean that a training checkpoint lacks."""
    assert isinstance(found.arch, StyleGAN2Arch)
    mapping = MappingNetwork(found.arch)
    own = {name.removeprefix("mapping."): t for name, t in found.state.items() if name.startswith("mapping.")}
    mapping.load_state_dict(own)
    with torch.no_grad():
        w_avg = mapping(normals(torch.arange(MEAN_SAMPLES), (found.arch.z_dim,))).mean(dim=0)
    note = f"the file holds no latent mean: estimated from {MEAN_SAMPLES} samples"
    state = {**found.state, "mapping.w_avg": w_avg}
    return Found(found.generator, found.layout, found.arch, state, (*found.notes, note))
