"""start.json: what was asked, seen, planned and done, so that the same command goes on where it stopped."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StrictInt, StrictStr

from gsegkit.engine.claim import check_contents
from gsegkit.engine.plan import differences
from gsegkit.errors import ConfigError, and_more
from gsegkit.looking.look import Look
from gsegkit.records.files import Record
from gsegkit.storage import atomic_write_json

START_FILE = "start.json"
FolderName = Annotated[str, Field(strict=True, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,80}$")]  # no path
Verb = Literal["train-generator", "run", "fit", "compare"]


class Step(Record):
    """One ordinary command.

    Attributes:
        verb: of gsegkit.
        part: the component that it trains, or "".
        folder: name of its own folder below that of `start`.
        seconds: planned.
        options: as after `-o`.
    """

    verb: Verb
    part: StrictStr
    folder: FolderName
    seconds: float
    options: tuple[StrictStr, ...] = ()


class Planned(Record):
    """What will be done.

    Attributes:
        steps: in their order.
        sentences: what is realistic, and why.
        images_per_second: of the generator's training as it was measured; None = none is trained.
        images_shown: that fit into the time.
    """

    steps: tuple[Step, ...]
    sentences: tuple[StrictStr, ...]
    images_per_second: float | None = None
    images_shown: StrictInt = 0


class Done(Record):
    """What became of a step.

    Attributes:
        status: "done", "failed" (`note` says why), "stopped" (its time was over; the same command continues it), or
            "skipped" (what it needs is missing).
        seconds: that it took, of all calls together.
        note: why it is not done; of `compare`, what it says; or "".
        best: of `compare`, the folder of the method that it puts first, if that is a step's; or "".
    """

    status: Literal["done", "failed", "stopped", "skipped"]
    seconds: float
    note: StrictStr = ""
    best: StrictStr = ""


class Start(Record):
    """The record.

    Attributes:
        work: the options of the command.
        contents: name -> hash of every photograph.
        found: what the folder holds.
        plan: what is done about it.
        done: folder of a step -> what became of it.
        spent: seconds, of all calls together.
    """

    work: dict[StrictStr, Any]
    contents: dict[StrictStr, StrictStr]
    found: Look
    plan: Planned
    done: dict[StrictStr, Done] = Field(default_factory=dict)
    spent: float = 0.0

    def write(self, out: Path) -> None:
        """Store it in the folder of `start`."""
        atomic_write_json(out / START_FILE, self.model_dump(mode="json"))

    def is_done(self, folder: str) -> bool:
        """Whether the step of this folder is."""
        return folder in self.done and self.done[folder].status == "done"

    def with_done(self, folder: str, done: Done, spent: float) -> Self:
        """The record with what became of a step, and the time spent until then."""
        return self.model_copy(update={"done": {**self.done, folder: done}, "spent": spent})


def earlier(out: Path, work: Mapping[str, Any], contents: Mapping[str, str], update: bool) -> Start | None:
    """What an earlier call left in the folder of `start`; None = nothing that may be continued.

    Raises:
        ConfigError: it was started with other options or other photographs, and `update` is false.
        ArtifactError: the record is damaged, and `update` is false.
    """
    if not (out / START_FILE).exists() or update:
        return None
    old = Start.read(out / START_FILE)
    changed = differences(old.work, json.loads(json.dumps(dict(work))))
    if changed:
        raise ConfigError(
            f"'{out}' was started with other options ({and_more(changed)})",
            "choose another --out, or add --update to plan anew",
        )
    check_contents(f"'{out}'", "photographs", old.contents, contents, update)
    return old
