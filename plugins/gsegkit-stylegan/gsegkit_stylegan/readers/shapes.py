"""Configuration out of tensor shapes: widths, colours, and the check against the real network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gsegkit.config import build_config
from gsegkit.errors import ArtifactError, ConfigError
from gsegkit_stylegan.config import Arch
from gsegkit_stylegan.readers.rules import raise_problems


def channel_rule(widths: Mapping[int, int]) -> tuple[int, int]:
    """(channel_base, channel_max) such that min(base // r, max) gives the width at every resolution r.

    Raises:
        ArtifactError: no such numbers exist.
    """
    most = max(widths.values())
    # Where the width is below the maximum, base lies in [width * r, (width + 1) * r).
    bound = {r: width for r, width in widths.items() if width < most}
    base = max((width * r for r, width in bound.items()), default=max(widths) * most)
    base = max([base, *(r * most for r, width in widths.items() if width == most)])
    wrong = [f"{width} channels at {r} px" for r, width in widths.items() if min(base // r, most) != width]
    if wrong:
        raise ArtifactError(
            f"channel widths that follow no base / resolution rule: {'; '.join(wrong[:5])}",
            "only networks with the original width rule are supported",
        )
    return base, most


def as_rgb(state: dict[str, Tensor], notes: list[str]) -> None:
    """Give a grey network three equal colours, in place.

    Raises:
        ArtifactError: its images are neither grey nor RGB.
    """
    names = [name for name in state if ".torgb." in name and ".affine." not in name]
    colours = {length(state, name) for name in names}
    if len(colours) == 1 and not colours <= {1, 3}:
        raise ArtifactError(f"a network that makes images of {colours.pop()} channels", "RGB and grey ones are read")
    if colours == {1}:
        for name in names:
            state[name] = state[name].expand(3, *state[name].shape[1:]).contiguous()
        notes.append("the network makes grey images: its channel was repeated to RGB")


def mapping_sizes(state: Mapping[str, Tensor], layers: int, embed: bool, affine: str) -> dict[str, Any]:
    """Options of a mapping network out of its tensors; `affine` names a tensor of the synthesis that takes a w.

    Raises:
        ArtifactError: its output is not the w that the layers of the synthesis take.
    """
    w_dim, made = length(state, affine, 1), length(state, f"mapping.fc{layers - 1}.weight")
    if made != w_dim:
        raise ArtifactError(
            f"a mapping network that makes {made} numbers, where each layer takes {w_dim}",
            "networks with one w for all layers are supported (genforce: repeat_w=True)",
        )
    hidden = length(state, "mapping.fc0.weight")
    size = length(state, "mapping.embed.weight") if embed else w_dim
    return {
        "z_dim": length(state, "mapping.fc0.weight", 1) - (size if embed else 0),
        "w_dim": w_dim,
        "mapping_layers": layers,
        "num_classes": length(state, "mapping.embed.weight", 1) if embed else 0,
        "layer_features": None if hidden == w_dim else hidden,
        "embed_features": None if size == w_dim else size,
    }


def length(state: Mapping[str, Tensor], name: str, axis: int = 0) -> int:
    """Length of one axis of a tensor.

    Raises:
        ArtifactError: the tensor has no such axis.
    """
    shape = state[name].shape
    if axis >= len(shape):
        raise ArtifactError(f"'{name}' has shape {list(shape)}, which no such network has", "the file was modified")
    return int(shape[axis])


def make_arch(arch: type[Arch], **values: Any) -> Any:
    """An architecture config; a value outside its bounds becomes an ArtifactError."""
    try:
        return build_config(arch, values, "network")
    except ConfigError as error:
        hint = "its options, as the file has them, are outside the bounds of our networks"
        raise ArtifactError(f"a network that is not supported: {error.message[:300]}", hint) from None


def check_fits(state: Mapping[str, Tensor], network: Callable[[], nn.Module], what: str) -> None:
    """Compare names and shapes with those of the real network, built without memory for its tensors."""
    with torch.device("meta"):
        expected = {name: tuple(tensor.shape) for name, tensor in network().state_dict().items()}
    problems = [f"missing '{name}'" for name in expected if name not in state]
    problems += [f"unexpected '{name}'" for name in state if name not in expected]
    problems += [
        f"'{name}' has shape {list(state[name].shape)}, expected {list(shape)}"
        for name, shape in expected.items()
        if name in state and tuple(state[name].shape) != shape
    ]
    raise_problems(problems, what)
