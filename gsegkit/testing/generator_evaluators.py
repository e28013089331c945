"""Checks of generator evaluators, with the toy's own pictures and with strange ones as photographs."""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch

from gsegkit.dataset import UnlabelledImages
from gsegkit.images import to_pixels, write_png
from gsegkit.interfaces import GeneratorEvaluator
from gsegkit.testing import fixtures
from gsegkit.testing.subject import Subject
from gsegkit.types import Report

COUNT = 24  # photographs


def _photographs(folder: Path, strange: bool = False) -> UnlabelledImages:
    """Other pictures of the same toy, one of them of another size; or stripes of noise."""
    pixels = to_pixels(fixtures.toy().sample(fixtures.seeds(COUNT, "validation")).images)
    if strange:
        random = torch.Generator().manual_seed(0)
        pixels = torch.randint(256, (*pixels.shape[:3], 1), generator=random).to(torch.uint8).expand_as(pixels)
    for i, row in enumerate(pixels):
        write_png(folder / f"picture-{i:02d}.png", row[:, :-3, :-5] if i == COUNT - 1 else row)
    return UnlabelledImages(tuple(sorted(folder.glob("*.png"))))


def _evaluate(subject: Subject, strange: bool = False) -> Report:
    part: GeneratorEvaluator = subject.make()
    generator = fixtures.toy().train()
    with fixtures.context() as ctx:
        images = _photographs(ctx.folder / "photographs", strange)
        report = subject.call("evaluate", part.evaluate, generator, images, ctx)
    subject.expect(isinstance(report, Report), "evaluate", f"returned {type(report).__name__}, not Report")
    subject.expect(generator.training, "evaluate", "left the generator in another mode")
    assert isinstance(report, Report)
    return report


def check_comparison(subject: Subject) -> None:
    """Finite numbers or None, each defined, all JSON; the generator is left in the mode that it was in."""
    report = _evaluate(subject)
    subject.expect(report.metrics, "evaluate", "the report has no metric")
    for name, value in report.metrics.items():
        fine = value is None or (isinstance(value, int | float) and math.isfinite(value))
        subject.expect(fine, "evaluate", f"metric '{name}' is {value!r}, not a finite number or None")
        subject.expect(name in report.definitions, "evaluate", f"metric '{name}' has no definition")
    subject.call("evaluate", json.dumps, report.to_json(), allow_nan=False)


def check_near_and_far(subject: Subject) -> None:
    """Photographs that are like the pictures and photographs of noise do not get the same numbers."""
    near, far = (_evaluate(subject, strange).metrics for strange in (False, True))
    subject.expect(dict(near) != dict(far), "evaluate", "scores photographs like the pictures and noise the same")


def check_comparison_again(subject: Subject) -> None:
    """The same comparison gives the same numbers."""
    one, two = (_evaluate(subject).to_json() for _ in range(2))
    subject.expect(one == two, "evaluate", "the second comparison gave other numbers")


def check_comparison_globals(subject: Subject) -> None:
    """The comparison leaves the global random states and torch's settings alone."""
    with subject.untouched_globals("evaluate"):
        _evaluate(subject)


GENERATOR_EVALUATOR_CHECKS = (
    check_comparison,
    check_near_and_far,
    check_comparison_again,
    check_comparison_globals,
)
