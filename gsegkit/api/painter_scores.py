"""How good a painter is: on masks that it has not seen, by a segmenter that took no part in its training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import StrictStr
from torch import Tensor

from gsegkit.api.arguments import checked
from gsegkit.api.given import ClassNames, given_names, pairs_under_names, under_names
from gsegkit.api.painting import CAPTION, STYLES, contact_sheet, open_painter
from gsegkit.api.results import load
from gsegkit.api.runs import train
from gsegkit.api.session import Session
from gsegkit.classes.class_map import ClassMap, stored_class_map
from gsegkit.classes.colours import run_palette
from gsegkit.classes.in_classes import InClasses
from gsegkit.context import RunContext
from gsegkit.dataset import LabelledDataset, Subset
from gsegkit.engine.held_out import distance, held_out_pairs
from gsegkit.engine.plan import Plan
from gsegkit.errors import ConfigError, DataError
from gsegkit.exports.places import check_apart, is_run
from gsegkit.interfaces import GeneratorEvaluator, Segmenter
from gsegkit.painting import Painter, paint_all, score
from gsegkit.parts import COMPONENT_FILE, find_part
from gsegkit.records.files import Record
from gsegkit.rundir import SCORES_FILE, WORK_FILE, RunFolder
from gsegkit.seeds import child_seed
from gsegkit.storage import atomic_write_json
from gsegkit.tensors import state_hash
from gsegkit.types import Report

FOLDER = "evaluation"  # in the painter's own, where nobody names another
SCORER_FOLDER = "scorer"
SCORERS = ("fpn", "unet")  # that are trained to score: the first whose architecture is not that of the run's segmenter
EVALUATOR = "frechet"
BACKBONE = "resnet18"  # of random weights: scores that painters have stored stay comparable
LEAST = 8  # pairs; fewer have no Frechet distance
MEANINGS = {
    "distance": "Frechet distance between features of the painted and of the true pictures of the same masks, as a "
    "share of the true pictures' total variance",
    "distance_floor": "the same between as many other true pictures and these",
}


@checked
def evaluate_painter(
    painter: str | Path,
    run_folder: str | Path,
    *,
    num_samples: int = 500,
    scorer: str | Path | None = None,
    seg: str | None = None,
    options: dict[str, Any] | None = None,
    classes: ClassNames | None = None,
    out: str | Path | None = None,
    update: bool = False,
    device: str = "auto",
    session: Session | None = None,
) -> Report:
    """Score a painter on new pairs of a run: agreement, Frechet distance, diversity, faithfulness.

    The numbers are left in `out` as metrics.json, beside a contact sheet (figures/held-out.png).

    Args:
        painter: a folder of `train_painter`, or a run that paints by mask-sampling, see `open_painter`.
        run_folder: the run whose pairs the painter learned from; it makes new ones, of identities that no pair has.
        num_samples: masks to paint. As many more true pictures are made for the floor of the distance.
        scorer: folder of a segmenter of the same classes that took no part in the painter's training. None = one of
            another architecture and another seed is trained on the run's pairs, once, and kept in `out`.
        seg: the architecture of the one that is trained; None = `fpn`, or `unet` where the run's own is that.
        options: of the one that is trained.
        classes: names for the run's clusters, as `predict` takes them; None = the painter's own.
        out: folder; None = `evaluation` in the painter's folder.
        update: train the scorer again where other options or other pairs made it.
        device: where to compute.
        session: see `run`.

    Raises:
        ArtifactError: there is no painter, or the run is not finished.
        ConfigError: the scorer is what the painter learned through, its classes or those of the pairs are others, or
            options of both a given and a trained scorer.
        DataError: too few pairs are left to score on, or pictures of another size.
    """
    session = session or Session.default()
    folder, run_folder = Path(painter), Path(run_folder)
    out = _place(out, folder, run_folder)
    if num_samples < LEAST:
        raise ConfigError(f"{num_samples} masks are too few to score on", f"at least {LEAST}; 500 are usual")
    own = None if (folder / COMPONENT_FILE).exists() else classes  # names for the clusters of a run that paints
    part = open_painter(folder, classes=own, session=session, device=device)
    names = given_names(classes, run_folder, session, device) if classes is not None else stored_class_map(folder)
    with RunFolder(out).locked():
        judge = _scorer(scorer, seg, options, names, run_folder, out, update, device, session)
        _check_apart_from_training(judge, folder)
        plan = Plan.from_record(RunFolder(run_folder).read_config(), session.registry)
        ctx = session.context(out, device, plan.seed, batch_size=plan.batch_size)
        made = held_out_pairs(run_folder, 2 * num_samples, session.registry, ctx)
        pairs, others = _halves(pairs_under_names(made, names, run_folder, session), part)
        pictures = paint_all(part, pairs, ctx)
        report = score(part, pairs, judge, ctx, pictures)
        report = _with_distance(report, pictures, pairs, others, ctx, session)
        report = replace(report, notes=(*report.notes, _in_words(judge, scorer, pairs)))
        atomic_write_json(out / SCORES_FILE, report.to_json())
        sheet = contact_sheet(part, pairs, run_palette(run_folder, pairs.classes, names))
        caption = CAPTION.replace("Masks of the run's pairs", "Masks that the painter did not learn from")
        ctx.figure("held-out", sheet, caption, columns=2 + STYLES)
    return report


class _Work(Record):
    segmenter: StrictStr = ""  # hash of the one that the painter learned through


class _Training(Record):
    """What `train_painter` notes beside the painter."""

    work: _Work = _Work()


def _place(out: str | Path | None, painter: Path, run_folder: Path) -> Path:
    if out is None and is_run(painter):
        raise ConfigError(f"'{painter}' is a run, and nothing is added to it", "name a folder with --out")
    place = painter / FOLDER if out is None else Path(out)
    check_apart(place, run_folder, "run")
    return place


def _scorer(
    given: str | Path | None,
    seg: str | None,
    options: dict[str, Any] | None,
    names: ClassMap | None,
    run_folder: Path,
    out: Path,
    update: bool,
    device: str,
    session: Session,
) -> Segmenter:
    """The segmenter that scores: the given one, or one that is trained and kept."""
    if given is not None:
        if seg is not None or options:
            raise ConfigError("the scorer is given, so none is trained", "omit --seg and -o seg.…, or --scorer")
        loaded: Segmenter = load(given, session=session, device=device)
        return under_names(loaded, names, Path(given), session) if is_run(Path(given)) else loaded
    own = find_part(run_folder, "segmenter").name
    known = session.registry.available("segmenter")
    name = seg or next((name for name in SCORERS if name != own and name in known), None)
    if name is None:
        raise ConfigError("no segmenter is installed that could be trained to score", "give one with --scorer")
    merged = names if stored_class_map(run_folder) is None else None  # else the pairs have these names already
    return train(
        run_folder, name, out / SCORER_FOLDER, classes=merged, options=options,
        seed=child_seed(0, "scorer") % 2**31, update=update, device=device, session=session,
    ).eval()  # fmt: skip


def _check_apart_from_training(scorer: Segmenter, painter: Path) -> None:
    """ConfigError when the scorer is the very network that the painter learned through: it would be flattered."""
    path = painter / WORK_FILE
    if not path.is_file():
        return
    used = _Training.read(path).work.segmenter
    alone = scorer.segmenter if isinstance(scorer, InClasses) else scorer
    if used == state_hash(alone):
        raise ConfigError(
            "the painter learned through this very segmenter, which would flatter it",
            "omit --scorer to have another one trained, or give one of another seed and architecture",
        )


def _halves(pairs: LabelledDataset, painter: Painter) -> tuple[LabelledDataset, LabelledDataset]:
    """Pairs to score on, and as many others; checked against the painter."""
    if pairs.classes != painter.classes:
        raise ConfigError(
            f"the run's pairs have the classes {', '.join(pairs.classes)}, the painter {', '.join(painter.classes)}",
            "give the class names that the painter was trained with, by --classes",
        )
    count = len(pairs) // 2
    if count < LEAST:
        raise DataError(f"the run's refiners left {len(pairs)} new pairs, too few to score on", "raise --samples")
    size = tuple(pairs[0].mask.shape)
    if size != painter.train_size:
        raise DataError(
            f"the run's pictures have {size[0]} x {size[1]} px, the painter paints {painter.train_size[0]} x "
            f"{painter.train_size[1]}",
            "give the run that the painter was trained on",
        )
    return Subset(pairs, range(count)), Subset(pairs, range(count, 2 * count))


def _with_distance(
    report: Report, pictures: Tensor, pairs: LabelledDataset, others: LabelledDataset, ctx: RunContext, session: Session
) -> Report:
    """The report with the distance of painted and true pictures and its floor; without, where nothing measures it."""
    if EVALUATOR not in session.registry.available("generator-evaluator"):
        note = f"no Frechet distance: the generator evaluator '{EVALUATOR}' is not installed (gsegkit-eval)"
        return replace(report, notes=(*report.notes, note))
    evaluator: GeneratorEvaluator = session.registry.build(
        "generator-evaluator", EVALUATOR, {"num_samples": len(pictures), "backbone": BACKBONE}
    )
    true, other = (of.batch(range(len(of)))[0] for of in (pairs, others))
    found, notes = distance(evaluator, pictures, true, ctx)
    floor, _ = distance(evaluator, other, true, ctx)
    metrics = {**report.metrics, "distance": found["distance"], "distance_floor": floor["distance"]}
    return replace(report, metrics=metrics, definitions={**report.definitions, **MEANINGS}, notes=tuple(notes))


def _in_words(scorer: Segmenter, given: str | Path | None, pairs: LabelledDataset) -> str:
    whose = "given" if given is not None else "trained for this on the run's pairs"
    return f"{len(pairs)} masks that no pair of the run has; scored by a {type(scorer).__name__}, {whose}"
