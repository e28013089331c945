"""What starts the processes of a run: the interface of launchers, and the one that comes with the core. No torch."""

from gsegkit.launching.launcher import Job, Launcher, Request

__all__ = ["Job", "Launcher", "Request"]
