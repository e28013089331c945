"""What a file turned out to be, and the check that its tensors fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from gsegkit.config import build_config
from gsegkit.errors import ArtifactError, ConfigError, and_more
from gsegkit_resgan.config import Arch
from gsegkit_resgan.network import Network
from gsegkit_resgan.readers.folding import FILES_HINT, State


@dataclass(frozen=True)
class Found:
    """A generator out of a file's tensors.

    Attributes:
        layout: whose format it is, one line.
        arch: shape of the network.
        state: the network's tensors, folded; of the precision of the file's, at least float32.
        licence: what is known of the licences of code and weights.
        notes: what the file did not say and what was assumed.
    """

    layout: str
    arch: Arch
    state: Mapping[str, Tensor]
    licence: str
    notes: tuple[str, ...] = field(default=())


def found(layout: str, state: State, licence: str, notes: tuple[str, ...] = (), **arch: Any) -> Found:
    """All tensors were taken: check that they are a network of this shape.

    Raises:
        ArtifactError: tensors left over, missing or misshapen, or a shape out of bounds.
    """
    state.tensors.finish()
    try:
        shape = build_config(Arch, arch, "network")
    except ConfigError as error:
        raise ArtifactError(f"a network that is not supported: {error.message[:300]}", FILES_HINT) from None
    _check_fits(state.found, shape)
    return Found(layout, shape, state.found, licence, (*notes, *state.tensors.notes))


def block(inputs: Tensor, outputs: Tensor, up: bool, attention: bool = False) -> dict[str, Any]:
    """A `BlockSpec` out of the weights of a block's first and last layer."""
    return {"inputs": inputs.shape[1], "outputs": outputs.shape[0], "up": up, "attention": attention}


def _check_fits(state: Mapping[str, Tensor], arch: Arch) -> None:
    """Compare names and shapes with those of the real network, built without memory for its tensors."""
    with torch.device("meta"):
        expected = {name: tuple(tensor.shape) for name, tensor in Network(arch).state_dict().items()}
    problems = [f"missing '{name}'" for name in expected if name not in state]
    problems += [f"unexpected '{name}'" for name in state if name not in expected]
    problems += [
        f"'{name}' has shape {list(state[name].shape)}, expected {list(shape)}"
        for name, shape in expected.items()
        if name in state and tuple(state[name].shape) != shape
    ]
    if problems:
        raise ArtifactError(f"tensors that are no such network: {and_more(problems)}", FILES_HINT)
