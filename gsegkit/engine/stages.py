"""Stages of a run: reuse what is finished, continue what was interrupted, remake what changed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gsegkit.context import RunContext
from gsegkit.distributed.agreement import check_agreed
from gsegkit.engine.choices import Choice, Choices
from gsegkit.engine.followed import Followed
from gsegkit.errors import ConfigError
from gsegkit.interfaces import Generator, ModulePart
from gsegkit.parts import load_part, save_part
from gsegkit.plugins import Registry
from gsegkit.progress import Journal
from gsegkit.records.files import damaged_file
from gsegkit.rundir import CHECKPOINT_FILE, RunFolder


@dataclass
class Stage:
    """One stage while it is open: its context, whether it is already done, and facts to record."""

    ctx: RunContext
    done: bool
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """The stage's folder."""
        return self.ctx.folder


def reading(stage: Stage) -> contextlib.AbstractContextManager[None]:
    """Around the reading of a finished stage: a file that was damaged afterwards is an error that says what to do."""
    return damaged_file(stage.folder, f"delete the folder '{stage.folder}' and run again: it is then made anew")


class StageRunner:
    """Opens the stages of one run folder."""

    def __init__(self, run: RunFolder, ctx: RunContext, registry: Registry) -> None:
        self.run = run
        self.ctx = ctx
        self.registry = registry

    @contextlib.contextmanager
    def open(self, name: str, round: int, key: str) -> Iterator[Stage]:
        """Open a stage; it is committed when the block ends without an error in all processes."""
        ctx, team = self.ctx.stage(name, round), self.ctx.team
        check_agreed(team, {f"what the stage '{ctx.folder.name}' is made from": key})
        if team.told(self.run.stage_done(ctx.folder, key)):
            self.ctx.info(f"{ctx.folder.name}: reused")
            yield Stage(ctx, done=True)
            return
        self.run.begin_stage(ctx.folder, key)
        team.wait()  # until what another plan left is removed
        stage = Stage(ctx, done=False)
        started = time.monotonic()
        yield stage
        self._tell_warnings()
        if team.first:
            self._commit(stage, key, time.monotonic() - started)
        team.wait()

    def prepare(self, name: str, round: int, key: str) -> Path | None:
        """Make a stage's folder ready for processes that work on it by themselves; `open` commits it later.

        Returns:
            The folder; None where the stage is finished.
        """
        ctx, team = self.ctx.stage(name, round), self.ctx.team
        check_agreed(team, {f"what the stage '{ctx.folder.name}' is made from": key})
        if team.told(self.run.stage_done(ctx.folder, key)):
            return None
        self.run.begin_stage(ctx.folder, key)
        team.wait()
        return ctx.folder

    def _tell_warnings(self) -> None:
        """Tell the warnings of the other processes, once each; here they all have finished their work."""
        if self.ctx.team.alone:
            return
        heard = self.ctx.progress
        own = heard.warnings if isinstance(heard, Followed | Journal) else []
        first, *others = self.ctx.team.gather(own)
        if self.ctx.team.first:
            for text in dict.fromkeys(text for texts in others for text in texts if text not in first):
                self.ctx.warn(text)
        else:
            own.clear()

    def _commit(self, stage: Stage, key: str, seconds: float) -> None:
        ctx = stage.ctx
        (ctx.folder / CHECKPOINT_FILE).unlink(missing_ok=True)
        self.run.end_stage(ctx.folder, key, seconds, stage.facts)
        facts = {"seconds": seconds, **stage.facts}
        for failure in self.registry.call(
            "gsegkit_stage_done", stage=ctx.folder.name, folder=str(ctx.folder), report=facts
        ):
            ctx.warn(f"plugin {failure.dist} failed after stage {ctx.folder.name}: {failure.reason}")

    def record_licence(self, choices: Choices, weights: str) -> None:
        """Add the licence of the generator's weights, known once it is built, to run.json."""
        if weights:
            licences = [*(choice.licence for choice in choices.every), ["generator weights", weights]]
            self.run.write_status("running", licences=licences)

    def fit(
        self,
        name: str,
        round: int,
        key: str,
        part: ModulePart,
        choice: Choice,
        fit: Callable[..., None],
    ) -> None:
        """Fit a part (`fit(ctx=...)`) and store it, or load what an earlier run stored."""
        first = self.ctx.team.first
        with self.open(name, round, key) as stage:
            if not stage.done:
                self._fit(part, stage, fit)
                if first:
                    save_part(part, stage.folder, choice.kind, choice.name)
        if stage.done or not first:
            with reading(stage):
                load_part(part, stage.folder)

    def _fit(self, part: ModulePart, stage: Stage, fit: Callable[..., None]) -> None:
        """Fit a part in all processes; one that does not divide its work, in the first."""
        team = stage.ctx.team
        if team.alone or part.divided:
            fit(ctx=stage.ctx)
        elif isinstance(part, Generator):
            raise ConfigError(
                f"the training of generator '{type(part).__name__}' uses one process, and {team.size} were started",
                "start this command by itself until the generator is trained, then with all processes",
            )
        elif team.first:
            stage.ctx.info(f"{stage.folder.name}: '{type(part).__name__}' uses one process, the others wait")
            fit(ctx=stage.ctx.alone())
