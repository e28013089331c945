"""Readers of checkpoints made by other software, and the import into gsegkit's own format.

Nothing in a file is executed: see `gsegkit_foreign`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gsegkit_stylegan.readers.detect import read_generator
    from gsegkit_stylegan.readers.found import Found
    from gsegkit_stylegan.readers.importer import import_checkpoint, sniff

__all__ = ["Found", "import_checkpoint", "read_generator", "sniff"]


def __getattr__(name: str) -> Any:  # the command line imports this package, and must not import torch
    import importlib

    places = {"Found": "found", "import_checkpoint": "importer", "read_generator": "detect", "sniff": "importer"}
    if name not in places:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{places[name]}"), name)
