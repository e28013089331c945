"""StyleGAN3 state dicts -> the canonical network, which is NVIDIA's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from gsegkit.errors import ArtifactError
from gsegkit_stylegan.config import MAX_RESOLUTION, StyleGAN3Arch
from gsegkit_stylegan.networks.stylegan3 import StyleGAN3Network, signals
from gsegkit_stylegan.readers.assumed import LR_MULTIPLIER, assumed, doubts
from gsegkit_stylegan.readers.found import Found
from gsegkit_stylegan.readers.layouts_stylegan2 import count, nvidia
from gsegkit_stylegan.readers.rules import read_layout
from gsegkit_stylegan.readers.shapes import check_fits, length, make_arch, mapping_sizes

WHAT = "StyleGAN3 (NVIDIA)"
_LAYER = re.compile(r"synthesis\.L(\d{1,2})_(\d{1,5})_(\d{1,5})\.weight")


def from_state_dict(tensors: Mapping[str, Tensor], facts: Mapping[str, Any] | None = None) -> Found:
    """NVIDIA's layout. `facts`: what the module attributes say; None for a bare state dict.

    Raises:
        ArtifactError: another number of layers, widths without a rule, tensors that are missing or do not fit.
    """
    state = read_layout(tensors, tensors, nvidia, lambda name: False, WHAT)
    layers = _layers(state)
    mapping_layers = count(state, r"mapping\.fc(\d+)\.weight")
    affine = "synthesis.input.affine.weight"
    for name in (affine, *(f"mapping.fc{i}.weight" for i in {0, max(mapping_layers - 1, 0)})):
        if name not in state:
            raise ArtifactError(f"not a complete {WHAT}: missing '{name}'", "it may be a part of a checkpoint")
    sizes = mapping_sizes(state, mapping_layers, "mapping.embed.weight" in state, affine)
    if sizes.pop("layer_features") or sizes.pop("embed_features"):
        raise ArtifactError("a mapping network with layers of other widths", "layers as wide as w are supported")
    arch = _arch(layers, state, {**sizes, "lr_multiplier": LR_MULTIPLIER, **(facts or {})})
    check_fits(state, lambda: StyleGAN3Network(arch), WHAT)
    notes: tuple[str, ...] = ()
    if facts is None:
        notes = (assumed("a bare state dict", {"lr_multiplier": LR_MULTIPLIER, "conv_clamp": 256}), *doubts(state))
    return Found("stylegan3", f"{WHAT}, config {arch.variant.upper()}", arch, state, notes)


def _layers(state: Mapping[str, Tensor]) -> list[tuple[int, str]]:
    """(size of the map, name of the weight) of layers 0, 1 ..."""
    found = {int(match[1]): (int(match[2]), match[0]) for match in map(_LAYER.fullmatch, state) if match}
    expected = StyleGAN3Arch.NUM_LAYERS + 1
    if sorted(found) != list(range(expected)):
        raise ArtifactError(
            f"a StyleGAN3 with the layers {', '.join(map(str, sorted(found)))[:80] or 'none'}",
            f"networks of {expected - 1} layers and one to colours are supported; the file may be incomplete",
        )
    return [found[i] for i in range(expected)]


def _arch(layers: list[tuple[int, str]], state: Mapping[str, Tensor], options: Mapping[str, Any]) -> StyleGAN3Arch:
    resolution, last = layers[-1]
    if not 16 <= resolution <= MAX_RESOLUTION or resolution & (resolution - 1):
        raise ArtifactError(
            f"a StyleGAN3 of {resolution} px", f"powers of two from 16 to {MAX_RESOLUTION} are supported"
        )
    colours, kernel = length(state, last), length(state, layers[0][1], 3)
    if colours != 3:
        raise ArtifactError(f"a network that makes images of {colours} channels", "RGB ones are read")
    if kernel not in (1, 3):
        raise ArtifactError(f"a StyleGAN3 with {kernel} x {kernel} kernels", "configs T (3) and R (1) are supported")
    options = {**options, "resolution": resolution, "variant": "t" if kernel == 3 else "r"}
    base, most = _channel_rule([length(state, name) for _, name in layers[:-1]], resolution)
    made: StyleGAN3Arch = make_arch(StyleGAN3Arch, channel_base=base, channel_max=most, **options)
    return made


def _channel_rule(widths: list[int], resolution: int) -> tuple[int, int]:
    """(channel_base, channel_max) such that round(min(base / 2 / cut-off, max)) gives every width."""
    most = max(widths)
    probe = StyleGAN3Arch(resolution=resolution, channel_max=1)
    cutoffs = [signal.cutoff for signal in signals(probe)[: len(widths)]]
    # a width below the maximum tells base to within half a channel; the powers of two of the reference come first
    low = max((2 * cut * (width - 0.5) for cut, width in zip(cutoffs, widths, strict=True)), default=1.0)
    candidates = [2**k for k in range(3, 21)] + [int(low) + 1, int(low), int(low) + 2]
    for base in candidates:
        if [round(min(base / 2 / cut, most)) for cut in cutoffs] == widths:
            return base, most
    raise ArtifactError(
        f"channel widths that follow no base / cut-off rule: {', '.join(map(str, widths))[:120]}",
        "only networks with the original width rule are supported",
    )
