"""Import once: weights of other software become a stored part with a card, which loads fast and safely."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gsegkit.api.arguments import checked
from gsegkit.api.session import Session
from gsegkit.checkpoints import Checkpoint
from gsegkit.errors import ArtifactError, and_more
from gsegkit.importing import read_checkpoint
from gsegkit.parts import CARD_FILE, COMPONENT_FILE, STATE_FILE, holds_parts, save_state
from gsegkit.storage import atomic_write_json, file_hash, is_temporary, read_json
from gsegkit.tensors import read_safetensors

CARD_FORMAT = 1


@checked
def look_at_checkpoint(
    path: str | Path, *, reader: str = "", options: dict[str, Any] | None = None, session: Session | None = None
) -> Checkpoint:
    """What a file of other software is, as far as the installed readers know; writes nothing.

    Args:
        path: the file, or a folder with one.
        reader: checkpoint reader to use; "" = the one that recognises the file.
        options: of that reader.
        session: see `run`.

    Raises:
        ArtifactError: nothing that can be imported; the message says what it is, or what was looked for.
    """
    path, session = Path(path), session or Session.default()
    if holds_parts(path):
        raise ArtifactError(f"'{path}' was written by gsegkit", f"use it as it is: -o gen.weights={path}")
    return read_checkpoint(path, reader=reader, options=options, registry=session.registry)


@checked
def import_checkpoint(
    path: str | Path,
    out: str | Path | None = None,
    *,
    reader: str = "",
    options: dict[str, Any] | None = None,
    session: Session | None = None,
) -> Path:
    """Convert a checkpoint of other software to a stored part: state.safetensors, component.json, card.json.

    The tensors are written first and the card last, each atomically: a folder with a card is complete. Nothing in
    the file is executed.

    Args:
        path: the checkpoint, or a folder with one.
        out: where to write; None = beside the checkpoint, under its stem.
        reader: checkpoint reader to use; "" = the one that recognises the file.
        options: of that reader.
        session: see `run`.

    Returns:
        The folder: of a generator for its option `weights`, of a painter for `open_painter`. Its card says which it is.

    Raises:
        ArtifactError: nothing that can be imported, or the folder holds something else.
        StorageError: the folder cannot be written.
    """
    path = Path(path)
    found = look_at_checkpoint(path, reader=reader, options=options, session=session)
    folder = Path(out) if out is not None else _beside(path)
    if _already_there(folder, found, options or {}):
        return folder
    facts = {"licence": found.licence, **found.facts}
    save_state(found.state, folder, found.kind, found.component, found.config, facts)
    card = {
        "format": CARD_FORMAT,
        found.kind: found.component,
        **found.facts,
        "layout": found.layout,
        "summary": found.summary,
        "source": dict(found.source),
        **({"options": options} if options else {}),
        **found.card,
        "notes": list(found.notes),
        "licence": found.licence,
        "sha256": file_hash(folder / STATE_FILE),
    }
    atomic_write_json(folder / CARD_FILE, card)
    return folder


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}-imported") if path.is_dir() or not path.suffix else path.with_suffix("")


def _already_there(folder: Path, found: Checkpoint, options: dict[str, Any]) -> bool:
    """Whether this very file was imported there before, with these options; refuses to replace anything else."""
    if not (folder / CARD_FILE).exists():
        if folder.exists() and (not folder.is_dir() or not _leftovers(folder, found.state)):
            raise ArtifactError(
                f"'{folder}' exists and is not an imported checkpoint", "choose another folder with --out"
            )
        return False
    card = read_json(folder / CARD_FILE)
    source = card.get("source") if isinstance(card, dict) else None
    if not isinstance(source, dict) or source.get("sha256") != found.source.get("sha256"):
        raise ArtifactError(f"'{folder}' holds the import of a different file", "choose another folder with --out")
    if card.get("options", {}) != options:
        raise ArtifactError(
            f"'{folder}' holds the import of this file with other options", "choose another folder with --out"
        )
    # what lies beside the file, or what options name, may have changed
    facts = json.loads(json.dumps(dict(found.facts)))
    changed = [name for name, value in facts.items() if name in card and card[name] != value]
    if changed:
        what = f"with other options, or with another file beside it (which says: {and_more(changed)})"
        raise ArtifactError(f"'{folder}' holds the import of this file {what}", "choose another folder with --out")
    whole = (folder / STATE_FILE).exists() and (folder / COMPONENT_FILE).exists()
    return whole and file_hash(folder / STATE_FILE) == card.get("sha256")


def _leftovers(folder: Path, state: Mapping[str, Tensor]) -> bool:
    """Whether all that is there was left by an interrupted import of these tensors; true of an empty folder."""
    names, stored = (STATE_FILE, COMPONENT_FILE), folder / STATE_FILE
    if any(item.name not in names and not is_temporary(item) for item in folder.iterdir()):
        return False
    if not stored.exists():
        return not (folder / COMPONENT_FILE).exists()  # the tensors come first
    there, _ = read_safetensors(stored)
    same = there.keys() == state.keys() and all(there[name].dtype == state[name].dtype for name in state)
    return same and all(torch.equal(there[name], state[name].cpu()) for name in state)
