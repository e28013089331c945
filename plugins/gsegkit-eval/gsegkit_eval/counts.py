"""Running the predictor: one photograph at a time, checked."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from gsegkit.context import SMOKE_SAMPLES, RunContext
from gsegkit.dataset import LabelledDataset, Sample
from gsegkit.errors import ContractError, DataError
from gsegkit.interfaces import Predict
from gsegkit.types import check_tensor


def predict_one(predict: Predict, sample: Sample, num_predicted: int | None = None) -> Tensor:
    """Probabilities of one photograph on the CPU, [K, H, W] float32.

    Raises:
        ContractError: the predictor returned another shape or dtype, NaN, or another number of classes than before.
    """
    probs = predict(sample.pixels.unsqueeze(0))
    check_tensor(probs, "probs", torch.float32, (1, num_predicted, *sample.mask.shape), "predict() ")
    if not bool(torch.isfinite(probs).all()):
        raise ContractError(f"predict() returned NaN or infinity for '{sample.name}'", "the segmenter diverged")
    return probs[0].detach().cpu()


def predicted_classes(predict: Predict, dataset: LabelledDataset) -> tuple[int, tuple[str, ...] | None]:
    """Number of predicted classes, and their names if the predictor has the attribute `classes`."""
    if len(dataset) == 0:
        raise DataError("the data set to score on is empty", "check the folder")
    names = getattr(predict, "classes", None)
    if names is not None:
        return len(names), tuple(names)
    return len(predict_one(predict, dataset[0])), None


def scored(dataset: LabelledDataset, ctx: RunContext, name: str) -> Iterator[Sample]:
    """The samples, with progress; a few of them in a smoke run."""
    for index in ctx.track(range(ctx.limit(len(dataset), SMOKE_SAMPLES)), name):
        yield dataset[index]
