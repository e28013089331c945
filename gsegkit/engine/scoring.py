"""The last stage: numbers where there is ground truth, and predictions for the report to show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from gsegkit.classes.held_out import leave_out, with_note
from gsegkit.context import RunContext
from gsegkit.dataset import LabelledDataset, Sample, UnlabelledImages
from gsegkit.engine.learned import Learned
from gsegkit.engine.ranking import Scores, chosen, ranked
from gsegkit.engine.stages import Stage
from gsegkit.exports.predictions import write_predictions
from gsegkit.interfaces import Evaluator, Segmenter
from gsegkit.refining import Predictor, Segments, in_words
from gsegkit.refining.large import label_one
from gsegkit.rundir import SCORES_FILE
from gsegkit.storage import atomic_write_json
from gsegkit.types import Report

SHOWN_PREDICTIONS = 16
SHOWN_NEW_PAIRS = 6
NEW_PAIRS_FOLDER = "new_pairs"  # of the stage `report`


def score(
    stage: Stage,
    segmenter: Segmenter,
    evaluator: Evaluator,
    test_set: LabelledDataset | None,
    labels_used: Sequence[str],
    images: UnlabelledImages | None,
    refiners: Sequence[str] = (),
    note: str = "",
    view: Segments | None = None,
) -> Report | None:
    """Evaluate the segmenter, and leave its predictions as images in the stage's folder.

    All processes must call it. An evaluator that divides its work scores in all; the first one writes.

    Args:
        stage: the open stage.
        segmenter: trained.
        evaluator: what scores it.
        test_set: images with ground truth; None = only predictions on `images`, without scores.
        labels_used: names of images that helped to name the classes; they are left out.
        images: photographs, shown when there is no ground truth.
        refiners: names of those that act on the photographs; the report shows numbers and pictures without them too.
        note: to stand beside the numbers; "" = none.
        view: what is shown on `images` in the place of the segmenter; None = the segmenter.
    """
    predictor = Predictor(segmenter, refiners)
    if test_set is None:
        if stage.ctx.team.first:
            show_images(stage, Predictor(view or segmenter, refiners), images)
        return None
    if not (stage.ctx.team.first or evaluator.divided):
        return None
    scored, left_out = leave_out(test_set, labels_used)
    report = with_note(with_note(_evaluated(evaluator, predictor, scored, stage.ctx), left_out), note)
    if predictor.refined_by:
        report = _beside(report, _evaluated(evaluator, Predictor(segmenter), scored, stage.ctx), predictor)
    if stage.ctx.team.first:
        atomic_write_json(stage.folder / SCORES_FILE, report.to_json())
        _show_scored(stage, predictor, scored, report.per_image)
    return report


def _evaluated(evaluator: Evaluator, predictor: Predictor, scored: LabelledDataset, ctx: RunContext) -> Report:
    return evaluator.evaluate(predictor, scored, ctx if evaluator.divided else ctx.alone())


def _beside(refined: Report, alone: Report, predictor: Predictor) -> Report:
    """The refined predictions' scores, with those of the segmenter alone as `one_pass_NAME`."""
    ours = [name for name in alone.metrics if not name.startswith("baseline_")]
    first = {f"one_pass_{name}": alone.metrics[name] for name in ours}
    meanings = {f"one_pass_{name}": f"`{name}` of the segmenter alone, before refiners" for name in ours}
    both = replace(refined, metrics={**refined.metrics, **first}, definitions={**refined.definitions, **meanings})
    return with_note(both, f"{in_words(predictor.refined_by)}; one_pass: the segmenter alone")


def show_new_pairs(stage: Stage, segmenter: Segmenter, pairs: LabelledDataset, learned: Learned) -> None:
    """Leave the best, median and worst of the pairs that a segmenter was compared on, and their scores, as images.

    Args:
        stage: the open stage.
        segmenter: trained.
        pairs: of pictures that it has not seen.
        learned: what `compare` found on them.
    """
    scores: dict[str, dict[str, float | None]] = {
        f"new picture {row + 1}": {"miou": round(value, 4)} for row, value in enumerate(learned.per_picture)
    }
    rows = {name: row for row, name in enumerate(scores)}
    names = chosen(ranked(scores), SHOWN_NEW_PAIRS)
    shown = [pairs[rows[name]] for name in names]
    masks = [segmenter.predict(sample.pixels[None])[0].cpu() for sample in shown]
    folder = stage.folder / NEW_PAIRS_FOLDER
    write_predictions(folder, names, [sample.pixels for sample in shown], masks, [sample.mask for sample in shown])
    atomic_write_json(folder / SCORES_FILE, {"per_image": {name: scores[name] for name in names}})


def _show_scored(stage: Stage, predictor: Predictor, scored: LabelledDataset, per_image: Scores) -> None:
    wanted = chosen(ranked(per_image), SHOWN_PREDICTIONS)
    found: dict[str, Sample] = {}
    for i in range(len(scored) if wanted else 0):
        if len(found) == len(set(wanted)):
            break
        sample = scored[i]
        found |= {sample.name: sample} if sample.name in wanted and sample.name not in found else {}
    shown = [found[name] for name in dict.fromkeys(wanted) if name in found]
    shown = shown or [scored[i] for i in range(min(SHOWN_PREDICTIONS, len(scored)))]
    truths = [sample.mask for sample in shown]
    _show(stage, predictor, [sample.name for sample in shown], [sample.pixels for sample in shown], truths)


def show_images(stage: Stage, predictor: Predictor, images: UnlabelledImages | None) -> None:
    """Leave predictions on the first photographs as images; None = on none."""
    count = min(SHOWN_PREDICTIONS, len(images or ()))
    pixels = [images[i] for i in range(count)] if images is not None else []
    names = [images.paths[i].stem for i in range(count)] if images is not None else []
    _show(stage, predictor, names, pixels, None)


def _show(
    stage: Stage,
    predictor: Predictor,
    names: Sequence[str],
    pixels: Sequence[Tensor],
    truths: Sequence[Tensor] | None,
) -> None:
    alone = Predictor(predictor.segmenter)
    masks = [label_one(alone, picture) for picture in pixels]
    refined = [label_one(predictor, picture) for picture in pixels] if predictor.refined_by else None
    write_predictions(stage.folder / "predictions", names, pixels, masks, truths, refined)
