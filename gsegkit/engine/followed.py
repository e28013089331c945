"""The run folder and the listener of a process that is not the first: it reads what the first one writes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gsegkit.distributed.team import Team
from gsegkit.progress import Progress
from gsegkit.rundir import RunFolder


class FollowedFolder(RunFolder):
    """A run folder whose lock and records another process keeps."""

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """The first process holds the lock."""
        yield

    @contextlib.contextmanager
    def recorded(self, warnings: Sequence[str], **facts: Any) -> Iterator[None]:
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
