"""The run folder and the listener of a process that is not the first: it reads what the first one writes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import StrictStr

from gsegkit.distributed.team import Team
from gsegkit.progress import Progress
from gsegkit.records.files import Record
from gsegkit.rundir import RunFolder
from gsegkit.storage import atomic_write_json


class FollowedFolder(RunFolder):
    """A run folder whose lock and records another process keeps."""

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """The first process holds the lock."""
        yield

    @contextlib.contextmanager
    def recorded(self, warnings: Sequence[str], ended: str = "done", **facts: Any) -> Iterator[None]:
        """The first process keeps run.json."""
        yield

    def begin_stage(self, folder: Path, key: str) -> None:
        """Done by the first process."""

    def end_stage(self, folder: Path, key: str, seconds: float, facts: Mapping[str, Any] | None = None) -> None:
        """Done by the first process."""

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Done by the first process."""

    def write_status(self, status: str, **facts: Any) -> None:
        """Done by the first process."""


class Followed(Progress):
    """Keeps the warnings, for the first process to tell them; says nothing itself."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def message(self, text: str, level: str = "info") -> None:
        """See `Progress.message`."""
        if level == "warning":
            self.warnings.append(text)


def run_folder(path: str | Path, team: Team) -> RunFolder:
    """A run folder, which the first process alone writes."""
    return RunFolder(path) if team.first else FollowedFolder(path)


# ---- warnings of processes that work by themselves -----------------------------------------------------------------


class _Warnings(Record):
    """warnings-NAME.json in the folder of a stage: what a process warned of that made a piece of the stage."""

    warnings: tuple[StrictStr, ...]


def leave_warnings(folder: Path, name: str, texts: Sequence[str]) -> None:
    """Leave warnings in the folder of a stage, for the process that will commit it."""
    if texts:
        atomic_write_json(folder / f"warnings-{name}.json", {"warnings": list(texts)})


def left_warnings(folder: Path) -> list[str]:
    """The warnings that others left in the folder of a stage, once each; their files are removed."""
    found: list[str] = []
    for path in sorted(folder.glob("warnings-*.json")):
        found += _Warnings.read(path).warnings
        path.unlink()
    return list(dict.fromkeys(found))
