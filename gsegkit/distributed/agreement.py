"""What all processes of a run must have in common, looked at before anything is computed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from gsegkit.distributed.team import Team
from gsegkit.errors import ConfigError, StorageError
from gsegkit.records.text import printable, shown
from gsegkit.storage import storage_errors, temporary_beside

VISIBLE_AFTER = 10.0  # seconds that a file system of a network may take to show another machine's file


def check_agreed(team: Team, facts: Mapping[str, str]) -> None:
    """All processes have the same facts: versions, options, devices.

    Raises:
        ConfigError: names the first that differs, the same sentence in every process.
    """
    for rank, others in enumerate(found := team.gather(dict(facts))):
        for name in {**found[0], **others}:
            here, there = found[0].get(name, "nothing"), others.get(name, "nothing")
            if here != there:
                raise ConfigError(
                    f"the processes differ in {name}: process 0 has {shown(here)}, process {rank} has {shown(there)}",
                    "start the same command everywhere, with the same installation and the same kind of device",
                )


def check_shared(team: Team, folder: Path, visible_after: float = VISIBLE_AFTER) -> None:
    """Every process sees what the first one writes in a folder, and can write there itself.

    Raises:
        StorageError: names the process that cannot, the same sentence in every process.
    """
    if team.alone:
        return
    mark = temporary_beside(folder / "mark")
    if team.first:
        with storage_errors(mark):
            folder.mkdir(parents=True, exist_ok=True)
            mark.touch()
    mark = folder / team.told(mark.name)
    try:
        problems = team.gather(_problem(mark, visible_after))
    finally:
        if team.first:
            mark.unlink(missing_ok=True)
    for rank, problem in enumerate(problems):
        if problem:
            raise StorageError(
                f"process {rank} {problem}: '{printable(str(folder))}'", "choose a folder that all machines share"
            )


def _problem(mark: Path, visible_after: float) -> str:
    """What keeps this process from working in the folder of a mark; "" = nothing."""
    until = time.monotonic() + visible_after
    while not mark.exists():
        if time.monotonic() > until:
            return "does not see the folder of process 0"
        time.sleep(0.1)
    own = temporary_beside(mark)
    try:
        own.touch()
        own.unlink()
    except OSError as error:
        return f"cannot write ({error.strerror})"
    return ""
