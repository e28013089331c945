"""Import once: a foreign checkpoint becomes state.safetensors and card.json, which load fast and safely."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import safetensors.torch

from gsegkit.errors import ArtifactError
from gsegkit.parts import STATE_FILE
from gsegkit.storage import atomic_write, atomic_write_json, file_hash, read_json
from gsegkit_stylegan.readers.detect import read_generator
from gsegkit_stylegan.readers.own import CARD_FILE

CARD_FORMAT = 1


def sniff(path: str | Path) -> str:
    """What a file is, in one line: `"stylegan2: StyleGAN2 (NVIDIA, PyTorch), 256 px, 1000 classes (pickle)"`.

    Raises:
        ArtifactError: not a generator that can be imported; the message says what it is instead.
    """
    found, file = read_generator(path)
    classes = f", {found.arch.num_classes} classes" if found.arch.num_classes else ""
    return f"{found.generator}: {found.layout}, {found.arch.resolution} px{classes} ({file.container})"


def import_checkpoint(path: str | Path, out_folder: str | Path | None = None) -> Path:
    """Convert a checkpoint of other software to `state.safetensors` and `card.json`.

    The tensors are written first and the card last, each atomically: a folder with a card is complete. Nothing in
    the file is executed; source text that it carries is hashed into the card.

    Args:
        path: the checkpoint.
        out_folder: where to write; beside the checkpoint, under its stem, when None.

    Returns:
        The folder.

    Raises:
        ArtifactError: not a generator that can be imported, or the folder holds another import.
        StorageError: the folder cannot be written.
    """
    path = Path(path)
    folder = Path(out_folder) if out_folder is not None else path.with_suffix("")
    found, file = read_generator(path)
    source = {"file": path.name, "sha256": file.sha256, "num_bytes": file.num_bytes, "container": file.container}
    if _already_there(folder, file.sha256):
        return folder
    state = {name: tensor.contiguous() for name, tensor in found.state.items()}
    atomic_write(folder / STATE_FILE, safetensors.torch.save(state))
    card: dict[str, Any] = {
        "format": CARD_FORMAT,
        "generator": found.generator,
        "arch": found.arch.model_dump(mode="json"),
        "layout": found.layout,
        "source": source,
        "code_not_executed": dict(sorted(found.sources.items())),
        "names_not_imported": sorted(file.names),
        "notes": list(found.notes),
        "licence": "unknown: that of the source file applies",
        "sha256": file_hash(folder / STATE_FILE),
    }
    atomic_write_json(folder / CARD_FILE, card)
    return folder


def _already_there(folder: Path, sha256: str) -> bool:
    """Whether this very file was imported there before; refuses to replace another one."""
    if not (folder / CARD_FILE).exists():
        if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not _leftovers(folder))):
            raise ArtifactError(f"'{folder}' exists and is not an import", "choose another folder with --out")
        return False
    card = read_json(folder / CARD_FILE)
    if not isinstance(card, dict) or card.get("source", {}).get("sha256") != sha256:
        raise ArtifactError(f"'{folder}' holds the import of another file", "choose another folder with --out")
    return (folder / STATE_FILE).exists() and file_hash(folder / STATE_FILE) == card.get("sha256")


def _leftovers(folder: Path) -> bool:
    """Whether all that is there was left by an interrupted import."""
    return all(item.name == STATE_FILE or item.name.endswith(".tmp") for item in folder.iterdir())
