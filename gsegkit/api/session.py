"""What the functions of the API share with their caller: registry, progress, stop signal."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gsegkit.context import RunContext
from gsegkit.distributed.agreement import check_agreed
from gsegkit.distributed.team import ALONE, Team
from gsegkit.engine.devices import pick_device
from gsegkit.engine.environment import environment
from gsegkit.plugins import Registry, installed
from gsegkit.progress import Progress


@dataclass
class Session:
    """How the functions below talk to their caller; shared by the command line."""

    registry: Registry
    progress: Progress
    stop: threading.Event
    team: Team = ALONE

    @staticmethod
    def default() -> Session:
        """Everything installed, silent."""
        return Session(installed(), Progress(), threading.Event())

    def context(self, folder: Path, device: str, seed: int = 0, **options: Any) -> RunContext:
        """A context outside a run; its work is this process's own unless `team` is given."""
        picked = pick_device(device, self.team)
        return RunContext(folder=folder, device=picked, seed=seed, progress=self.progress, stop=self.stop, **options)

    def agree(self, **facts: Any) -> None:
        """All processes were asked for the same, with the same versions.

        Raises:
            ConfigError: names what differs.
        """
        if self.team.alone:
            return
        versions = {f"the version of {name}": value for name, value in environment().items() if name != "system"}
        asked = {
            f"the option {name}": value if isinstance(value, str) else repr(value) for name, value in facts.items()
        }
        check_agreed(self.team, {**versions, **asked})
