"""The main path, and nothing else: fit, synthesize, fit, evaluate."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from gsegkit.classes.named import Named
from gsegkit.context import RunContext
from gsegkit.dataset import UnlabelledImages
from gsegkit.engine.choices import Choices, PreflightError, choose
from gsegkit.engine.claim import claim_run
from gsegkit.engine.devices import pick_device
from gsegkit.engine.identity import files_identity, recipe_of
from gsegkit.engine.plan import Plan
from gsegkit.engine.preflight import check
from gsegkit.engine.scoring import score
from gsegkit.engine.shards import ShardDataset
from gsegkit.engine.sources import check_readable, open_images, open_test_set, sample_photographs, truth_set
from gsegkit.engine.stages import StageRunner
from gsegkit.engine.synthesis import synthesize
from gsegkit.errors import ConfigError
from gsegkit.interfaces import Evaluator, Generator, MaskExtractor, Segmenter, TrainableGenerator
from gsegkit.plugins import Registry, installed
from gsegkit.progress import Journal, Progress
from gsegkit.refining import automatic
from gsegkit.rundir import RunFolder, environment, stage_key
from gsegkit.tensors import state_hash
from gsegkit.types import Report


@dataclass(frozen=True)
class Result:
    """What a run leaves: its folder, and the numbers (None without ground truth)."""

    folder: Path
    report: Report | None


def run(
    plan: Plan | Choices,
    out: str | Path | None = None,
    *,
    registry: Registry | None = None,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
    update: bool = False,
    command: str = "",
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

    Raises:
        PreflightError: problems found before anything was computed.
        ConfigError: the folder belongs to another plan, and `update` is false.
        InterruptedRunError: `stop` was set; the same call continues from there.
    """
    registry = registry or installed()
    choices = plan if isinstance(plan, Choices) else choose(plan, registry)
    folder = RunFolder(out if out is not None else _plan_given(plan).default_folder())
    problems = check(choices, folder.path)
    if problems:
        raise PreflightError(problems)
    with folder.locked():
        choices = claim_run(folder, choices, registry, update)
        journal = Journal(progress or Progress(), folder.path / "log.txt")
        ctx = _context(choices.plan, folder, journal, stop or threading.Event())
        facts = {"device": str(ctx.device), "threads": torch.get_num_threads(), **environment()}
        licences = [choice.licence for choice in choices.every]
        with folder.recorded(journal.warnings, command=command, licences=licences, **facts):
            report = _run_stages(choices, StageRunner(folder, ctx, registry))
    return Result(folder.path, report)


def _run_stages(choices: Choices, stages: StageRunner) -> Report | None:
    ctx, plan = stages.ctx, choices.plan
    classes = plan.classes
    if plan.smoke and classes is not None:
        ctx.warn("a smoke run fits another extractor, so class names are ignored and its clusters keep their numbers")
        classes = None
    generator: Generator = choices["gen"].build().to(ctx.device)
    for note in generator.notes:
        ctx.warn(note)
    stages.record_licence(choices, generator.info.licence)
    refiners = choices.build_refiners()
    evaluator: Evaluator = choices["eval"].build()
    images = open_images(choices, generator)
    test_set = open_test_set(choices)
    if test_set is not None:
        check_readable(test_set, ctx.stage("report"))
    segmenter: Segmenter | None = None
    key = stage_key(choices["gen"].identity, state_hash(generator), plan.device.partition(":")[0])

    for round in range(plan.rounds):
        if plan.train_generator:
            key = stage_key(key, round, files_identity(images), plan.seed, plan.smoke)
            trainable, photographs = _trainable(generator, images)
            fit = partial(trainable.fit, photographs, segmenter=segmenter)
            stages.fit("generator", round, key, trainable, choices["gen"], fit)

        extractor: MaskExtractor = choices["extractor"].build().to(ctx.device)
        key = stage_key(
            key, choices["extractor"].identity, files_identity(images), plan.seed, plan.batch_size, plan.smoke
        )
        fit = partial(extractor.fit, generator, images=images)
        stages.fit("extractor", round, key, extractor, choices["extractor"], fit)

        key = stage_key(key, [refiner.identity for refiner in choices.refiners], plan.num_samples)
        if classes is not None:  # names come after the fit: the extractor's stage does not depend on them
            key = stage_key(key, classes.identity)
            extractor = Named(extractor, classes)
        with stages.open("dataset", round, key) as stage:
            if not stage.done:
                recipe = recipe_of(plan.model_copy(update={"classes": classes}), extractor)
                made = synthesize(generator, extractor, refiners, plan.num_samples, stage.ctx, recipe=recipe)
                assert made is not None
                stage.facts.update(pairs=len(made), **made.counts)

        segmenter = choices["seg"].build().to(ctx.device)
        key = stage_key(key, choices["seg"].identity)
        fit = partial(segmenter.fit, ShardDataset(stage.folder))
        stages.fit("segmenter", round, key, segmenter, choices["seg"], fit)

    assert segmenter is not None
    on_photographs = automatic(stages.registry)
    if test_set is None and (test_set := truth_set(generator, ctx)) is not None:
        on_photographs = ()  # generated pictures are what the segmenter learned from
    key = stage_key(key, choices["eval"].identity, str(plan.data), len(test_set or ()), time.time_ns())
    with stages.open("report", 0, key) as stage:  # cheap beside the rest, so it is never reused
        labels_used = classes.labels_used if classes else ()
        shown = images or sample_photographs(choices, stages.registry)
        return score(stage, segmenter, evaluator, test_set, labels_used, shown, on_photographs)


def _trainable(generator: Generator, images: UnlabelledImages | None) -> tuple[TrainableGenerator, UnlabelledImages]:
    if not isinstance(generator, TrainableGenerator) or images is None:
        raise ConfigError(
            f"generator '{type(generator).__name__}' cannot be trained here",
            "choose a trainable generator and give --images",
        )
    return generator, images


def _plan_given(plan: Plan | Choices) -> Plan:
    return plan.plan if isinstance(plan, Choices) else plan


def _context(plan: Plan, folder: RunFolder, journal: Journal, stop: threading.Event) -> RunContext:
    return RunContext(
        folder=folder.path,
        device=pick_device(plan.device),
        seed=plan.seed,
        batch_size=plan.batch_size,
        smoke=plan.smoke,
        progress=journal,
        stop=stop,
    )
