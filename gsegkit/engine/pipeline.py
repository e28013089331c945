"""The main path, and nothing else: fit, synthesize, fit, label photographs, fit again, evaluate."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from gsegkit.context import RunContext
from gsegkit.distributed.agreement import check_agreed, check_shared
from gsegkit.distributed.team import ALONE, Team
from gsegkit.engine.choices import Choices, PreflightError, choose
from gsegkit.engine.claim import check_own_run, claim_images, claim_photographs, claim_run
from gsegkit.engine.devices import pick_device
from gsegkit.engine.environment import environment
from gsegkit.engine.followed import Followed, leave_warnings, run_folder
from gsegkit.engine.identity import contents_identity
from gsegkit.engine.learned import Learned
from gsegkit.engine.plan import Plan
from gsegkit.engine.preflight import check
from gsegkit.engine.rounds import Rounds
from gsegkit.engine.sources import open_inputs
from gsegkit.engine.stages import StageRunner
from gsegkit.exports.places import check_apart
from gsegkit.interfaces import Generator, Segmenter
from gsegkit.plugins import Registry, installed
from gsegkit.progress import Journal, Progress
from gsegkit.rundir import RunFolder
from gsegkit.types import Report


@dataclass(frozen=True)
class Result:
    """What a run leaves.

    Attributes:
        folder: the run folder.
        report: the numbers; None without ground truth.
        learned: how well the segmenter learned its pairs; None in a smoke run, or when no new pair could be made.
        found: its classes, whether they have names, and photographs to try them on, see `gsegkit.engine.next_steps`.
    """

    folder: Path
    report: Report | None
    learned: Learned | None
    found: Mapping[str, Any]


def run(
    plan: Plan | Choices,
    out: str | Path | None = None,
    *,
    registry: Registry | None = None,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
    update: bool = False,
    command: str = "",
    team: Team = ALONE,
) -> Result:
    """Carry out a plan in a run folder, reusing every stage that is already there and still valid.

    Args:
        plan: what to do; or the choices made from a plan, with the same registry.
        out: run folder; None = `plan.default_folder()`.
        registry: where the parts come from; None = everything installed.
        progress: who listens.
        stop: set it from outside to stop at the next step, with everything saved.
        update: allow a plan that differs from the one the folder was made with; what depends on it is remade.
        command: what the user typed, for the report.
        team: the processes that carry it out together, each with the same call; the first one writes all records.

    Raises:
        PreflightError: problems found before anything was computed.
        ConfigError: the folder belongs to another plan, and `update` is false.
        InterruptedRunError: `stop` was set; the same call continues from there.
    """
    done = _run(plan, out, registry, progress, stop, update, command, team, None)
    assert done is not None
    return done


def run_until(
    plan: Plan | Choices,
    out: str | Path,
    round: int,
    *,
    registry: Registry | None = None,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
    update: bool = False,
    command: str = "",
    team: Team = ALONE,
) -> None:
    """The same until the extractor of a round is fitted, with the pairs prepared for `gsegkit.engine.pieces`."""
    _run(plan, out, registry, progress, stop, update, command, team, round)


def _run(
    plan: Plan | Choices,
    out: str | Path | None,
    registry: Registry | None,
    progress: Progress | None,
    stop: threading.Event | None,
    update: bool,
    command: str,
    team: Team,
    until: int | None,
) -> Result | None:
    registry = registry or installed()
    choices = plan if isinstance(plan, Choices) else choose(plan, registry)
    folder = run_folder(out if out is not None else _plan_given(plan).default_folder(), team)
    check_agreed(team, _in_common(choices, folder, team))
    problems = check(choices, folder.path)
    if problems:
        raise PreflightError(problems)
    check_own_run(folder.path)
    for source in (choices.plan.images, choices.plan.photos, choices.plan.data):
        if source is not None:
            check_apart(folder.path, source, "folder of photographs")
    with folder.locked():
        check_shared(team, folder.path)
        if team.first:
            choices = claim_run(folder, choices, registry, update)
        choices = choices.as_recorded(team.told(choices.plan.record()), registry.available)
        journal = Journal(progress or Progress(), folder.path / "log.txt") if team.first else Followed()
        ctx = _context(choices.plan, folder, journal, stop or threading.Event(), team)
        check_agreed(team, {"the kind of device": ctx.device.type})
        facts = {"device": str(ctx.device), "threads": torch.get_num_threads(), "processes": team.size, **environment()}
        licences = [choice.licence for choice in choices.every]
        ended = "done" if until is None else "interrupted"
        with folder.recorded(journal.warnings, ended, command=command, licences=licences, **facts):
            return _run_stages(choices, StageRunner(folder, ctx, registry), update, until)


def _run_stages(choices: Choices, stages: StageRunner, update: bool, until: int | None) -> Result | None:
    ctx, plan = stages.ctx, choices.plan
    generator: Generator = choices["gen"].build().to(ctx.device)
    for note in generator.notes:
        ctx.warn(note)
    stages.record_licence(choices, generator.info.licence)
    inputs = open_inputs(choices, generator, ctx)
    if inputs.photographs is not None and ctx.team.first:
        claim_photographs(stages.run, inputs.contents, update)
    if inputs.images is not None:
        revision = ""
        if ctx.team.first:
            revision = claim_images(stages.run, contents_identity(inputs.images.paths, stages.run.path), update)
        inputs = replace(inputs, revision=ctx.team.told(revision))
    work = Rounds(choices, stages, generator, inputs)
    work.check_space()

    segmenter: Segmenter | None = None
    for round in range(plan.rounds):
        if plan.train_generator:
            work.train_generator(round, segmenter)
        extractor = work.named(work.fit_extractor(round))
        if round == until:
            _prepare_pairs(work, round)
            return None
        pairs = work.make_pairs(round, extractor)
        segmenter = work.fit_segmenter(round, pairs)
    assert segmenter is not None
    learned = work.check_learned(segmenter, extractor)

    for round in range(plan.rounds, plan.rounds + plan.photo_rounds):
        labelled = work.label_photographs(round, segmenter, pairs)
        segmenter = work.fit_segmenter(round, labelled)
    return Result(stages.run.path, work.report(segmenter), learned, work.found)


def _prepare_pairs(work: Rounds, round: int) -> None:
    """Make the pairs' stage ready, with the warnings so far: who commits it tells them."""
    folder, said = work.prepare_pairs(round), work.ctx.progress
    if folder is not None and isinstance(said, Journal):
        leave_warnings(folder, "fit", said.warnings)


def _plan_given(plan: Plan | Choices) -> Plan:
    return plan.plan if isinstance(plan, Choices) else plan


def _in_common(choices: Choices, folder: RunFolder, team: Team) -> dict[str, str]:
    """What the processes must have in common: versions, options, folder."""
    if team.alone:
        return {}
    versions = {f"the version of {name}": value for name, value in environment().items() if name != "system"}
    parts = {f"the version of {part.entry.full_name}": part.entry.version for part in choices.every}
    plan = {f"the plan's {name}": json.dumps(value) for name, value in choices.plan.record().items()}
    return {**versions, **parts, "the run folder": str(folder.path), **plan}


def _context(
    plan: Plan, folder: RunFolder, journal: Journal | Followed, stop: threading.Event, team: Team
) -> RunContext:
    return RunContext(
        folder=folder.path,
        device=pick_device(plan.device, team),
        seed=plan.seed,
        batch_size=plan.batch_size,
        smoke=plan.smoke,
        progress=journal,
        stop=stop,
        team=team,
    )
