"""Where a generator's weights come from: the zoo, a folder that was trained or imported, or nowhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from gsegkit.errors import ArtifactError, UnknownPluginError
from gsegkit.parts import COMPONENT_FILE, STATE_FILE
from gsegkit.plugins import installed
from gsegkit.storage import file_hash, read_json
from gsegkit.tensors import read_safetensors
from gsegkit_stylegan.config import Arch, SampleOptions

AUTO, NONE = "auto", "none"
AUTO_WEIGHTS = "coffee-leaf-64"
CARD_FILE = "card.json"


@dataclass(frozen=True)
class Stored:
    """Weights on disk: shape of the network, tensors, and what must be said of them."""

    arch: Arch
    state: Mapping[str, Tensor]
    licence: str
    fit_rule: str
    source: str


def find_weights(config: SampleOptions, generator: str, arch_class: type[Arch]) -> Stored | None:
    """Read the weights that `config.weights` names; None when a random network is meant.

    Raises:
        UnknownPluginError: no such zoo entry and no such folder.
        ArtifactError: the folder does not hold weights of this generator, or they are damaged.
    """
    wanted = config.weights
    if wanted == AUTO:
        # by value, not by which were given: a resolved plan gives them all
        options = type(config).model_fields
        if any(getattr(config, name) != options[name].default for name in arch_class.model_fields):
            return None
        wanted = AUTO_WEIGHTS
    if wanted == NONE:
        return None
    return read_weights(_folder(wanted), generator, arch_class)


def read_weights(folder: Path, generator: str, arch_class: type[Arch]) -> Stored:
    """Read state.safetensors with its card.json (imports, the zoo) or component.json (trained here)."""
    path = folder / STATE_FILE
    card = read_json(folder / CARD_FILE) if (folder / CARD_FILE).exists() else None
    record = _record(card) if card is not None else _record_of_component(read_json(folder / COMPONENT_FILE))
    if record["generator"] != generator:
        raise ArtifactError(
            f"'{folder}' holds weights of the generator '{record['generator']}', not of '{generator}'",
            f"use --gen {record['generator']}",
        )
    state, _ = read_safetensors(path)
    if record["sha256"] != file_hash(path):
        raise ArtifactError(f"'{path}' does not match the hash in its card", "one of the two was changed")
    try:
        arch = arch_class(**record["arch"])
    except (ValueError, TypeError) as error:
        raise ArtifactError(f"the card of '{folder}' describes no {generator}: {error}", "make it anew") from None
    return Stored(arch, state, str(record["licence"]), str(record["fit_rule"]), str(path))


def _record(card: Any) -> dict[str, Any]:
    try:
        return {
            "generator": card["generator"],
            "arch": card["arch"],
            "sha256": card["sha256"],
            "licence": card.get("licence", ""),
            "fit_rule": card.get("fit_rule", "squash"),
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"the card is not one of generator weights: {error}", "import the file again") from None


def _record_of_component(component: Any) -> dict[str, Any]:
    try:
        return {"generator": component["name"], "sha256": component["sha256"], **component["facts"]}
    except (KeyError, TypeError) as error:
        raise ArtifactError(f"the folder's component.json is not a generator's: {error}", "train it again") from None


def _folder(wanted: str) -> Path:
    path = Path(wanted).expanduser()
    if path.is_dir():
        if not (path / STATE_FILE).exists() and (path / "generator" / STATE_FILE).exists():
            return path / "generator"  # a run folder
        return path
    if path.is_file():
        if path.name == STATE_FILE:
            return path.parent
        raise ArtifactError(
            f"'{path}' is a checkpoint of other software", f"gsegkit import {path}, then use the folder"
        )
    try:
        return installed().build("weights", wanted).folder()
    except UnknownPluginError as error:
        raise UnknownPluginError(f"no weights '{wanted}': neither a folder nor in the zoo", error.hint) from None
