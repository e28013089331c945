"""Weights that other software wrote: what readers are given, and what they give back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

T = TypeVar("T")


class CheckpointFile:
    """A file, or a folder of files, that the readers are asked about in turn.

    What one reader has opened the others share: `file.once(open)` calls `open(file)` the first time only.

    Attributes:
        path: the file or folder; it exists.
        seen: what readers found in it, in words, for the message when no reader wants it.

    Example:
        >>> file = CheckpointFile(Path("model.bin"))
        >>> file.once(lambda file: file.path.suffix)
        '.bin'
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seen: list[str] = []
        self._results: dict[Any, Any] = {}
        self._errors: dict[Any, Exception] = {}

    def once(self, open: Callable[[CheckpointFile], T]) -> T:
        """`open(self)`, called once for all readers; an exception is kept and raised again."""
        if open not in self._results:
            try:
                self._results[open] = open(self)
            except Exception as error:
                self._errors[open] = self._results[open] = error
        if open in self._errors:
            raise self._errors[open]
        result: T = self._results[open]
        return result


@dataclass(frozen=True)
class Checkpoint:
    """A generator, or another part, that was read from a file of other software.

    Attributes:
        component: name of the component that it is for.
        layout: whose format it is, one line for people.
        state: the part's `state_dict()`.
        facts: the part's `facts()`; what the file cannot say may be left out where `restore` allows it.
        config: options with which the part is constructed before `restore` and loading.
        summary: size and other numbers that a person wants to see first, e.g. "256 px, 1000 classes".
        notes: what the file did not say and how it was filled in, one sentence each.
        licence: what is known of the licence of weights and data.
        source: the file's `file` (name), `sha256`, `num_bytes`, `container`.
        card: more to be kept in card.json, JSON-ready.
        kind: of the component.
    """

    component: str
    layout: str
    state: Mapping[str, Tensor]
    facts: Mapping[str, Any]
    config: Mapping[str, Any] = field(default_factory=dict)
    summary: str = ""
    notes: tuple[str, ...] = ()
    licence: str = "unknown: that of the source file applies"
    source: Mapping[str, Any] = field(default_factory=dict)
    card: Mapping[str, Any] = field(default_factory=dict)
    kind: str = "generator"
