"""Checks of evaluators, with an oracle and with a guesser as predictors."""

from __future__ import annotations

import json
import math

import torch
from torch import Tensor

from gsegkit.builtin.config import ToyConfig
from gsegkit.builtin.toy import Toy
from gsegkit.dataset import LabelledDataset, Sample
from gsegkit.images import to_pixels
from gsegkit.interfaces import Evaluator, Predict
from gsegkit.testing import fixtures
from gsegkit.testing.subject import CheckFailedError, Subject
from gsegkit.types import IGNORE, Report


class _Photographs(LabelledDataset):
    """Toy pictures of four sizes; one empty mask, one of nothing but 255."""

    def __init__(self, num_classes: int, extremes: bool = True) -> None:
        self.classes = ("background", "body", "spot", "rim") if num_classes == 4 else ("background", "object")
        self.samples: list[Sample] = []
        for i, (height, width) in enumerate((*fixtures.SIZES, *fixtures.SIZES)):
            generator = Toy(ToyConfig(size=height, width=width))
            batch = generator.sample(fixtures.seeds(8)[i : i + 1])
            mask = generator.truth(batch)[0].clamp(max=num_classes - 1)
            mask[:2] = IGNORE
            if extremes and i >= 6:
                mask = torch.full_like(mask, 0 if i == 6 else IGNORE)
            self.samples.append(Sample(f"picture-{i}", to_pixels(batch.images)[0], mask))

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]


def _predictor(subject: Subject, dataset: _Photographs, right: bool) -> Predict:
    """Knows the masks of the data set's own photographs; with `right` false it sees one class everywhere.

    Right masks under other class numbers would not do: matching evaluators rightly call them perfect.
    """
    masks = {sample.pixels.numpy().tobytes(): sample.mask for sample in dataset.samples}
    num_classes = len(dataset.classes)

    def predict(pixels: Tensor) -> Tensor:
        if not (isinstance(pixels, Tensor) and pixels.dtype == torch.uint8 and pixels.ndim == 4):
            raise CheckFailedError(f"evaluator '{subject.name}', evaluate(): gave the predictor no [N,3,H,W] uint8")
        known = [masks.get(row.contiguous().numpy().tobytes()) for row in pixels]
        if any(mask is None for mask in known):
            raise CheckFailedError(f"evaluator '{subject.name}', evaluate(): changed the photographs it scores on")
        classes = torch.stack([mask for mask in known if mask is not None]).long() % IGNORE
        classes = classes if right else torch.ones_like(classes)
        probs = torch.nn.functional.one_hot(classes, num_classes).movedim(-1, 1).float()
        return probs * 0.9 + 0.1 / num_classes

    return predict


def _evaluate(subject: Subject, dataset: _Photographs, right: bool = True) -> Report:
    part: Evaluator = subject.make()
    with fixtures.context() as ctx:
        report = subject.call("evaluate", part.evaluate, _predictor(subject, dataset, right), dataset, ctx)
    subject.expect(isinstance(report, Report), "evaluate", f"returned {type(report).__name__}, not Report")
    assert isinstance(report, Report)
    return report


def check_report(subject: Subject) -> None:
    """Photographs of different sizes, empty and ignored masks: numbers or None, each defined, all JSON."""
    for num_classes in (2, 4):
        report = _evaluate(subject, _Photographs(num_classes))
        subject.expect(report.metrics, "evaluate", "the report has no metric")
        tables = [report.metrics, *report.per_class.values(), *report.per_image.values()]
        for name, value in [item for table in tables for item in table.items()]:
            fine = value is None or (isinstance(value, int | float) and math.isfinite(value))
            subject.expect(fine, "evaluate", f"metric '{name}' is {value!r}, not a finite number or None")
        undefined = [name for name in report.metrics if name not in report.definitions]
        subject.expect(not undefined, "evaluate", f"metric '{undefined[0] if undefined else ''}' has no definition")
        subject.call("evaluate", json.dumps, report.to_json(), allow_nan=False)


def check_right_and_wrong(subject: Subject) -> None:
    """A predictor that is always right and one that sees nothing do not get the same numbers."""
    dataset = _Photographs(4, extremes=False)
    right, wrong = (_evaluate(subject, dataset, right).metrics for right in (True, False))
    subject.expect(dict(right) != dict(wrong), "evaluate", "scores a perfect and a wrong predictor the same")


def check_same_again(subject: Subject) -> None:
    """The same evaluation gives the same numbers."""
    dataset = _Photographs(4)
    one, two = (_evaluate(subject, dataset).to_json() for _ in range(2))
    subject.expect(one == two, "evaluate", "the second evaluation gave other numbers")


def check_global_state(subject: Subject) -> None:
    """Evaluation leaves the global random states and torch's settings alone."""
    dataset = _Photographs(4)
    with subject.untouched_globals("evaluate"):
        _evaluate(subject, dataset)


EVALUATOR_CHECKS = (check_report, check_right_and_wrong, check_same_again, check_global_state)
