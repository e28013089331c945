"""What a run left: its parts, loaded, scored, applied and exported."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gsegkit.api.arguments import checked
from gsegkit.api.given import ClassNames, given_names, under_names
from gsegkit.api.session import Session
from gsegkit.classes.class_map import stored_class_map
from gsegkit.classes.colours import run_palette
from gsegkit.classes.held_out import leave_out, with_note
from gsegkit.classes.in_classes import at_present_cut
from gsegkit.classes.in_parts import can_be_in_parts, in_parts
from gsegkit.classes.named import Renamed, check_match
from gsegkit.dataset import LabelledDataset
from gsegkit.distributed.agreement import check_agreed, check_shared
from gsegkit.distributed.team import ALONE
from gsegkit.engine import sources
from gsegkit.engine.devices import pick_device
from gsegkit.engine.readers import build_reader
from gsegkit.errors import ConfigError
from gsegkit.exports.formats import DATASET_FORMATS, DEFAULT_PREDICTIONS, MODEL_FORMATS
from gsegkit.interfaces import Evaluator, Generator, GeneratorEvaluator, MaskExtractor, Segmenter
from gsegkit.painting import Painter
from gsegkit.parts import COMPONENT_FILE, holds_parts
from gsegkit.plugins import KIND_ALIASES
from gsegkit.reading.scaling import AUTO
from gsegkit.records.parts import Component
from gsegkit.refining import Predictor, Refine, automatic, in_words, made
from gsegkit.rundir import last_round
from gsegkit.types import Report


@checked
def load(
    folder: str | Path,
    kind: str = "segmenter",
    *,
    classes: ClassNames | None = None,
    session: Session | None = None,
    device: str = "cpu",
) -> Any:
    """A fitted part of a run folder: its "segmenter" (default), "extractor" or "generator", of the last round.

    A folder that holds one part alone, such as `train_generator` makes, is read too. `classes` are names for a
    segmenter of clusters, as `predict` takes them.

    Raises:
        ArtifactError: the folder holds no such part, or it is damaged.
        ConfigError: `classes` of another kind, or that do not fit.
    """
    session = session or Session.default()
    found = sources.open_part(folder, KIND_ALIASES.get(kind, kind), session.registry, pick_device(device, session.team))
    if classes is None:
        return found
    if not isinstance(found, Segmenter):
        raise ConfigError(f"class names were given for the {kind}", "give them for the segmenter")
    return under_names(found, given_names(classes, folder, session, device), folder, session)


@checked
def evaluate(
    run_folder: str | Path,
    data: str | Path,
    *,
    evaluator: str = "masks",
    options: dict[str, Any] | None = None,
    reader_options: dict[str, Any] | None = None,
    classes: ClassNames | None = None,
    refine: Refine | None = None,
    device: str = "auto",
    session: Session | None = None,
) -> Report:
    """Score a trained segmenter on an annotated folder.

    Images whose labels it learned from, or that helped to name its classes (`labels_used`), are left out, and a note
    says so. Another note says which refiners acted on the predictions; `classes` and `refine` are those of `predict`.
    The processes of the session's team divide the images; where the evaluator cannot, each scores all of them.
    """
    session = session or Session.default()
    session.agree(run_folder=str(run_folder), data=str(data), evaluator=evaluator, options=options, classes=classes,
                  refine=_shown(refine, session), reader_options=reader_options)  # fmt: skip
    if last_round(Path(run_folder), "extractor", COMPONENT_FILE) is not None:  # a segmenter of `train` has none
        match = (options or {}).get("match")
        check_match(match, lambda: str(load(run_folder, "extractor", session=session).fingerprint()))
    given = given_names(classes, run_folder, session, device)
    loaded: Segmenter = load(run_folder, session=session, device=device)
    segmenter = under_names(loaded, given, run_folder, session)
    scorer: Evaluator = session.registry.build("evaluator", evaluator, options)
    ctx = session.context(Path(run_folder), device, team=session.team if scorer.divided else ALONE)
    check_agreed(session.team, {"the kind of device": ctx.device.type})
    names = given or stored_class_map(run_folder)
    opened = open_labelled(data, session, reader_options, segmenter.scaling)
    for read in opened.notes:
        ctx.info(read)
    if names is not None or not segmenter.labels_used:
        dataset, note = leave_out(opened, names.labels_used if names else ())
    else:
        dataset, note = leave_out(opened, segmenter.labels_used, "fit the segmenter")
    predictor = Predictor(segmenter, automatic(session.registry) if refine is None else refine, session.registry)
    report = with_note(with_note(scorer.evaluate(predictor, dataset, ctx), note), in_words(predictor.refined_by))
    consumed = segmenter.labels_consumed
    return with_note(report, f"labels consumed by the segmenter: {consumed}" if consumed else "")


@checked
def evaluate_generator(
    generator: str | Path | Generator,
    images: str | Path,
    *,
    evaluator: str = "frechet",
    generator_options: dict[str, Any] | None = None,
    options: dict[str, Any] | None = None,
    reader_options: dict[str, Any] | None = None,
    seed: int = 0,
    device: str = "auto",
    session: Session | None = None,
) -> Report:
    """Compare what a generator paints with a folder of photographs; no labels are used.

    Args:
        generator: a name, a run folder, a folder made by `train_generator`, or a generator (moved to the device).
        images: photographs, best those that it was not trained on.
        evaluator: generator evaluator.
        generator_options: options of a generator that is given by name.
        options: options of the evaluator.
        reader_options: options of the folder's reader.
        seed: of the images, and of the choice of photographs.
        device: where to compute.
        session: see `run`.
    """
    session = session or Session.default()
    scorer: GeneratorEvaluator = session.registry.build("generator-evaluator", evaluator, options)
    if not isinstance(generator, Generator):
        generator = open_generator(generator, session, generator_options)
    reader = build_reader(reader_options, session.registry, scaling=generator.scaling)
    photographs = reader.images(Path(images))
    ctx = session.context(Path(evaluator), device, seed)  # nothing is written there
    return scorer.evaluate(generator.to(ctx.device), photographs, ctx)


@checked
def predict(
    run_folder: str | Path,
    inputs: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    formats: str | Sequence[str] = DEFAULT_PREDICTIONS,
    refine: Refine | None = None,
    parts: bool = False,
    classes: ClassNames | None = None,
    scaling: str | None = None,
    frames: str = "images",
    device: str = "auto",
    session: Session | None = None,
) -> Any:
    """Segment photographs: files, folders, globs, pages of TIFFs, frames of GIFs and videos; masks go to `out`.

    Args:
        run_folder: a finished run, or a folder of `train`.
        inputs: photographs, one path or several.
        out: folder for the predictions.
        formats: see `gsegkit.exports.formats`.
        refine: refiners that act on the predictions, by name or made with options, in order; () = none, the segmenter
            alone; None = automatic: `colours` where it is installed.
        parts: add clusters without names up to a few parts, as the run's report shows them.
        classes: add clusters up to named classes: a classes.yaml, its content, or the name of names that ship with the
            generator's weights. Nothing is trained again.
        scaling: of photographs with more than 8 bits; None = as the segmenter was trained.
        frames: what the frames of a video become: "images", or a "video" of masks.
        device: where to compute.
        session: see `run`; the processes of its team divide the photographs.

    Raises:
        ConfigError: `parts` or `classes` of a run whose classes have names, `parts` of one that has no extractor with
            levels, `classes` that do not fit, or both.
    """
    from gsegkit.exports.predictions import predict_files

    session = session or Session.default()
    session.agree(run_folder=str(run_folder), out=str(out), inputs=inputs, formats=formats, parts=parts,
                  refine=_shown(refine, session), classes=classes, scaling=scaling, frames=frames)  # fmt: skip
    if parts and classes is not None:
        raise ConfigError("parts and class names were given together", "choose one of them")
    given = given_names(classes, run_folder, session, device)
    segmenter = load(run_folder, session=session, device=device)
    refiners = automatic(session.registry) if refine is None else refine
    ctx = session.context(Path(out), device, team=session.team)
    check_agreed(session.team, {"the kind of device": ctx.device.type})
    check_shared(session.team, Path(out))
    if parts:
        view = _in_parts(run_folder, segmenter, session)
    else:
        view = under_names(segmenter, given, run_folder, session)
    predictor = Predictor(view, refiners, session.registry)
    palette = run_palette(run_folder, view.classes, given)
    return predict_files(
        predictor, inputs, Path(out), formats, ctx, palette, scaling=scaling or segmenter.scaling, frames=frames
    )


def _shown(refine: Refine | None, session: Session) -> object:
    """Refiners as processes compare them."""
    return None if refine is None else [(name, part.config) for name, part in made(refine, session.registry)]


def _in_parts(run_folder: str | Path, segmenter: Segmenter, session: Session) -> Segmenter:
    extractor: MaskExtractor = load(run_folder, "extractor", session=session)
    if not can_be_in_parts(segmenter, extractor):
        raise ConfigError(f"the classes of '{run_folder}' cannot be added up to parts", "predict without --parts")
    return in_parts(segmenter, extractor)


@checked
def export(
    run_folder: str | Path,
    out: str | Path,
    format: str,
    *,
    dtype: str = "uint8",
    classes: ClassNames | None = None,
    update: bool = False,
    session: Session | None = None,
    **options: Any,
) -> Any:
    """Export the segmenter ("onnx", "torch") or the data set ("png", "coco", "yolo", "voc" ...) of a run, or a painter.

    Args:
        run_folder: a finished run, or a folder of `train` or `train_painter` (formats "onnx" and "torch").
        out: the file of a network, or a new folder for a data set.
        format: one of those above.
        classes: names for the clusters of segmenter or pairs, as `predict` takes them.
        dtype: of the photographs that an exported segmenter takes: "uint8" (0 .. 255) or "float32" (0 .. 1).
        update: replace the file that an export of another segmenter, or for another dtype, made.
        session: see `run`.
        options: others of a segmenter, see `gsegkit.exports.networks.export_model`, or of a painter, see
            `gsegkit.exports.painters.export_painter`.
    """
    session = session or Session.default()
    if format in MODEL_FORMATS and _holds_painter(Path(run_folder)):
        from gsegkit.exports.painters import export_painter

        if dtype != "uint8" or classes is not None:
            raise ConfigError("a painter has its own class names and takes masks of 8 bits", "omit dtype and classes")
        painter: Painter = load(run_folder, "painter", session=session)
        colours = run_palette(run_folder, painter.classes)
        return export_painter(painter, Path(out), format, palette=colours, update=update, **options)
    if format in MODEL_FORMATS:
        from gsegkit.exports.networks import export_model

        given = given_names(classes, run_folder, session, "cpu")
        segmenter = under_names(load(run_folder, session=session), given, run_folder, session)
        palette = run_palette(run_folder, segmenter.classes, given)
        return export_model(segmenter, Path(out), format, palette=palette, dtype=dtype, update=update, **options)
    if format in DATASET_FORMATS:
        if dtype != "uint8" or options:
            raise ConfigError(f"format '{format}' has no such options", "omit dtype and what a segmenter's file takes")
        from gsegkit.exports.datasets import export_dataset

        dataset = open_labelled(run_folder, session)
        if (given := given_names(classes, run_folder, session, "cpu")) is not None:
            extractor: MaskExtractor = load(run_folder, "extractor", session=session)
            dataset = Renamed(dataset, at_present_cut(given, dataset.classes, extractor))
        return export_dataset(dataset, Path(out), format, session.context(Path(out), "cpu"))
    raise ConfigError(f"no export format '{format}'", f"formats: {', '.join([*MODEL_FORMATS, *DATASET_FORMATS])}")


def _holds_painter(folder: Path) -> bool:
    path = folder / COMPONENT_FILE
    return path.is_file() and Component.read(path).kind == "painter"


@checked
def open_labelled(
    folder: str | Path, session: Session, reader_options: dict[str, Any] | None = None, scaling: str = AUTO
) -> LabelledDataset:
    """Pairs from a run folder, a folder of shards, or an annotated image folder; see `sources.open_labelled`."""
    return sources.open_labelled(folder, session.registry, reader_options, scaling)


@checked
def open_generator(given: str | Path, session: Session, options: dict[str, Any] | None = None) -> Generator:
    """A generator by name (with options), or as a run folder or a folder of `train_generator` holds it.

    Raises:
        ConfigError: options were given for a stored one.
    """
    folder = Path(given)
    if not holds_parts(folder):
        named: Generator = session.registry.build("generator", str(given), options)
        return named.eval()
    if options:
        raise ConfigError(f"the generator in '{folder}' has its own options", "omit -o gen.…, or give a name")
    stored: Generator = load(folder, "generator", session=session)
    return stored
