"""Class names on photographs: put on a run's clusters at once, or learned by a segmenter of their own."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from benchmarks.protocols.common import Lab, say
from benchmarks.protocols.photographs import Predictions, annotated, colour_step, our_run, over_seeds, scores
from gsegkit import api
from gsegkit.dataset import LabelledDataset, Subset
from gsegkit.interfaces import Predict, Segmenter
from gsegkit.refining import Predictor


def at_once(lab: Lab, data: str, weights: str, names: str, truth: dict[str, int], scored: int = 100) -> dict[str, Any]:
    """Foreground and mIoU of a default run whose clusters get names that ship with the weights; no label is used.

    "at once": the run's clusters are added up. "trained": pairs and segmenter of the names' own fit.

    Args:
        lab: see `Lab`.
        data: annotated set, see `photographs.annotated`.
        weights: of the zoo.
        names: that ship with them.
        truth: name -> true class.
        scored: the first images are scored.
    """
    found, options = annotated(lab, data), [f"gen.weights={weights}"]
    photographs = Subset(found, range(min(len(found), 3 if lab.tiny else scored)))
    each: dict[str, list[dict[str, dict[str, Any]]]] = {"at once": [], "trained": []}
    seconds = []
    for seed in lab.seeds:
        plain = our_run(lab, options, seed)
        began = time.process_time()
        named: Segmenter = api.load(plain, classes=names)
        seconds.append(time.process_time() - began)
        trained: Segmenter = api.load(our_run(lab, options, seed, classes=names))
        for how, segmenter in (("at once", named), ("trained", trained)):
            each[how].append(_numbers(segmenter, truth, photographs))
            say(f"{data} / {how} / seed {seed}: {each[how][-1]}")
    rows = {
        how: {step: over_seeds([one[step] for one in numbers]) for step in ("alone", "colours")}
        for how, numbers in each.items()
    }
    return {"rows": rows, "set": data, "names": names, "truth": truth, "seconds_to_name": min(seconds)}


def _numbers(segmenter: Segmenter, truth: dict[str, int], photographs: LabelledDataset) -> dict[str, dict[str, Any]]:
    """Scores alone and with the photograph's colours."""
    targets = torch.tensor([truth[name] for name in segmenter.classes])
    predictions = Predictions.make(_merged(Predictor(segmenter), targets, len(photographs.classes)), photographs)
    found = {}
    for step, refine in (("alone", None), ("colours", colour_step("colours"))):
        found[step] = scores(predictions.counts(refine)[0], photographs.classes)
    return found


def _merged(predict: Predict, targets: Tensor, count: int) -> Predict:
    """Named classes as true ones."""

    def merged(pixels: Tensor) -> Tensor:
        probs = predict(pixels)
        return probs.new_zeros(len(probs), count, *probs.shape[2:]).index_add_(1, targets, probs)

    return merged
