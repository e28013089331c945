"""What a launcher said: torchrun, and all that set the same environment variables. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gsegkit.errors import ConfigError

NAMES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
MAX_PROCESSES = 65_536
START = "start the run as: torchrun --nproc-per-node 2 -m gsegkit run ..."


@dataclass(frozen=True)
class Launched:
    """The place of this process among those that were started together.

    Attributes:
        rank: 0 .. size - 1.
        size: number of processes, at least 2.
        local_rank: among those of this machine, by which it takes its GPU.
        host, port: where the processes meet.
    """

    rank: int
    size: int
    local_rank: int
    host: str
    port: int


def launched(environ: Mapping[str, str]) -> Launched | None:
    """How this process was started; None = alone.

    Raises:
        ConfigError: several processes are meant, and the environment does not say which this is or where they meet.
    """
    size = _number(environ, "WORLD_SIZE", 1, MAX_PROCESSES) if environ.get("WORLD_SIZE") else 1
    if size == 1:
        return None
    missing = [name for name in NAMES if not environ.get(name)]
    if missing:
        raise ConfigError(
            f"WORLD_SIZE says that {size} processes were started, and {', '.join(missing)} is not set: "
            "they cannot find each other",
            f"{START}; or unset WORLD_SIZE",
        )
    rank = _number(environ, "RANK", 0, size - 1)
    local = _number(environ, "LOCAL_RANK", 0, size - 1) if environ.get("LOCAL_RANK") else 0
    return Launched(rank, size, local, environ["MASTER_ADDR"], _number(environ, "MASTER_PORT", 1, 65_535))


def _number(environ: Mapping[str, str], name: str, least: int, most: int) -> int:
    text = environ[name]
    if not (text.isascii() and text.isdigit() and len(text) < 10 and least <= int(text) <= most):
        raise ConfigError(f"{name}={text[:40]!r} is not a number from {least} to {most}", START)
    return int(text)
