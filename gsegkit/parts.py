"""Stored parts: state.safetensors and component.json; saving, loading and finding them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import safetensors
import safetensors.torch

from gsegkit.errors import ArtifactError
from gsegkit.storage import atomic_write, atomic_write_json, file_hash, read_json
from gsegkit.tensors import load_state, read_safetensors

if TYPE_CHECKING:
    from gsegkit.interfaces import ModulePart


STATE_FILE = "state.safetensors"

COMPONENT_FILE = "component.json"


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
