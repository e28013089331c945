"""Files that other software wrote: which installed reader knows one, and what it makes of it.

No reader executes what a file holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gsegkit.checkpoints import Checkpoint, CheckpointFile
from gsegkit.config import build_config
from gsegkit.errors import ArtifactError, ConfigError, GsegkitError, PluginLoadError
from gsegkit.interfaces import CheckpointReader
from gsegkit.plugins import Registry, installed

SUFFIXES = (".pt", ".pth", ".pkl", ".ckpt", ".tar", ".safetensors")
USUAL_NAMES = ("generator.pt", "generator.pth")


def read_checkpoint(
    path: str | Path,
    *,
    generator: str = "",
    reader: str = "",
    options: Mapping[str, Any] | None = None,
    registry: Registry | None = None,
) -> Checkpoint:
    """Ask every checkpoint reader whether a file is one of its own, and read it.

    Args:
        path: a file, or a folder with one checkpoint in it.
        generator: take only a reader whose files are for this generator.
        reader: take only the reader of this name.
        options: of that reader.
        registry: where the readers come from; None = everything installed.

    Raises:
        ArtifactError: damaged, hostile, for another generator, or of no known layout: says what was looked for.
        ConfigError: more than one reader recognises it, or options without a reader.
    """
    file = CheckpointFile(_checkpoint_in(Path(path)))
    if options and not reader:
        raise ConfigError("options are those of one reader", "name it: gsegkit import --reader NAME -o reader.…")
    readers, broken = _readers(registry or installed(), reader, options or {})
    known, refusals = [], []
    for name, candidate in readers.items():
        try:
            if candidate.sniff(file):
                known.append(name)
        except ArtifactError as error:
            refusals.append(error)
    fitting = [name for name in known if not generator or _target(readers[name]) == ("generator", generator)]
    if len(fitting) > 1:
        raise ConfigError(
            f"'{file.path}' is recognised by the readers {' and '.join(fitting)}",
            "choose one: gsegkit import --reader NAME",
        )
    if fitting:
        return readers[fitting[0]].read(file)
    if known:
        kind, other = _target(readers[known[0]])
        remedy = f"use --gen {other}" if kind == "generator" else "convert it: gsegkit import"
        raise ArtifactError(f"'{file.path}' is for the {kind} '{other}', not for the generator '{generator}'", remedy)
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
    files = [item for item in path.iterdir() if item.suffix in SUFFIXES and item.is_file()]
    return files[0] if len(files) == 1 else path


def _target(reader: CheckpointReader) -> tuple[str, str]:
    return reader.kind, reader.component


def _readers(
    registry: Registry, name: str, options: Mapping[str, Any]
) -> tuple[dict[str, CheckpointReader], list[str]]:
    """Readers by name, and those that could not be built with the reason."""
    entries = [registry.find("checkpoint-reader", name)] if name else registry.of_kind("checkpoint-reader")
    readers, broken = {}, []
    for entry in entries:
        try:
            made = entry.build(build_config(entry.config_class(), options, "reader"))
            readers[entry.full_name if entry.component.name in readers else entry.component.name] = made
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
        count = sum(item.suffix in SUFFIXES for item in file.path.iterdir())
        seen = f" (a folder with {count} checkpoints)"
    wanted = [f"{name}: {reader.looks_for}" for name, reader in readers.items()]
    looked = "; ".join([*wanted, *broken]) or "nothing: no plugin with a checkpoint reader is installed"
    return ArtifactError(f"no checkpoint reader recognises '{file.path}'{seen}", f"looked for {looked}")
