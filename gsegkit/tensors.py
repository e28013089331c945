"""Files that survive: atomic writes, hashes, tensors as safetensors, parts as state.safetensors + component.json."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from gsegkit.errors import ArtifactError, StorageError

if TYPE_CHECKING:
    from gsegkit.interfaces import ModulePart

STATE_FILE = "state.safetensors"
COMPONENT_FILE = "component.json"
TREE_KEY = "gsegkit.tree"
HASH_KEY = "gsegkit.sha256"


# ---- bytes -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn an OSError of the block into a StorageError that names the path and the remedy."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise StorageError(
                f"no space left while writing '{path}'",
                "free some space, then run the same command again: finished work is kept",
            ) from error
        raise StorageError(
            f"cannot write '{path}': {error.strerror or error}",
            "choose a folder you may write to",
        ) from error


def atomic_write(path: Path, data: bytes) -> None:
    """Write a file so that `path` holds either the old content or all of the new one, whatever happens.

    A temporary file in the same folder is written, flushed to disk and renamed.

    Raises:
        StorageError: disk full, read-only, no permission; `path` is untouched and the temporary file is gone.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        _sync_folder(path.parent)


def atomic_write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, indented, keys in the given order."""
    atomic_write(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """Read JSON; ArtifactError when it is missing or not JSON."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ArtifactError(f"'{path}' does not exist", "check the path") from None
    except (OSError, ValueError) as error:
        raise ArtifactError(f"'{path}' cannot be read: {error}", "it is damaged; make it again") from None


def file_hash(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":  # a folder cannot be opened elsewhere; the rename is still atomic
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:  # some network file systems refuse; the content is already safe
        pass
    finally:
        os.close(handle)


# ---- trees of tensors --------------------------------------------------------------------------------------------


def save_tree(path: Path, tree: Any) -> None:
    """Write nested dicts, lists, tuples, numbers, strings, None and tensors as ONE safetensors file, atomically.

    This is what optimiser and training states are stored as. The file carries a hash of its content.
    """
    tensors: dict[str, Tensor] = {}
    structure = json.dumps(_flatten(tree, tensors))
    metadata = {TREE_KEY: structure, HASH_KEY: _content_hash(structure, tensors)}
    atomic_write(path, safetensors.torch.save(tensors, metadata))


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
    return _unflatten(json.loads(structure), moved)


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read every tensor and the metadata of a safetensors file from one reading of its bytes.

    Raises:
        ArtifactError: missing, truncated, or not safetensors.
    """
    try:
        data = path.read_bytes()
        tensors = safetensors.torch.load(data)
        length = int.from_bytes(data[:8], "little")
        metadata = json.loads(data[8 : 8 + length]).get("__metadata__", {})
    except FileNotFoundError:
        raise ArtifactError(f"'{path}' does not exist", "check the path") from None
    except (OSError, ValueError, KeyError, safetensors.SafetensorError) as error:
        raise ArtifactError(
            f"'{path}' is not a readable safetensors file: {error}",
            "it is damaged or of another kind",
        ) from None
    return tensors, metadata


def _flatten(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        key = f"t{len(tensors)}"
        tensors[key] = value.detach().cpu().contiguous().clone()
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
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}{tensor.dtype}{list(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


# ---- parts -------------------------------------------------------------------------------------------------------


def save_part(part: ModulePart, folder: Path, kind: str, name: str) -> None:
    """Store a part: state.safetensors (its tensors), then component.json (kind, name, config, facts, hash)."""
    state = {key: value.detach().cpu().contiguous().clone() for key, value in part.state_dict().items()}
    atomic_write(folder / STATE_FILE, safetensors.torch.save(state))
    atomic_write_json(
        folder / COMPONENT_FILE,
        {
            "kind": kind,
            "name": name,
            "config": part.config.model_dump(mode="json"),
            "facts": part.facts(),
            "sha256": file_hash(folder / STATE_FILE),
        },
    )


def state_hash(part: torch.nn.Module) -> str:
    """Hash of a part's tensors: what it would compute, wherever its weights came from."""
    digest = hashlib.sha256()
    for name, tensor in sorted(part.state_dict().items()):
        digest.update(f"{name}{tensor.dtype}{list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def load_part(part: ModulePart, folder: Path) -> None:
    """Load into a freshly constructed part what `save_part` stored.

    Raises:
        ArtifactError: files missing or damaged, or tensors that do not fit; names the first differences.
    """
    record = read_json(folder / COMPONENT_FILE)
    path = folder / STATE_FILE
    state, _ = read_safetensors(path)
    if record.get("sha256") != file_hash(path):
        raise ArtifactError(f"'{path}' does not match its component.json", "one of the two was changed")
    part.restore(record.get("facts", {}))
    load_state(part, state, str(path))


def load_state(part: torch.nn.Module, state: dict[str, Tensor], source: str) -> None:
    """Load tensors strictly; ArtifactError names the first missing, unexpected or misshapen ones."""
    own = part.state_dict()
    problems = [f"missing {key}" for key in own if key not in state]
    problems += [f"unexpected {key}" for key in state if key not in own]
    problems += [
        f"{key} is {list(state[key].shape)}, expected {list(own[key].shape)}"
        for key in own
        if key in state and own[key].shape != state[key].shape
    ]
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise ArtifactError(
            f"'{source}' does not fit {type(part).__name__}: {'; '.join(problems[:5])}{more}",
            "the options differ from those it was made with",
        )
    part.load_state_dict(state)
