"""Pickled PyTorch modules: tensors by dotted name, and the plain attributes of every submodule."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from gsegkit.errors import ArtifactError
from gsegkit_foreign.nodes import Record, describe
from gsegkit_foreign.reader import ForeignFile

MAX_DEPTH = 16
MAX_PARTS = 20_000  # modules, parameters and buffers together
MAX_NAME = 256  # characters of a dotted name


@dataclass
class ModuleTree:
    """A module as it was pickled; no class of it was imported.

    Attributes:
        class_name: of the outermost module.
        tensors: dotted name -> parameter or buffer.
        attributes: dotted module name ("" is the outermost) -> raw attributes.
        sources: class name -> SHA-256 of the source text that rides along.
    """

    class_name: str
    tensors: dict[str, Tensor] = field(default_factory=dict)
    attributes: dict[str, dict[str, Any]] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)


def is_module(value: object) -> bool:
    """Whether an evaluated value is a pickled `torch.nn.Module`."""
    return isinstance(value, Record) and {"_parameters", "_buffers", "_modules"} <= set(value.state)


def read_modules(file: ForeignFile, record: Record) -> ModuleTree:
    """Walk a pickled module.

    Raises:
        ArtifactError: something in it is no module or no tensor where one belongs.
    """
    tree = ModuleTree(record.class_name)
    parts = _Counter(file)
    for name, module in _walk(file, record, "", 0, parts):
        tree.attributes[name] = module.state
        tree.sources[module.class_name] = module.source_sha256
        prefix = f"{name}." if name else ""
        for kind in ("_parameters", "_buffers"):
            for key, raw in parts.table(module.state[kind], f"{name}.{kind}").items():
                if file.shallow(raw) is not None:
                    tree.tensors[prefix + key] = file.tensor(raw, prefix + key)
    return tree


class _Counter:
    """Bounds the walk: a small file can share one large table among many modules."""

    def __init__(self, file: ForeignFile) -> None:
        self.file = file
        self.count = 0

    def table(self, raw: Any, name: str) -> dict[str, Any]:
        """A table of a module, when all tables together are not too large."""
        value = self.file.shallow(raw)
        self.count += 1 + (len(value) if isinstance(value, dict) else 0)
        if self.count > MAX_PARTS:
            raise ArtifactError(f"{self.file.path}: more than {MAX_PARTS} parts", "no generator has so many")
        table = self.file.mapping(raw, name)
        if any(len(key) > MAX_NAME for key in table) or len(name) > MAX_DEPTH * MAX_NAME:
            raise ArtifactError(f"{self.file.path}: a name of more than {MAX_NAME} characters", "no module has that")
        return table


def _walk(file: ForeignFile, record: Record, name: str, depth: int, parts: _Counter) -> Iterator[tuple[str, Record]]:
    if depth > MAX_DEPTH:
        raise ArtifactError(f"{file.path}: modules nested more than {MAX_DEPTH} deep", "no generator is built so")
    yield name, record
    for key, raw in parts.table(record.state["_modules"], f"{name}._modules").items():
        child = file.shallow(raw)
        if child is None:
            continue
        path = f"{name}.{key}" if name else key
        if not isinstance(child, Record) or not is_module(child):
            raise ArtifactError(f"{file.path}: '{path}' should be a module but is {describe(child)}", "nothing was run")
        yield from _walk(file, child, path, depth + 1, parts)
