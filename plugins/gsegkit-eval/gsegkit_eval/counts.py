"""Running the predictor: one photograph at a time, checked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from gsegkit.context import SMOKE_SAMPLES, RunContext
from gsegkit.dataset import LabelledDataset, Sample
from gsegkit.distributed.team import Results
from gsegkit.errors import ContractError, DataError
from gsegkit.interfaces import Predict
from gsegkit.types import IGNORE, check_tensor


def predict_strips(
    predict: Predict, sample: Sample, num_predicted: int | None = None
) -> Iterator[tuple[slice, Tensor]]:
    """Probabilities of one photograph on the CPU from top to bottom: rows, and [K, h, W] float32 of these rows.

    A predictor without a method `strips` gives the whole photograph at once.

    Raises:
        ContractError: the predictor returned another shape or dtype, NaN, or another number of classes than before.
    """
    pixels, (height, width) = sample.pixels.unsqueeze(0), sample.mask.shape
    strips: Callable[[Tensor], Iterable[Tensor]] | None = getattr(predict, "strips", None)
    top = 0
    for probs in strips(pixels) if strips else (predict(pixels),):
        shape = (1, num_predicted, None if strips else height, width)
        check_tensor(probs, "probs", torch.float32, shape, "predict() ")
        if not bool(torch.isfinite(probs).all()):
            raise ContractError(f"predict() returned NaN or infinity for '{sample.name}'", "the segmenter diverged")
        rows = slice(top, top + probs.shape[2])
        top = rows.stop
        yield rows, probs[0].detach().cpu()
    if top != height:
        raise ContractError(f"predict.strips() gave {top} rows of '{sample.name}', which has {height}", "give them all")


def predict_classes(predict: Predict, sample: Sample, num_predicted: int | None = None) -> Tensor:
    """The most probable classes of one photograph, [H, W] int64; see `predict_strips`."""
    found = torch.empty(sample.mask.shape, dtype=torch.int64)
    for rows, probs in predict_strips(predict, sample, num_predicted):
        found[rows] = probs.argmax(dim=0)
    return found


def predicted_classes(predict: Predict, dataset: LabelledDataset) -> tuple[int, tuple[str, ...] | None]:
    """Number of predicted classes, and their names if the predictor has the attribute `classes`."""
    if len(dataset) == 0:
        raise DataError("the data set to score on is empty", "check the folder")
    names = getattr(predict, "classes", None)
    if names is not None:
        return len(names), tuple(names)
    _, probs = next(predict_strips(predict, dataset[0]))
    return len(probs), None


def scored(
    dataset: LabelledDataset, ctx: RunContext, name: str, found: Callable[[Sample, int], Results]
) -> Iterator[Results]:
    """What `found(sample, index)` returns for every sample, in their order, with progress; a few in a smoke run.

    The processes of a run divide the samples, and all get all results. A sample without a pixel to score has none.
    """
    indices = range(ctx.limit(len(dataset), SMOKE_SAMPLES))

    def one(index: int) -> Results:
        sample = dataset[index]
        return found(sample, index) if bool((sample.mask != IGNORE).any()) else ()

    for _, results in zip(ctx.track(indices, name), ctx.team.map(one, indices), strict=True):
        if results:
            yield results
