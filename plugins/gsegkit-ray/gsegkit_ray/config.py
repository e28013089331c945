"""Options of the launcher `ray`. Imports neither torch nor Ray."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from gsegkit.launching.config import LauncherConfig


def _address(value: str) -> str:
    if value.startswith("ray://"):
        raise ValueError("a Ray client cannot start a run; type the command on a machine of the cluster")
    if value in ("local", "auto") or re.fullmatch(r"[\w.-]{1,253}:\d{1,5}|\[[0-9a-fA-F:]{2,45}\]:\d{1,5}", value):
        return value
    raise ValueError("an address is local, auto, or the host:port of a cluster")


class RayConfig(LauncherConfig):
    """Options of the launcher `ray`."""

    address: Annotated[str, AfterValidator(_address)] = Field(
        "local",
        description="local = a cluster of this machine, for this run alone; auto = the one that runs; or host:port",
    )
    cpus_per_worker: float = Field(1, gt=0, le=1024, description="CPUs that Ray sets aside for a worker")
    gpus_per_worker: float | None = Field(
        None, ge=0, le=1, description="GPUs of a worker; None = 1 where the cluster has GPUs and the run may use them"
    )
    shares: int | None = Field(
        None, ge=1, le=100_000, description="tasks among which the pairs are divided; None = 2 for each worker"
    )
    retries: int = Field(3, ge=0, le=1000, description="times that lost workers of a step are replaced")
    dashboard: bool = Field(False, description="of a cluster that this run starts: Ray's dashboard on localhost")
    copy_to: str | None = Field(
        None,
        min_length=1,
        description="URL that fsspec knows, such as s3://bucket/run: gets a copy of the finished run",
    )
