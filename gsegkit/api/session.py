"""What the functions of the API share with their caller: registry, progress, stop signal."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gsegkit.context import RunContext
from gsegkit.distributed.team import ALONE, Team
from gsegkit.engine.devices import pick_device
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
        """A context outside a run."""
        return RunContext(
            folder=folder, device=pick_device(device), seed=seed, progress=self.progress, stop=self.stop, **options
        )
