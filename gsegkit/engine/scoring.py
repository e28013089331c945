"""The last stage: numbers where there is ground truth, and predictions for the report to show."""

from __future__ import annotations

from collections.abc import Sequence

from gsegkit.classes.held_out import leave_out, with_note
from gsegkit.dataset import LabelledDataset, UnlabelledImages
from gsegkit.engine.stages import Stage
from gsegkit.exports.predictions import write_predictions
from gsegkit.interfaces import Evaluator, Predictor, Segmenter
from gsegkit.rundir import SCORES_FILE
from gsegkit.storage import atomic_write_json
from gsegkit.types import Report

SHOWN_PREDICTIONS = 16


def score(
    stage: Stage,
    segmenter: Segmenter,
    evaluator: Evaluator,
    test_set: LabelledDataset | None,
    labels_used: Sequence[str],
    images: UnlabelledImages | None,
) -> Report | None:
    """Evaluate the segmenter, and leave pictures of its predictions in the stage's folder.

    Args:
        stage: the open stage.
        segmenter: trained.
        evaluator: what scores it.
        test_set: images with ground truth; None = only pictures, of `images`.
        labels_used: names of images that helped to name the classes; they are left out.
        images: photographs, shown when there is no ground truth.
    """
    if test_set is None:
        _show_images(stage, segmenter, images)
        return None
    scored, note = leave_out(test_set, labels_used)
    report = with_note(evaluator.evaluate(Predictor(segmenter), scored, stage.ctx), note)
    atomic_write_json(stage.folder / SCORES_FILE, report.to_json())
    _show_scored(stage, segmenter, scored)
    return report


def _show_scored(stage: Stage, segmenter: Segmenter, scored: LabelledDataset) -> None:
    shown = [scored[i] for i in range(min(SHOWN_PREDICTIONS, len(scored)))]
    pixels = [sample.pixels for sample in shown]
    masks = [segmenter.predict(p[None])[0].cpu() for p in pixels]
    truths = [sample.mask for sample in shown]
    write_predictions(stage.folder / "predictions", [sample.name for sample in shown], pixels, masks, truths)


def _show_images(stage: Stage, segmenter: Segmenter, images: UnlabelledImages | None) -> None:
    count = min(SHOWN_PREDICTIONS, len(images or ()))
    pixels = [images[i] for i in range(count)] if images is not None else []
    names = [images.paths[i].stem for i in range(count)] if images is not None else []
    masks = [segmenter.predict(p[None])[0].cpu() for p in pixels]
    write_predictions(stage.folder / "predictions", names, pixels, masks, None)
