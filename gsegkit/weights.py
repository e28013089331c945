"""Where a generator's weights come from: its option `weights`, for every generator that has one.

A zoo name, a folder of gsegkit's (a part, a round, a run, an import), or a file that other software wrote.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from gsegkit.checkpoints import Checkpoint, CheckpointFile
from gsegkit.errors import ArtifactError, ConfigError, GsegkitError, PluginLoadError, UnknownPluginError
from gsegkit.interfaces import CheckpointReader, Generator
from gsegkit.parts import STATE_FILE, PartRecord, all_facts, find_part, holds_parts, restore
from gsegkit.plugins import Registry, installed
from gsegkit.records.memory import Budget
from gsegkit.tensors import load_state

NONE = "none"  # the value of the option that means a random network
CHECKPOINT_SUFFIXES = (".pt", ".pth", ".pkl", ".ckpt", ".tar", ".safetensors")
USUAL_NAMES = ("generator.pt", "generator.pth")


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


# ---- files of other software ---------------------------------------------------------------------------------------


def read_checkpoint(
    path: str | Path, *, generator: str = "", reader: str = "", registry: Registry | None = None
) -> Checkpoint:
    """Ask every checkpoint reader whether a file is one of its own, and read it. No reader executes what a file holds.

    Args:
        path: a file, or a folder with one checkpoint in it.
        generator: take only a reader whose files are for this generator.
        reader: take only the reader of this name.
        registry: where the readers come from; None = everything installed.

    Raises:
        ArtifactError: damaged, hostile, for another generator, or of no known layout: says what was looked for.
        ConfigError: more than one reader recognises it.
    """
    file = CheckpointFile(_checkpoint_in(Path(path)))
    readers, broken = _readers(registry or installed(), reader)
    known, refusals = [], []
    for name, candidate in readers.items():
        try:
            if candidate.sniff(file):
                known.append(name)
        except ArtifactError as error:
            refusals.append(error)
    fitting = [name for name in known if generator in ("", readers[name].generator)]
    if len(fitting) > 1:
        raise ConfigError(
            f"'{file.path}' is recognised by the readers {' and '.join(fitting)}",
            "choose one: gsegkit import --reader NAME",
        )
    if fitting:
        return readers[fitting[0]].read(file)
    if known:
        other = readers[known[0]].generator
        raise ArtifactError(
            f"'{file.path}' is for the generator '{other}', not for '{generator}'", f"use --gen {other}"
        )
    if refusals:
        raise refusals[0]
    raise _unknown(file, readers, broken)


def _checkpoint_in(path: Path) -> Path:
    """The file meant by a folder: one with a usual name, or the only checkpoint; else the folder itself."""
    if not path.exists():
        raise ArtifactError(f"'{path}' does not exist", "check the path")
    if not path.is_dir():
        return path
    for name in USUAL_NAMES:
        if (path / name).is_file():
            return path / name
    files = [item for item in path.iterdir() if item.suffix in CHECKPOINT_SUFFIXES and item.is_file()]
    return files[0] if len(files) == 1 else path


def _readers(registry: Registry, name: str) -> tuple[dict[str, CheckpointReader], list[str]]:
    """Readers by name, and those that could not be built with the reason."""
    entries = [registry.find("checkpoint-reader", name)] if name else registry.of_kind("checkpoint-reader")
    readers, broken = {}, []
    for entry in entries:
        try:
            readers[entry.full_name if entry.component.name in readers else entry.component.name] = entry.build()
        except GsegkitError as error:
            if name:
                raise
            broken.append(f"{entry.full_name} cannot be used: {error.message}")
            if not isinstance(error, PluginLoadError) and not entry.missing_modules():
                raise
    return readers, broken


def _unknown(file: CheckpointFile, readers: Mapping[str, CheckpointReader], broken: list[str]) -> ArtifactError:
    seen = f" ({'; '.join(file.seen)})" if file.seen else ""
    if file.path.is_dir() and not file.seen:
        count = sum(item.suffix in CHECKPOINT_SUFFIXES for item in file.path.iterdir())
        seen = f" (a folder with {count} checkpoints)"
    wanted = [f"{name}: {reader.looks_for}" for name, reader in readers.items()]
    looked = "; ".join([*wanted, *broken]) or "nothing: no plugin with a checkpoint reader is installed"
    return ArtifactError(f"no checkpoint reader recognises '{file.path}'{seen}", f"looked for {looked}")
