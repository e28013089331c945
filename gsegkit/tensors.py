"""Tensors on disk: safetensors files, trees of tensors (optimiser and training states), hashes of states."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from gsegkit.errors import ArtifactError, and_more
from gsegkit.records.files import regular
from gsegkit.records.tensors import bytes_of, write_tensors
from gsegkit.records.text import json_value
from gsegkit.storage import atomic_file

TREE_KEY = "gsegkit.tree"
HASH_KEY = "gsegkit.sha256"


# ---- trees of tensors --------------------------------------------------------------------------------------------


def save_tree(path: Path, tree: Any) -> None:
    """Write nested dicts, lists, tuples, numbers, strings, None and tensors as ONE safetensors file, atomically.

    This is what optimiser and training states are stored as. The file carries a hash of its content.
    """
    tensors: dict[str, Tensor] = {}
    structure = json.dumps(_flatten(tree, tensors))
    metadata = {TREE_KEY: structure, HASH_KEY: _content_hash(structure, tensors)}
    with atomic_file(path) as file:
        write_tensors(file, tensors, metadata)


def load_tree(path: Path, device: str | torch.device = "cpu") -> Any:
    """Read what `save_tree` wrote.

    Raises:
        ArtifactError: missing, damaged (the hash differs), or not such a file.
    """
    tensors, metadata = read_safetensors(path)
    structure = metadata.get(TREE_KEY)
    if structure is None:
        raise ArtifactError(f"'{path}' is not a state file of gsegkit", "check the path")
    if metadata.get(HASH_KEY) != _content_hash(structure, tensors):
        raise ArtifactError(f"'{path}' is damaged: its content does not match its hash", "make it again")
    moved = {name: tensor.to(device) for name, tensor in tensors.items()}
    try:
        return _unflatten(json_value(structure, finite=False), moved)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ArtifactError(f"'{path}' is not a state file of gsegkit: {error}", "make it again") from None


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read every tensor and the metadata of a safetensors file from one reading of its bytes.

    Raises:
        ArtifactError: missing, truncated, or not safetensors.
    """
    try:
        data = regular(path).read_bytes()
        tensors = safetensors.torch.load(data)
        length = int.from_bytes(data[:8], "little")
        metadata = json_value(data[8 : 8 + length]).get("__metadata__", {})
    except FileNotFoundError:
        raise ArtifactError(f"'{path}' does not exist", "check the path") from None
    except (OSError, ValueError, LookupError, TypeError, AttributeError, safetensors.SafetensorError) as error:
        raise ArtifactError(
            f"'{path}' is not a readable safetensors file: {error}",
            "it is damaged or has another format",
        ) from None
    return tensors, metadata


def _flatten(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        key = f"t{len(tensors)}"
        tensors[key] = value.detach()
        return {"tensor": key}
    if isinstance(value, dict):
        return {"dict": [[_flatten(k, tensors), _flatten(v, tensors)] for k, v in value.items()]}
    if isinstance(value, list | tuple):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [_flatten(item, tensors) for item in value]}
    if value is None or isinstance(value, bool | int | float | str):
        return {"value": value}
    raise TypeError(f"a state can hold tensors, numbers, strings and containers, not {type(value).__name__}")


def _unflatten(node: dict[str, Any], tensors: dict[str, Tensor]) -> Any:
    ((kind, content),) = node.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {_unflatten(k, tensors): _unflatten(v, tensors) for k, v in content}
    if kind in ("list", "tuple"):
        items = [_unflatten(item, tensors) for item in content]
        return tuple(items) if kind == "tuple" else items
    return content


def _content_hash(structure: str, tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(structure.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name}{tensor.dtype}{list(tensor.shape)}".encode())
        digest.update(bytes_of(tensor))
    return digest.hexdigest()


# ---- parts -------------------------------------------------------------------------------------------------------


def state_hash(part: torch.nn.Module) -> str:
    """Hash of a part's tensors, and of its `hashed_too`: what it would compute, wherever its weights came from."""
    digest = hashlib.sha256(str(getattr(part, "hashed_too", "")).encode())
    for name, tensor in sorted(part.state_dict().items()):
        digest.update(f"{name}{tensor.dtype}{list(tensor.shape)}".encode())
        digest.update(bytes_of(tensor))
    return digest.hexdigest()[:16]


def load_state(part: torch.nn.Module, state: dict[str, Tensor], source: str, *, assign: bool = False) -> None:
    """Load tensors strictly, or `assign` them; ArtifactError names the first missing, unexpected or misshapen ones."""
    own = part.state_dict()
    problems = [f"missing {key}" for key in own if key not in state]
    problems += [f"unexpected {key}" for key in state if key not in own]
    problems += [
        f"{key} is {list(state[key].shape)}, expected {list(own[key].shape)}"
        for key in own
        if key in state and own[key].shape != state[key].shape
    ]
    if problems:
        raise ArtifactError(
            f"'{source}' does not fit {type(part).__name__}: {and_more(problems)}",
            "the options differ from those it was made with",
        )
    part.load_state_dict(state, assign=assign)
