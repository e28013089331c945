"""Where a generator's weights come from: its option `weights`, for every generator that has one.

A zoo name, a folder of gsegkit's (a part, a round, a run, an import), or a file that other software wrote.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from gsegkit.errors import ArtifactError, UnknownPluginError
from gsegkit.importing import read_checkpoint
from gsegkit.interfaces import Generator
from gsegkit.parts import STATE_FILE, PartRecord, all_facts, find_part, holds_parts, restore
from gsegkit.plugins import Registry, installed
from gsegkit.records.memory import Budget
from gsegkit.tensors import load_state

NONE = "none"  # the value of the option that means a random network


@dataclass(frozen=True)
class GeneratorWeights:
    """Weights that were found: facts and tensors of a generator, where they are from, what must be said of them."""

    facts: Mapping[str, Any]
    state: Mapping[str, Tensor]
    source: str
    notes: tuple[str, ...] = ()


def load_weights(part: Generator, generator: str, given: str) -> None:
    """Load into a generator under construction what its option `weights` names; `part.notes` gets the notes.

    Raises:
        UnknownPluginError: neither a file, nor a folder, nor a name in the zoo.
        ArtifactError: weights of another generator, damaged, or of no known layout.
    """
    found = find_weights(generator, given)
    restore(part, found.facts, found.state, found.source)
    load_state(part, dict(found.state), found.source)
    part.notes = found.notes


def find_weights(generator: str, given: str, registry: Registry | None = None) -> GeneratorWeights:
    """The weights that `given` names, for the generator of this name; see `load_weights`."""
    registry = registry or installed()
    path = Path(given).expanduser()
    if not path.exists():
        path = _of_zoo(given, registry)
    if holds_parts(path):
        return _of_part(find_part(path, "generator"), generator, registry)
    checkpoint = read_checkpoint(path, generator=generator, registry=registry)
    notes = tuple(f"{path.name}: {note}" for note in checkpoint.notes)
    facts = {"licence": checkpoint.licence, **checkpoint.facts}
    return GeneratorWeights(facts, checkpoint.state, str(path), notes)


def _of_zoo(name: str, registry: Registry) -> Path:
    try:
        folder: Path = registry.build("weights", name).folder()
    except UnknownPluginError as error:
        raise UnknownPluginError(f"no weights '{name}': not a file, not a folder, not a zoo name", error.hint) from None
    return folder


def _of_part(record: PartRecord, generator: str, registry: Registry) -> GeneratorWeights:
    if record.name.partition("@")[0] != generator:
        raise ArtifactError(
            f"'{record.source}' holds weights of the generator '{record.name}', not of '{generator}'",
            f"use --gen {record.name}",
        )
    if record.folder is not None:
        return GeneratorWeights(record.facts, record.tensors(), str(record.folder / STATE_FILE))
    given = record.config.get("weights")
    if isinstance(given, str) and Path(given).expanduser().resolve() == record.source.resolve():
        raise ArtifactError(
            f"the generator of run '{record.source}' loads its weights from that same run", "choose others"
        )
    with Budget(None, str(record.source)):
        other: Generator = registry.build("generator", record.name, dict(record.config), stored=True)  # not trained
    return GeneratorWeights(all_facts(other), other.state_dict(), str(record.source), other.notes)
