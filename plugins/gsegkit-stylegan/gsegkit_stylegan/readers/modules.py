"""Pickled PyTorch modules: tensors by dotted name, and the plain attributes of every submodule."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from gsegkit.errors import ArtifactError
from gsegkit.foreign import ForeignFile, Record, describe

MAX_DEPTH = 16
MAX_MODULES = 5_000


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
    for name, module in _walk(file, record, "", 0):
        if len(tree.attributes) >= MAX_MODULES:
            raise ArtifactError(f"{file.path}: more than {MAX_MODULES} modules", "no generator has so many")
        tree.attributes[name] = module.state
        tree.sources[module.class_name] = module.source_sha256
        prefix = f"{name}." if name else ""
        for kind in ("_parameters", "_buffers"):
            for key, raw in file.mapping(module.state[kind], f"{name}.{kind}").items():
                if file.shallow(raw) is not None:
                    tree.tensors[prefix + key] = file.tensor(raw, prefix + key)
    return tree


def _walk(file: ForeignFile, record: Record, name: str, depth: int) -> Iterator[tuple[str, Record]]:
    if depth > MAX_DEPTH:
        raise ArtifactError(f"{file.path}: modules nested more than {MAX_DEPTH} deep", "no generator is built so")
    yield name, record
    for key, raw in file.mapping(record.state["_modules"], f"{name}._modules").items():
        child = file.shallow(raw)
        if child is None:
            continue
        path = f"{name}.{key}" if name else key
        if not isinstance(child, Record) or not is_module(child):
            raise ArtifactError(f"{file.path}: '{path}' should be a module but is {describe(child)}", "nothing was run")
        yield from _walk(file, child, path, depth + 1)
