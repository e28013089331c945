"""StyleGAN v1 and PGGAN checkpoints of every layout -> the canonical networks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from gsegkit.errors import ArtifactError
from gsegkit_stylegan.config import MAX_RESOLUTION, PGGANArch, StyleGANArch
from gsegkit_stylegan.networks.pggan import PGGANNetwork
from gsegkit_stylegan.networks.stylegan import StyleGANNetwork
from gsegkit_stylegan.readers.assumed import LR_MULTIPLIER, NO_MULTIPLIER, assumed, doubts, own_truncation
from gsegkit_stylegan.readers.found import Found
from gsegkit_stylegan.readers.layouts_grown import (
    FUSED_FROM,
    Fused,
    Grown,
    carries_no_weights,
    genforce,
    genforce_old,
    tensorflow,
)
from gsegkit_stylegan.readers.layouts_stylegan2 import count
from gsegkit_stylegan.readers.rules import Layout, read_layout
from gsegkit_stylegan.readers.shapes import as_rgb, channel_rule, check_fits, length, make_arch, mapping_sizes


def stylegan_from_tensorflow(tensors: Mapping[str, Tensor], kwargs: Mapping[str, Any]) -> Found:
    """StyleGAN v1 of NVIDIA's TensorFlow code."""
    for name, supported in _STYLEGAN_ONLY.items():
        _only(kwargs, name, supported)
    parts = _parts(
        count(tensors, r"synthesis/(\d+)x\d+/Conv1?/weight") - 1,
        mapping_layers=count(tensors, r"mapping/Dense(\d+)/weight"),
        embed="mapping/LabelConcat/weight" in tensors,
    )
    fused = _fused(kwargs.get("fused_scale", "auto"))
    layout = tensorflow(parts.resolution, fused, style=True)
    notes = [] if "fused_scale" in kwargs else [f"fused up-sampling from {FUSED_FROM} px on, the format's default"]
    if "mapping_lrmul" not in kwargs:
        notes.append(NO_MULTIPLIER)
    notes += own_truncation({"truncation_psi": 0.7, "truncation_cutoff": 8, **kwargs})
    lr = kwargs.get("mapping_lrmul", LR_MULTIPLIER)
    return _stylegan(tensors, parts, layout, "StyleGAN (NVIDIA, TensorFlow)", lr, notes)


def stylegan_from_genforce(tensors: Mapping[str, Tensor]) -> Found:
    """StyleGAN v1 of genforce, the current layout or the older one."""
    old = "synthesis.layer1.conv.weight" in tensors
    parts = _parts(
        _side(count(tensors, r"synthesis\.output(\d+)\.(?:conv\.)?weight")),
        mapping_layers=count(tensors, r"mapping\.dense(\d+)\.(?:fc\.)?weight"),
        embed="mapping.label_weight" in tensors,
    )
    options: dict[str, Any] = {"mapping_lr_mul": LR_MULTIPLIER, "final_tanh": False}
    if old:  # its fused layers have names of their own
        fused = _fused_by_name(tensors, "synthesis.layer{}.weight")
    else:
        fused, options = _fused("auto"), {"fused_scale": "auto", "use_wscale": True, **options}
    what = f"StyleGAN (genforce{', older' if old else ''})"
    layout = (genforce_old if old else genforce)(parts.resolution, fused, style=True)
    found = _stylegan(tensors, parts, layout, what, LR_MULTIPLIER, [assumed("a genforce file", options)])
    return replace(found, notes=(*found.notes, *doubts(found.state)))


def pggan_from_tensorflow(tensors: Mapping[str, Tensor], kwargs: Mapping[str, Any]) -> Found:
    """PGGAN of Karras' TensorFlow code."""
    for name, supported in _PGGAN_ONLY.items():
        _only(kwargs, name, supported)
    parts = _parts(count(tensors, r"(\d+)x\d+/Conv1?/weight") - 1)
    fused = any(name.endswith("/Conv0_up/weight") for name in tensors)
    layout = tensorflow(parts.resolution, lambda r: fused, style=False)
    classes = kwargs.get("label_size", 0)
    if not isinstance(classes, int) or isinstance(classes, bool) or classes < 0:
        raise ArtifactError(f"a network with label_size={str(classes)[:40]}", "a number was expected")
    found = _pggan(tensors, parts, layout, "PGGAN (TensorFlow)", classes)
    latent_size = kwargs.get("latent_size")
    if latent_size not in (None, found.arch.z_dim):
        what = f"latent_size={str(latent_size)[:40]} and label_size={classes}"
        taken = found.arch.z_dim + classes
        raise ArtifactError(f"a network with {what} whose first layer takes {taken} numbers", "the file was modified")
    return found


def pggan_from_genforce(tensors: Mapping[str, Tensor]) -> Found:
    """PGGAN of genforce, the current layout or the older one; both without labels."""
    old = "layer1.conv.weight" in tensors
    parts = _parts(_side(count(tensors, r"output(\d+)\.(?:conv\.)?weight")))
    options: dict[str, Any] = {"label_size": 0, "final_tanh": False}
    if old:
        fused = _fused_by_name(tensors, "layer{}.weight")
    else:
        seen = _fused_by_shape(tensors, parts)
        fused = _fused(bool(seen))
        options = {**({"fused_scale": False} if seen is None else {}), "use_wscale": True, **options}
    layout = (genforce_old if old else genforce)(parts.resolution, fused, style=False)
    found = _pggan(tensors, parts, layout, f"PGGAN (genforce{', older' if old else ''})", 0)
    note = assumed("a genforce file", options)
    if found.arch.z_dim not in (512, found.arch.channels(4)):
        note += f"; all {found.arch.z_dim} inputs of its first layer were taken as noise, none as labels"
    return replace(found, notes=(*found.notes, note, *doubts(found.state)))


def _fused_by_name(tensors: Mapping[str, Tensor], pattern: str) -> Fused:
    """In genforce's older code a fused kernel is called `weight`, a plain one `conv.weight`."""
    return lambda r: pattern.format(2 * (r.bit_length() - 3)) in tensors


def _fused_by_shape(tensors: Mapping[str, Tensor], parts: Grown) -> bool | None:
    """In genforce's PGGAN a fused kernel is [in, out, 3, 3]. None when no layer tells: all have as many in as out."""
    for r in parts.resolutions[1:]:
        name = f"layer{2 * (r.bit_length() - 3)}"
        weight, bias = tensors.get(f"{name}.weight"), tensors.get(f"{name}.bias")
        if weight is not None and bias is not None and weight.ndim == 4 and weight.shape[0] != weight.shape[1]:
            return weight.shape[1] == bias.numel()
    return None


_STYLEGAN_ONLY: dict[str, Any] = {
    "use_styles": True,
    "const_input_layer": True,
    "use_noise": True,
    "use_wscale": True,
    "use_pixel_norm": False,
    "use_instance_norm": True,
    "normalize_latents": True,
    "nonlinearity": "lrelu",
    "mapping_nonlinearity": "lrelu",
    "blur_filter": [1, 2, 1],
}
_PGGAN_ONLY: dict[str, Any] = {
    "normalize_latents": True,
    "use_wscale": True,
    "use_pixelnorm": True,
    "use_leakyrelu": True,
    "tanh_at_end": None,
    "pixelnorm_epsilon": 1e-8,
}


def _only(kwargs: Mapping[str, Any], name: str, supported: Any) -> None:
    given = kwargs.get(name, supported)
    near = isinstance(supported, float) and isinstance(given, float) and math.isclose(given, supported, rel_tol=1e-3)
    if given != supported and not near:
        raise ArtifactError(f"a network with {name}={str(kwargs[name])[:40]}", f"only {name}={supported} is supported")


def _fused(option: Any) -> Fused:
    if option == "auto":
        return lambda r: r >= FUSED_FROM
    if isinstance(option, bool):
        return lambda r: option
    raise ArtifactError(f"a network with fused_scale={str(option)[:40]}", "auto, True and False are supported")


def _side(outputs: int) -> int:
    """Resolution of a network with so many toRGB layers."""
    return 4 << min(max(outputs - 1, 0), 16)


def _parts(resolution: int, mapping_layers: int = 0, embed: bool = False) -> Grown:
    possible = 8 <= resolution <= MAX_RESOLUTION and resolution & (resolution - 1) == 0
    if not possible or mapping_layers > 32:
        raise ArtifactError(
            f"seems to be a network of {resolution} px with {mapping_layers} mapping layers",
            f"8 to {MAX_RESOLUTION} px and at most 32 mapping layers are supported; the file may be incomplete",
        )
    return Grown(resolution, mapping_layers, embed)


def _check_grown(tensors: Mapping[str, Tensor]) -> None:
    for name in ("lod", "synthesis/lod", "synthesis.lod"):
        if name in tensors and tensors[name].numel() == 1 and float(tensors[name]) != 0:
            raise ArtifactError(
                f"a network that has not finished growing (lod {float(tensors[name]):g})",
                "take a later checkpoint of the training",
            )


def _widths(state: Mapping[str, Tensor], parts: Grown) -> tuple[int, int]:
    return channel_rule({r: length(state, f"synthesis.b{r}.conv1.weight") for r in parts.resolutions})


def _stylegan(
    tensors: Mapping[str, Tensor], parts: Grown, layout: Layout, what: str, lr: Any, notes: list[str]
) -> Found:
    if not parts.mapping_layers:
        raise ArtifactError(f"a {what} without a mapping network", "the file is a part of a checkpoint")
    _check_grown(tensors)
    state = read_layout(tensors, parts.names(), layout, carries_no_weights, what)
    as_rgb(state, notes)
    base, most = _widths(state, parts)
    arch = make_arch(
        StyleGANArch,
        resolution=parts.resolution,
        channel_base=base,
        channel_max=most,
        **mapping_sizes(state, parts.mapping_layers, parts.embed, "synthesis.b4.conv0.affine.weight"),
        lr_multiplier=lr,
    )
    check_fits(state, lambda: StyleGANNetwork(arch), what)
    return Found("stylegan", what, arch, state, tuple(notes))


def _pggan(tensors: Mapping[str, Tensor], parts: Grown, layout: Layout, what: str, classes: int) -> Found:
    _check_grown(tensors)
    state = read_layout(tensors, parts.names(), layout, carries_no_weights, what)
    notes: list[str] = []
    as_rgb(state, notes)
    base, most = _widths(state, parts)
    arch = make_arch(
        PGGANArch,
        resolution=parts.resolution,
        channel_base=base,
        channel_max=most,
        z_dim=length(state, "synthesis.b4.conv0.weight", 1) - classes,
        num_classes=classes,
    )
    check_fits(state, lambda: PGGANNetwork(arch), what)
    return Found("pggan", what, arch, state, tuple(notes))
