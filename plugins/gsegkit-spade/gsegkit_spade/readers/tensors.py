"""Tensors of SPADE and OASIS under the names of our network: spectral norms are put into the weights."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from gsegkit_foreign import all_finite
from torch import Tensor

from gsegkit.config import build_config
from gsegkit.errors import ArtifactError, ConfigError
from gsegkit.tensors import load_state
from gsegkit_spade.spatial import SpatialArch, SpatialNetwork

HINT = "a generator of SPADE (net_G.pth) or OASIS (EMA.pth or G.pth) was expected; see the plugin's README"
SMALLEST_NORM = 1e-12


class Table:
    """Named tensors out of a file; each is taken once, and none may be left."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.left = dict(tensors)

    def __contains__(self, name: str) -> bool:
        return name in self.left

    def take(self, name: str, *ranks: int) -> Tensor:
        """A tensor of one of these ranks as float32; ArtifactError when it is missing, or not finite numbers."""
        tensor = self.left.pop(name, None)
        if tensor is None:
            raise ArtifactError(f"the file lacks '{name}'", HINT)
        if tensor.ndim not in ranks or not tensor.is_floating_point() or not all_finite(tensor):
            what = f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"
            raise ArtifactError(f"'{name}' is {what}; finite weights of rank {ranks[0]} were expected", HINT)
        return tensor.float()

    def weight(self, name: str) -> Tensor:
        """A convolution's weight, divided by its norm as stored where it has one; nothing is iterated anew."""
        if f"{name}.weight_orig" not in self:
            return self.take(f"{name}.weight", 4)
        weight, u = self.take(f"{name}.weight_orig", 4), self.take(f"{name}.weight_u", 1)
        v = self.take(f"{name}.weight_v", 1) if f"{name}.weight_v" in self else None
        if f"{name}.weight" in self:  # of early torch, which stored the quotient too
            return self.take(f"{name}.weight", 4)
        flat = weight.flatten(1)
        if len(u) != flat.shape[0] or (v is not None and len(v) != flat.shape[1]):
            raise ArtifactError(f"the vectors of '{name}' do not fit its weight {list(weight.shape)}", HINT)
        if v is None:  # of early torch, which made it of u at every use
            v = torch.nn.functional.normalize(flat.t() @ u, dim=0)
        norm = torch.dot(u, flat @ v)
        if not bool(torch.isfinite(norm)) or abs(float(norm)) < SMALLEST_NORM:
            raise ArtifactError(f"the spectral norm of '{name}' is {float(norm):.3g}", HINT)
        return weight / norm

    def none_left(self) -> None:
        """Raise ArtifactError for tensors that nobody took, counters aside."""
        if left := sorted(name for name in self.left if not name.endswith(".num_batches_tracked")):
            raise ArtifactError(f"unexpected tensors: {', '.join(left[:5])[:200]}", HINT)


def block(table: Table, theirs: str, ours: str, free: str) -> dict[str, Tensor]:
    """The tensors of a residual block; `free` is how its normalisation without parameters is called."""
    state = {}
    for name in ("conv_0", "conv_1"):
        state[f"{ours}.{name}.weight"] = table.weight(f"{theirs}.{name}")
        state[f"{ours}.{name}.bias"] = table.take(f"{theirs}.{name}.bias", 1)
    norms = ["norm_0", "norm_1"]
    if any(f"{theirs}.conv_s.{leaf}" in table for leaf in ("weight", "weight_orig")):
        norms.append("norm_s")
        state[f"{ours}.conv_s.weight"] = table.weight(f"{theirs}.conv_s")
    for norm in norms:
        if f"{theirs}.{norm}.{free}.running_mean" in table:
            for leaf in ("running_mean", "running_var"):
                state[f"{ours}.{norm}.norm.{leaf}"] = table.take(f"{theirs}.{norm}.{free}.{leaf}", 1)
            state[f"{ours}.{norm}.norm.num_batches_tracked"] = torch.tensor(0)
        for name, from_ in (("shared", "mlp_shared.0"), ("scale", "mlp_gamma"), ("shift", "mlp_beta")):
            state[f"{ours}.{norm}.{name}.weight"] = table.take(f"{theirs}.{norm}.{from_}.weight", 4)
            state[f"{ours}.{norm}.{name}.bias"] = table.take(f"{theirs}.{norm}.{from_}.bias", 1)
    return state


def converted(tensors: Mapping[str, Tensor], blocks: Sequence[str], free: str) -> dict[str, Tensor]:
    """A whole state dict under our names.

    Raises:
        ArtifactError: something is missing, left, or no weight.
    """
    table, state = Table(tensors), dict[str, Tensor]()
    first = "start" if table.left.get("fc.weight", torch.empty(0)).ndim == 2 else "first"
    state[f"{first}.weight"], state[f"{first}.bias"] = table.take("fc.weight", 4, 2), table.take("fc.bias", 1)
    for index, name in enumerate(blocks):
        state |= block(table, name, f"blocks.{index}", free)
    state["last.weight"], state["last.bias"] = table.take("conv_img.weight", 4), table.take("conv_img.bias", 1)
    table.none_left()
    if any(bool((value < 0).any()) for name, value in state.items() if name.endswith("running_var")):
        raise ArtifactError("a variance is negative", HINT)
    return state


def told(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """What shapes say: channels of maps, of the mask with noise (`seen`) and in between; kernel; normalisation."""
    shared = state["blocks.0.norm_0.shared.weight"].shape
    outputs = [int(value.shape[0]) for name, value in state.items() if name.endswith(".conv_1.weight")]
    batch = "blocks.0.norm_0.norm.running_mean" in state
    return {
        "seen": int(shared[1]),
        "hidden": int(shared[0]),
        "kernel": int(shared[-1]),
        "channels": (int(state["blocks.0.conv_0.weight"].shape[1]), *outputs),
        "normalisation": "batch" if batch else "instance",
    }


def checked(state: Mapping[str, Tensor], fields: Mapping[str, Any]) -> SpatialArch:
    """The network's shape; ArtifactError when these tensors are not those of such a network. Nothing large is made."""
    try:
        arch = build_config(SpatialArch, fields, "network")
    except ConfigError as error:
        raise ArtifactError(f"a network that is not supported: {error.message[:300]}", HINT) from None
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that numbers are not copied into a network without data
        try:
            load_state(SpatialNetwork(arch, spectral=False), dict(state), "the file")
        except ArtifactError as error:
            raise ArtifactError(error.message, HINT) from None
    return arch
