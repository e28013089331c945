"""A segmenter straight from a folder of photographs: no generator, no pairs."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from gsegkit.api.arguments import checked
from gsegkit.api.results import open_labelled
from gsegkit.api.session import Session
from gsegkit.classes.class_map import RAW_NAME
from gsegkit.classes.greedy import contingency, greedy_targets
from gsegkit.classes.held_out import choose_images
from gsegkit.context import RunContext
from gsegkit.dataset import LabelledDataset, Subset, UnlabelledImages
from gsegkit.engine.claim import TRAINED, TRAINING_MARKS, check_own, claim_work
from gsegkit.engine.identity import contents_identity, labelled_identity
from gsegkit.engine.next_steps import found_record
from gsegkit.engine.readers import build_reader
from gsegkit.engine.scoring import show_images
from gsegkit.engine.stages import Stage
from gsegkit.engine.work import renewal, work_of
from gsegkit.errors import CapabilityError, ConfigError, DataError, GsegkitError, plural
from gsegkit.exports.places import check_apart
from gsegkit.interfaces import PhotographSegmenter, Segmenter
from gsegkit.parts import save_part
from gsegkit.refining import Predictor, automatic
from gsegkit.rundir import WORK_FILE, RunFolder

FEW = 20  # annotated images that a segmenter may learn from when nobody says how many


@dataclass(frozen=True)
class Given:
    """What a folder holds for a segmenter.

    Attributes:
        photographs: without labels, at their own sizes; None = none were given.
        few: annotated photographs whose labels it may use; None = none.
        contents: name -> hash of every file that was read.
    """

    photographs: UnlabelledImages | None = None
    few: LabelledDataset | None = None
    contents: Mapping[str, str] = field(default_factory=dict)


@checked
def fit(
    name: str,
    data: str | Path | None,
    out: str | Path,
    *,
    labels: int | None = None,
    options: dict[str, Any] | None = None,
    reader_options: dict[str, Any] | None = None,
    seed: int = 0,
    update: bool = False,
    device: str = "auto",
    session: Session | None = None,
) -> Segmenter:
    """A segmenter without a generator: from photographs, from a few labels, or from nothing; kept in `out`.

    `out` then serves `predict`, `evaluate`, `load`, `export` and `report` like a run.

    Args:
        name: a segmenter that does not learn from pairs, such as `otsu`, `colour-kmeans` or `few-labels`.
        data: folder of photographs, with masks where labels are used; None for one that learns from nothing.
        out: new folder, or one of the same work.
        labels: most annotated photographs whose labels may be used, drawn by `seed`: the segmenter learns from them, or
            its clusters are named by them. None = 20 for one that learns from labels, none for others.
        options: its options.
        reader_options: options of the folder's reader.
        seed: of every random number.
        update: make anew what `out` holds of other options or other photographs.
        device: where to compute.
        session: see `run`.

    Raises:
        ConfigError: it learns from pairs, has no use for labels, or no photographs were given.
        DataError: there is nothing to learn from these photographs.
    """
    session = session or Session.default()
    out = Path(out)
    segmenter: Segmenter = session.registry.build("segmenter", name, options)
    labels = _allowed_labels(segmenter, name, labels)
    if data is None and (segmenter.learns_from != "nothing" or labels):
        raise ConfigError(f"segmenter '{name}' learns from {segmenter.learns_from}: none were given", "--data FOLDER")
    if data is not None:
        check_apart(out, Path(data), "folder of photographs")
    check_own(out, TRAINING_MARKS, "a trained part")
    with (folder := RunFolder(out)).locked():
        ctx = session.context(out, device, seed)
        given = _open(segmenter, data, labels, reader_options, ctx, session)
        work = work_of("fit", name, segmenter, seed, reader=reader_options or {}, labels=labels)
        claim_work(folder, work, given.contents, update, renewal(segmenter))
        started = time.monotonic()
        with _claimed(out):
            _learn(segmenter.to(ctx.device), given, ctx)
            save_part(segmenter.eval(), out, "segmenter", name)
        _show(segmenter, given.photographs, ctx, session)
        facts = {
            "photographs": str(data) if data is not None else None,
            "found": found_record(segmenter.classes, unnamed=False, samples=""),
            "labels consumed": segmenter.labels_consumed or "not said",
            "device": str(ctx.device),
            "seconds": round(time.monotonic() - started, 1),
        }
        folder.write_status("done", **facts)
    return segmenter


@contextlib.contextmanager
def _claimed(out: Path) -> Iterator[None]:
    """After an error that leaves nothing to continue, the folder is free for other options."""
    try:
        yield
    except GsegkitError:
        if not any((out / file).exists() for file in TRAINED):
            (out / WORK_FILE).unlink(missing_ok=True)
        raise


def _allowed_labels(segmenter: Segmenter, name: str, labels: int | None) -> int:
    """How many annotated photographs may be used; ConfigError where that makes no sense."""
    if segmenter.learns_from == "pairs":
        raise ConfigError(
            f"segmenter '{name}' learns from pairs, not from photographs",
            f"gsegkit run makes them with a generator; gsegkit train --seg {name} takes an annotated folder",
        )
    if labels is not None and labels < 1:
        raise ConfigError(f"labels={labels}: at least one annotated photograph is needed", "20 is usual")
    if labels and segmenter.learns_from != "labels" and getattr(segmenter, "classes", None):
        raise ConfigError(f"segmenter '{name}' has no use for labels", "omit --labels")
    return (labels or FEW) if segmenter.learns_from == "labels" else labels or 0


def _open(
    segmenter: Segmenter,
    data: str | Path | None,
    labels: int,
    reader_options: dict[str, Any] | None,
    ctx: RunContext,
    session: Session,
) -> Given:
    if data is None:
        return Given()
    reader = build_reader(reader_options, session.registry)
    photographs = reader.images(Path(data))
    if not labels:
        segmenter.scaling = photographs.scaling
        read = segmenter.learns_from != "nothing"
        return Given(photographs, contents=contents_identity(photographs.paths, ctx.folder) if read else {})
    opened = open_labelled(data, session, reader_options)
    for note in opened.notes:
        ctx.info(note)
    segmenter.scaling = opened.scaling
    few = Subset(opened, choose_images(len(opened), min(labels, len(opened)), ctx.seed))
    if len(few) == len(opened):
        ctx.warn(f"the labels of all {plural(len(opened), 'image')} are used, so none is left to score")
    return Given(photographs, few, labelled_identity(Path(data), opened, ctx.folder))


def _learn(segmenter: Segmenter, given: Given, ctx: RunContext) -> None:
    if given.few is not None and segmenter.learns_from == "labels":
        segmenter.fit(given.few, ctx)
        segmenter.labels_used = tuple(sample.name for sample in given.few)
        return
    assert isinstance(segmenter, PhotographSegmenter)
    segmenter.fit_photographs(given.photographs or UnlabelledImages(()), ctx)
    if given.few is not None:
        name_clusters(segmenter.eval(), given.few, ctx)


def _show(segmenter: Segmenter, photographs: UnlabelledImages | None, ctx: RunContext, session: Session) -> None:
    """Leave predictions on the first photographs for the report, in the place of earlier ones."""
    stage = Stage(replace(ctx, folder=ctx.folder / "report"), done=False)
    shutil.rmtree(stage.folder, ignore_errors=True)
    if photographs is not None:
        predictor = Predictor(segmenter, automatic(session.registry), session.registry)
        show_images(stage, predictor, replace(photographs, scaling=segmenter.scaling))


def name_clusters(segmenter: PhotographSegmenter, few: LabelledDataset, ctx: RunContext) -> None:
    """Name clusters by the labels of a few photographs, which are noted in `labels_used` (KLiSH's greedy rule).

    Args:
        segmenter: fitted; its classes are clusters without names.
        few: annotated photographs.
        ctx: progress and stop.

    Raises:
        CapabilityError: the classes have names.
        DataError: no photograph has a labelled pixel.
    """
    if not all(RAW_NAME.fullmatch(name) for name in segmenter.classes):
        raise CapabilityError(f"the classes of {type(segmenter).__name__} have names already", "omit the labels")
    tables, used = [], []
    for index in ctx.track(range(len(few)), "naming the clusters"):
        sample = few[index]
        labels = segmenter.probs(sample.pixels[None])[0].argmax(dim=0).cpu()
        tables.append(contingency(sample.mask, labels, len(few.classes), len(segmenter.classes)))
        used.append(sample.name)
    stacked = np.stack(tables)
    if not stacked.any():
        raise DataError("none of the images has a labelled pixel: every mask is 255", "255 means ignore")
    segmenter.name_clusters(greedy_targets(stacked), few.classes)
    segmenter.labels_used = tuple(used)
