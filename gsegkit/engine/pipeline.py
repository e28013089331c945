"""The main path, and nothing else: generator -> extractor -> pairs -> refiners -> segmenter -> report."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from gsegkit.classes.held_out import leave_out, with_note
from gsegkit.classes.named import Named, fingerprint
from gsegkit.context import RunContext
from gsegkit.dataset import LabelledDataset, UnlabelledImages
from gsegkit.engine.devices import pick_device
from gsegkit.engine.plan import PART_KINDS, Plan, differences, renew
from gsegkit.engine.preflight import PreflightError, check
from gsegkit.engine.shards import ShardDataset
from gsegkit.engine.sources import check_readable, open_images, open_test_set, truth_set
from gsegkit.engine.stages import StageRunner
from gsegkit.engine.synthesis import NamedRefiner, synthesize
from gsegkit.errors import ConfigError, DataError, InterruptedRunError
from gsegkit.exports.predictions import write_predictions
from gsegkit.interfaces import Evaluator, Generator, MaskExtractor, Predictor, Segmenter, TrainableGenerator
from gsegkit.plugins import Registry, installed
from gsegkit.progress import Journal, Progress
from gsegkit.report import render_report
from gsegkit.rundir import RunFolder, environment, stage_key
from gsegkit.storage import atomic_write_json
from gsegkit.tensors import state_hash
from gsegkit.types import Report

SHOWN_PREDICTIONS = 16


@dataclass(frozen=True)
class Result:
    """What a run leaves: its folder, the numbers (None without ground truth), and the report's page."""

    folder: Path
    report: Report | None
    page: Path


def run(
    plan: Plan,
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
        plan: what to do.
        out: run folder; None = `plan.default_folder()`.
        registry: where the parts come from; None = everything installed.
        progress: who listens.
        stop: set it from outside to stop at the next step, with everything saved.
        update: allow a plan that differs from the one the folder was made with; what depends on it is remade.
        command: what the user typed, for the report.

    Raises:
        PreflightError: problems found before anything was computed.
        ConfigError: the folder belongs to another plan, and `update` is false.
        InterruptedRunError: `stop` was set; the same call goes on from there.
    """
    registry = registry or installed()
    folder = RunFolder(out if out is not None else plan.default_folder())
    problems = check(plan, registry, folder.path)
    if problems:
        raise PreflightError(problems)
    plan = plan.resolved(registry)
    with folder.locked():
        _claim(folder, plan, registry, update)
        journal = Journal(progress or Progress(), folder.path / "log.txt")
        ctx = RunContext(
            folder=folder.path,
            device=pick_device(plan.device),
            seed=plan.seed,
            batch_size=plan.batch_size,
            smoke=plan.smoke,
            progress=journal,
            stop=stop or threading.Event(),
        )
        started = time.time()
        folder.write_status(
            "running",
            command=command,
            device=str(ctx.device),
            threads=torch.get_num_threads(),
            licences=_component_licences(plan, registry),
            **environment(),
        )
        try:
            report = _run_stages(plan, StageRunner(folder, ctx, registry))
        except BaseException as error:
            stopped = isinstance(error, InterruptedRunError | KeyboardInterrupt)
            status = "interrupted" if stopped else "failed"
            folder.write_status(status, error=str(error), warnings=journal.warnings)
            raise
        folder.write_status("done", error=None, seconds=round(time.time() - started, 1), warnings=journal.warnings)
        page = render_report(folder.path)
    return Result(folder.path, report, page)


def _run_stages(plan: Plan, stages: StageRunner) -> Report | None:
    ctx, registry = stages.ctx, stages.registry
    if plan.smoke and plan.classes is not None:
        ctx.warn("a smoke run fits another extractor, so its clusters keep their numbers: class names are left out")
        plan = plan.model_copy(update={"classes": None})
    generator: Generator = _build(plan, registry, "gen").to(ctx.device)
    if generator.info.licence:
        licences = [*_component_licences(plan, registry), ["generator weights", generator.info.licence]]
        stages.run.write_status("running", licences=licences)
    refiners = build_refiners(plan, registry)
    evaluator: Evaluator = _build(plan, registry, "eval")
    images = open_images(plan, registry, generator)
    test_set = open_test_set(plan, registry)
    if test_set is not None:
        check_readable(test_set, ctx.stage("report"))
    segmenter: Segmenter | None = None
    key = stage_key(_identity(plan, registry, "gen"), state_hash(generator), plan.device.partition(":")[0])

    for round in range(plan.rounds):
        if plan.train_generator:
            key = stage_key(key, round, files_identity(images), plan.seed, plan.smoke)
            _train_generator(stages, round, key, plan, generator, images, segmenter)
        extractor: MaskExtractor = _build(plan, registry, "extractor").to(ctx.device)
        identity = _identity(plan, registry, "extractor")
        key = stage_key(key, identity, files_identity(images), plan.seed, plan.batch_size, plan.smoke)
        spec = ("extractor", plan.extractor.name)
        stages.fit("extractor", round, key, extractor, spec, partial(extractor.fit, generator, images=images))

        key = stage_key(key, [_refiner_identity(registry, s.name, s.options) for s in plan.refine], plan.num_samples)
        if plan.classes is not None:  # names come after the fit: the extractor's stage does not depend on them
            key = stage_key(key, plan.classes.identity)
            extractor = Named(extractor, plan.classes)
        dataset = _make_dataset(stages, round, key, plan, generator, extractor, refiners)

        segmenter = _build(plan, registry, "seg").to(ctx.device)
        key = stage_key(key, _identity(plan, registry, "seg"))
        _train_segmenter(stages, round, key, plan, segmenter, dataset)

    assert segmenter is not None
    if test_set is None:
        test_set = truth_set(generator, ctx)
    key = stage_key(key, _identity(plan, registry, "eval"), str(plan.data), len(test_set or ()))
    return _score(stages, key, plan, segmenter, evaluator, test_set, images)


def _train_generator(
    stages: StageRunner,
    round: int,
    key: str,
    plan: Plan,
    generator: Generator,
    images: UnlabelledImages | None,
    segmenter: Segmenter | None,
) -> None:
    if not isinstance(generator, TrainableGenerator) or images is None:
        raise ConfigError(f"generator '{plan.gen.name}' cannot be trained here", "choose a trainable one and --images")
    spec = ("generator", plan.gen.name)
    stages.fit("generator", round, key, generator, spec, partial(generator.fit, images, segmenter=segmenter))


def _make_dataset(
    stages: StageRunner,
    round: int,
    key: str,
    plan: Plan,
    generator: Generator,
    extractor: MaskExtractor,
    refiners: Sequence[NamedRefiner],
) -> ShardDataset:
    with stages.open("dataset", round, key) as stage:
        if not stage.done:
            recipe = recipe_of(plan, extractor)
            made = synthesize(generator, extractor, refiners, plan.num_samples, stage.ctx, recipe=recipe)
            assert made is not None
            stage.facts.update(pairs=len(made), **made.counts)
    return ShardDataset(stage.folder)


def _train_segmenter(
    stages: StageRunner, round: int, key: str, plan: Plan, segmenter: Segmenter, dataset: LabelledDataset
) -> None:
    stages.fit("segmenter", round, key, segmenter, ("segmenter", plan.seg.name), partial(segmenter.fit, dataset))


def _score(
    stages: StageRunner,
    key: str,
    plan: Plan,
    segmenter: Segmenter,
    evaluator: Evaluator,
    test_set: LabelledDataset | None,
    images: UnlabelledImages | None,
) -> Report | None:
    """Evaluate, and leave pictures of predictions for the report. Cheap beside the rest, so it is never reused."""
    report = None
    with stages.open("report", 0, stage_key(key, time.time_ns())) as stage:
        if test_set is not None:
            scored, note = leave_out(test_set, plan.classes.labels_used if plan.classes else ())
            report = with_note(evaluator.evaluate(Predictor(segmenter), scored, stage.ctx), note)
            atomic_write_json(stage.folder / "metrics.json", report.to_json())
            shown = [scored[i] for i in range(min(SHOWN_PREDICTIONS, len(scored)))]
            pixels = [sample.pixels for sample in shown]
            names, truths = [s.name for s in shown], [s.mask for s in shown]
        else:
            count = min(SHOWN_PREDICTIONS, len(images or ()))
            pixels = [images[i] for i in range(count)] if images is not None else []
            names = [images.paths[i].stem for i in range(count)] if images is not None else []
            truths = None
        masks = [segmenter.predict(p[None])[0].cpu() for p in pixels]
        write_predictions(stage.folder / "predictions", names, pixels, masks, truths)
    return report


def recipe_of(plan: Plan, extractor: MaskExtractor) -> dict[str, Any]:
    """What a plan's pairs are made by, for their manifest; `fingerprint` says which fit the masks came from."""
    names = {"gen", "extractor", "refine", "seed", "batch_size"} | ({"classes"} if plan.classes else set())
    own = extractor.class_map.extractor if isinstance(extractor, Named) else fingerprint(extractor)
    return {**plan.model_dump(mode="json", include=names), "fingerprint": own}


# ---- building and identity -----------------------------------------------------------------------------------------


def build_refiners(plan: Plan, registry: Registry) -> list[NamedRefiner]:
    """The plan's refiners in order; one that is used twice gets a number."""
    named: list[NamedRefiner] = []
    for spec in plan.refine:
        count = sum(name.partition("#")[0] == spec.name for name, _ in named)
        name = spec.name if count == 0 else f"{spec.name}#{count + 1}"
        named.append((name, registry.build("refiner", spec.name, spec.options)))
    return named


def files_identity(images: UnlabelledImages | None) -> list[Any]:
    """Names and sizes of image files, and how they are fitted."""
    if images is None:
        return []
    return [images.size, images.fit_rule, [(path.name, path.stat().st_size) for path in images.paths]]


def _build(plan: Plan, registry: Registry, where: str) -> Any:
    spec = getattr(plan, where)
    entry = registry.find(PART_KINDS[where], spec.name)
    return entry.build(plan.config_of(entry, spec, where))


def _identity(plan: Plan, registry: Registry, where: str) -> list[Any]:
    spec = getattr(plan, where)
    entry = registry.find(PART_KINDS[where], spec.name)
    return [entry.full_name, entry.version, spec.options]


def _refiner_identity(registry: Registry, name: str, options: dict[str, Any]) -> list[Any]:
    entry = registry.find("refiner", name)
    return [entry.full_name, entry.version, options]


def _component_licences(plan: Plan, registry: Registry) -> list[list[str]]:
    """[what, licence] of every part's code; the licences of weights are known once the generator is built."""
    entries = [registry.find(kind, spec.name) for _, kind, spec in plan.parts()]
    return [[entry.full_name, entry.component.licence] for entry in entries]


def _claim(folder: RunFolder, plan: Plan, registry: Registry, update: bool) -> None:
    """Write config.json, unless the folder holds a run of another plan."""
    new = plan.model_dump(mode="json")
    if (folder.path / "config.json").exists():
        changed = differences(renew(folder.read_config(), registry), new)
        if changed and not update:
            shown = "; ".join(changed[:5]) + (f" and {len(changed) - 5} more" if len(changed) > 5 else "")
            raise ConfigError(
                f"run folder '{folder.path}' was made with other options ({shown})",
                "choose another --out, or add --update to remake what depends on the change",
            )
    elif any(child.name not in (".lock",) for child in folder.path.iterdir()):
        raise DataError(f"folder '{folder.path}' is not empty and not a run folder", "choose another --out")
    folder.write_config(new)
