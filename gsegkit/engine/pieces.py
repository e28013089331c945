"""A run in pieces, as launchers start it: fit an extractor, make a share of the pairs, do the rest."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from gsegkit.context import RunContext
from gsegkit.engine.choices import Choices
from gsegkit.engine.claim import images_revision
from gsegkit.engine.devices import pick_device
from gsegkit.engine.followed import Followed, FollowedFolder, leave_warnings
from gsegkit.engine.plan import Plan
from gsegkit.engine.rounds import IN_ORDER, Rounds
from gsegkit.engine.sources import open_inputs
from gsegkit.engine.stages import Stage, StageRunner
from gsegkit.errors import ConfigError
from gsegkit.interfaces import Generator, Segmenter
from gsegkit.plugins import Registry
from gsegkit.progress import Progress
from gsegkit.rundir import split_round

MAX_SHARES = 1_000_000
WHOLE = "all"
FORM = re.compile(r"(?P<stage>(extractor|dataset)(-\d{1,6})?)(:(?P<share>\d{1,7})/(?P<shares>\d{1,7}))?")


@dataclass(frozen=True)
class Piece:
    """A piece of a run.

    Attributes:
        round: of the extractor, or of the pairs.
        share: (k, n) = every n-th shard of the round's pairs, from the k-th on, where the extractor is fitted;
            None = all until the round's extractor is fitted, and the pairs are prepared.
    """

    round: int
    share: tuple[int, int] | None = None

    @staticmethod
    def of_text(text: str, plan: Plan) -> Piece | None:
        """`extractor`, `dataset:3/8`, of a later round `extractor-1`, `dataset-1:3/8`; None = `all`, the whole run.

        Raises:
            ConfigError: another form, or numbers that do not fit the plan.
        """
        if text == WHOLE:
            return None
        if (match := FORM.fullmatch(text)) is not None:
            stage, round = split_round(match["stage"])
            share = (int(match["share"]), int(match["shares"])) if match["share"] else None
            fits = round < plan.rounds and (share is not None) == (stage == "dataset")
            if fits and (share is None or share[0] < share[1] <= MAX_SHARES):
                return Piece(round, share)
        raise ConfigError(f"--piece '{text[:40]}' is no piece of this run", "all, extractor, or dataset:3/8")


class FinishedStages(StageRunner):
    """Stages of a run that another process carries out: only those that are finished can be opened."""

    @contextmanager
    def open(self, name: str, round: int, key: str) -> Iterator[Stage]:
        """See `StageRunner.open`.

        Raises:
            ConfigError: the stage is not finished, or was made otherwise.
        """
        ctx = self.ctx.stage(name, round)
        if not self.run.stage_done(ctx.folder, key):
            raise ConfigError(
                f"the stage '{ctx.folder.name}' of '{self.run.path}' is not finished, or of other options",
                IN_ORDER,
            )
        yield Stage(ctx, done=True)


def make_share(
    choices: Choices, folder: Path, piece: Piece, registry: Registry, progress: Progress, stop: threading.Event
) -> None:
    """Make a share of the shards of a run's pairs; nothing else of the run is written, and its lock is not taken.

    Raises:
        ConfigError: the stages before are not finished, or the pairs not prepared.
    """
    assert piece.share is not None
    run = FollowedFolder(folder)
    choices = choices.as_recorded(run.read_config(), registry.available)
    plan = choices.plan
    heard = Heard(progress)
    ctx = RunContext(
        folder=folder, device=pick_device(plan.device), seed=plan.seed, batch_size=plan.batch_size, smoke=plan.smoke,
        progress=heard, stop=stop,
    )  # fmt: skip
    stages = FinishedStages(run, ctx, registry)
    generator: Generator = choices["gen"].build().to(ctx.device)
    inputs = open_inputs(choices, generator, ctx)
    if inputs.images is not None:
        inputs = replace(inputs, revision=images_revision(run))
    work = Rounds(choices, stages, generator, inputs)
    segmenter: Segmenter | None = None
    for round in range(piece.round + 1):
        if plan.train_generator:
            work.train_generator(round, segmenter)
        extractor = work.named(work.fit_extractor(round))
        if round == piece.round:
            made = work.make_share(round, extractor, piece.share)
            if made is not None:
                leave_warnings(made, str(piece.share[0]), heard.warnings)
            return
        segmenter = work.fit_segmenter(round, work.make_pairs(round, extractor))


class Heard(Followed):
    """Keeps the warnings, and passes everything on."""

    def __init__(self, inner: Progress) -> None:
        super().__init__()
        self.inner = inner
        self.start, self.advance, self.finish = inner.start, inner.advance, inner.finish  # type: ignore[method-assign]

    def message(self, text: str, level: str = "info") -> None:
        """See `Progress.message`."""
        super().message(text, level)
        self.inner.message(text, level)
