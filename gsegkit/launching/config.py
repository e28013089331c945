"""Options of launchers. Imports no torch."""

from __future__ import annotations

from pydantic import Field

from gsegkit.config import Config


class LauncherConfig(Config):
    """What every launcher of the first party takes."""

    threads: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="threads of a process; None = OMP_NUM_THREADS, or 1 when there are several",
    )


class LocalConfig(LauncherConfig):
    """Options of the launcher `local`."""
