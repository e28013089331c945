"""Runs: from generator to segmenter, and its stages one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gsegkit.api.arguments import checked
from gsegkit.api.results import load, open_labelled
from gsegkit.api.session import Session
from gsegkit.classes.class_map import FILE_NAME as CLASSES_FILE
from gsegkit.classes.class_map import ClassMap, as_class_map, class_map_yaml, stored_class_map
from gsegkit.classes.named import Named, Renamed, check_origin
from gsegkit.classes.shipped import with_shipped
from gsegkit.config import build_config
from gsegkit.dataset import LabelledDataset
from gsegkit.engine import pipeline
from gsegkit.engine.choices import choose
from gsegkit.engine.claim import TRAINING_MARKS, check_own, claim_dataset, claim_work
from gsegkit.engine.identity import contents_identity, labelled_identity, recipe_of
from gsegkit.engine.pieces import Piece, make_share
from gsegkit.engine.plan import PartSpec, Plan
from gsegkit.engine.preflight import check_learns_from_pairs, check_trainable
from gsegkit.engine.readers import build_reader
from gsegkit.engine.shards import ShardDataset
from gsegkit.engine.synthesis import synthesize as make_pairs
from gsegkit.engine.time_left import TimeLeft
from gsegkit.engine.work import renewal, work_of
from gsegkit.errors import ConfigError
from gsegkit.exports.places import check_apart
from gsegkit.interfaces import Generator, MaskExtractor, Segmenter, TrainableGenerator
from gsegkit.parts import save_part
from gsegkit.reading.scaling import AUTO
from gsegkit.report import PAGE, render_report
from gsegkit.rundir import RunFolder
from gsegkit.storage import atomic_write
from gsegkit.tensors import state_hash

MAX_HOURS = 10_000


@dataclass(frozen=True)
class Result(pipeline.Result):
    """What a run leaves: see `gsegkit.engine.pipeline.Result`; and the report's page."""

    page: Path


@checked
def run(
    gen: str | PartSpec,
    extractor: str | PartSpec,
    seg: str | PartSpec,
    *,
    refine: Sequence[str | PartSpec] | None = None,
    out: str | Path | None = None,
    options: list[str] | None = None,
    update: bool = False,
    session: Session | None = None,
    **fields: Any,
) -> Result:
    """Generator to segmenter in one call; the same as `gsegkit run`.

    Args:
        gen: generator, by name or as a PartSpec with options.
        extractor: mask extractor.
        seg: segmenter.
        refine: refiners of the pairs, in order; () = none, None = those that the extractor suggests.
        out: run folder.
        options: `"part.option=value"` strings, as after `-o`.
        update: remake what changed in an existing run folder.
        session: registry, progress and stop signal; None = everything installed, silent.
        fields: other fields of `Plan`: num_samples, images, data, seed, device ...

    Example:
        >>> result = gsegkit.run("toy", "native", "unet", num_samples=500)  # doctest: +SKIP
        >>> result.report.metrics["iou_foreground"]  # doctest: +SKIP
    """
    session = session or Session.default()
    base = {"gen": gen, "extractor": extractor, "seg": seg, "refine": refine}
    plan = Plan.from_options(_dumped(base), options or [], **with_shipped(fields, session.registry))
    return run_plan(plan, out, update=update, session=session)


@checked
def run_plan(
    plan: Plan,
    out: str | Path | None = None,
    *,
    update: bool = False,
    command: str = "",
    session: Session | None = None,
) -> Result:
    """Carry out a plan and draw its report.

    Args:
        plan: what to do.
        out: run folder; None = `plan.default_folder()`.
        update: remake what changed in an existing run folder.
        command: what the user typed, for the report.
        session: see `run`.
    """
    session = session or Session.default()
    done = pipeline.run(
        plan, out, registry=session.registry, progress=session.progress, stop=session.stop, update=update,
        command=command, team=session.team,
    )  # fmt: skip
    page = render_report(done.folder) if session.team.first else done.folder / PAGE
    return Result(done.folder, done.report, done.learned, done.found, page)


def run_piece(plan: Plan, piece: Piece, out: str | Path, *, update: bool, command: str, session: Session) -> None:
    """Carry out a piece of a plan, as launchers have it; see `run_plan`."""
    if piece.share is not None:
        choices = choose(plan, session.registry)
        make_share(choices, Path(out), piece, session.registry, session.progress, session.stop)
        return
    pipeline.run_until(
        plan, out, piece.round, registry=session.registry, progress=session.progress, stop=session.stop, update=update,
        command=command, team=session.team,
    )  # fmt: skip


@checked
def synthesize(
    run_folder: str | Path,
    out: str | Path,
    num_samples: int,
    *,
    classes: str | Path | ClassMap | None = None,
    refine: list[str] | None = None,
    worker: tuple[int, int] = (0, 1),
    format: str | None = None,
    update: bool = False,
    device: str = "auto",
    session: Session | None = None,
) -> ShardDataset | None:
    """More pairs from a finished run's generator and extractor, into a folder of their own.

    Args:
        run_folder: where generator and extractor come from.
        out: folder of the new data set; interrupted work there is continued.
        num_samples: generated candidates.
        classes: names for the extractor's clusters, a classes.yaml or its content; None = the run's own, if any.
        refine: other refiners than the run's; None = the run's.
        worker: (index, count) to divide the work among processes that share `out`.
        format: of the pairs' files, "safetensors" or "webdataset"; None = the run's own.
        update: make the data set in `out` again when it was made otherwise.
        device: where to compute.
        session: see `run`.

    Returns:
        The data set, or None when other workers are still to finish.
    """
    session = session or Session.default()
    record = RunFolder(run_folder).read_config()
    plan = Plan.from_record(record if format is None else {**record, "format": format}, session.registry)
    if refine is not None:
        plan = plan.model_copy(update={"refine": tuple(PartSpec(name=name) for name in refine)})
    if classes is not None:
        plan = plan.model_copy(update={"classes": as_class_map(classes)})
    elif plan.classes is None:  # a run's target may have given it classes
        plan = plan.model_copy(update={"classes": stored_class_map(run_folder)})
    choices = choose(plan, session.registry).as_recorded(record, session.registry.available)
    plan = choices.plan
    generator: Generator = load(run_folder, "generator", session=session, device=device)
    extractor: MaskExtractor = load(run_folder, "extractor", session=session, device=device)
    generator.scaling = extractor.scaling  # a generator that was not trained does not know the run's
    ctx = session.context(Path(out), device, plan.seed, batch_size=plan.batch_size)
    if plan.classes is not None:
        extractor = Named(extractor, plan.classes)
    recipe = recipe_of(plan, extractor)
    facts = {"num_samples": num_samples, "generator": state_hash(generator), "format": plan.format}
    claim_dataset(Path(out), {**recipe, **facts}, update)
    return make_pairs(
        generator, extractor, choices.build_refiners(), num_samples, ctx, worker=worker, recipe=recipe,
        format=plan.format,
    )  # fmt: skip


@checked
def train(
    data: str | Path,
    seg: str,
    out: str | Path,
    *,
    classes: str | Path | ClassMap | None = None,
    options: dict[str, Any] | None = None,
    reader_options: dict[str, Any] | None = None,
    seed: int = 0,
    update: bool = False,
    device: str = "auto",
    session: Session | None = None,
) -> Segmenter:
    """Train a segmenter on pairs: a run, a synthesized data set, or an annotated folder. Resumes when interrupted.

    `classes` (a classes.yaml or its content) merges the clusters of pairs that were made without names. What `out`
    holds is continued only when options, seed and every file of the data are the same; `update` trains anew instead.

    Raises:
        ConfigError: `out` holds a part that was trained otherwise, and `update` is false.
        DataError: `out` holds something else, or is, holds or lies in `data`.
    """
    session = session or Session.default()
    out, data = Path(out), Path(data)
    check_learns_from_pairs(session.registry.find("segmenter", seg))
    opened = open_labelled(data, session, reader_options)
    class_map = as_class_map(classes)
    pairs = opened if class_map is None else _renamed(opened, class_map)
    check_apart(out, data, "data")
    check_own(out, TRAINING_MARKS, "a trained part")
    segmenter: Segmenter = session.registry.build("segmenter", seg, options)
    segmenter.scaling = opened.scaling
    with (folder := RunFolder(out)).locked():
        names = class_map.identity if class_map is not None else None
        work = work_of("train", seg, segmenter, seed, reader=reader_options or {}, classes=names)
        ctx = session.context(out, device, seed)
        for note in opened.notes:
            ctx.info(note)
        if warning := claim_work(folder, work, labelled_identity(data, opened, out), update, renewal(segmenter)):
            ctx.warn(f"{warning}: it is continued with those of now")
        segmenter.to(ctx.device).fit(pairs, ctx)
        save_part(segmenter, out, "segmenter", seg)
        if class_map is not None:
            atomic_write(out / CLASSES_FILE, class_map_yaml(class_map).encode())
    return segmenter


@checked
def train_generator(
    name: str,
    images: str | Path,
    out: str | Path,
    *,
    options: dict[str, Any] | None = None,
    reader_options: dict[str, Any] | None = None,
    hours: float | None = None,
    seed: int = 0,
    update: bool = False,
    device: str = "auto",
    session: Session | None = None,
) -> Generator:
    """Train a generator on an image folder and store its weights in `out`. Resumes when interrupted; see `train`.

    `hours` ends the training in time, with weights as good as they are then; those of interrupted calls count. The same
    call with more, or without it, continues.
    """
    session = session or Session.default()
    out = Path(out)
    if hours is not None and not 0 < hours <= MAX_HOURS:
        raise ConfigError(f"hours={hours} is not a time", f"more than 0 and at most {MAX_HOURS:,}")
    entry = session.registry.find("generator", name)
    check_trainable(entry)
    reader = build_reader(reader_options, session.registry)
    photographs = reader.images(Path(images))
    check_apart(out, Path(images), "folder of photographs")
    check_own(out, TRAINING_MARKS, "a trained part")
    generator: TrainableGenerator = entry.build(build_config(entry.config_class(), options or {}, "gen"))
    if (reader_options or {}).get("scaling", AUTO) == AUTO:  # weights to start with go on as they began
        photographs = replace(photographs, scaling=generator.scaling)
    generator.scaling = photographs.scaling
    with (folder := RunFolder(out)).locked():
        work = work_of("train-generator", name, generator, seed, start=state_hash(generator))
        ctx = session.context(out, device, seed)
        if hours is not None:
            ctx.time_limit, ctx.progress = hours * 3600, TimeLeft(ctx.progress, hours * 3600)
        if warning := claim_work(folder, work, contents_identity(photographs.paths, out), update, renewal(generator)):
            ctx.warn(f"{warning}: it is continued with those of now")
        fitted = photographs.fitted((generator.info.height, generator.info.width), generator.info.fit_rule)
        generator.to(ctx.device).fit(fitted, ctx)
        save_part(generator, out, "generator", name)
    return generator


# ---- inside --------------------------------------------------------------------------------------------------------


def _dumped(base: dict[str, Any]) -> dict[str, Any]:
    def plain(value: Any) -> Any:
        if isinstance(value, PartSpec):
            return value.model_dump()
        return [plain(item) for item in value] if isinstance(value, list | tuple) else value

    return {name: plain(value) for name, value in base.items()}


def _renamed(pairs: LabelledDataset, class_map: ClassMap) -> LabelledDataset:
    recipe = pairs.manifest.recipe if isinstance(pairs, ShardDataset) else {}
    if recipe.get("classes"):
        raise ConfigError("these pairs already have class names", "omit the class names")
    check_origin(class_map, recipe.get("fingerprint", class_map.extractor))
    return Renamed(pairs, class_map)
