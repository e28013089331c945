"""Checks that need torch (levels 2 and 3): every part is built, two samples go through, the data is opened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from gsegkit.context import RunContext
from gsegkit.engine.choices import Choices, Problem
from gsegkit.engine.devices import pick_device
from gsegkit.engine.preflight import check
from gsegkit.engine.sources import open_images, open_photographs, open_test_set
from gsegkit.errors import DataError, GsegkitError
from gsegkit.images import to_pixels
from gsegkit.interfaces import Generator, MaskExtractor

PROBE_SAMPLES = 2


def probe(choices: Choices, out: Path | None = None) -> list[Problem]:
    """Levels 0 to 3: after the light checks, build every part, send 2 samples through, open the first test pair."""
    problems = check(choices, out)
    if problems:
        return problems
    try:
        device = pick_device(choices.plan.device)
    except GsegkitError as error:
        return [Problem("device", error.message, error.hint)]
    parts: dict[str, Any] = {}
    for choice in choices.every:
        try:
            part = choice.build()
            parts[choice.where] = part.to(device) if isinstance(part, torch.nn.Module) else part
        except GsegkitError as error:
            problems.append(Problem(choice.where, error.message, error.hint))
    if problems:
        return problems
    return _probe_samples(parts["gen"], parts["extractor"], device) + _probe_data(choices, parts["gen"])


def check_varied(generator: Generator, ctx: RunContext) -> None:
    """Refuse a generator whose pictures are of one colour each: no extractor finds a part in them.

    Raises:
        DataError: all of a few samples are.
    """
    pixels = to_pixels(generator.sample(ctx.seeds("preview", PROBE_SAMPLES)).images).flatten(2)
    if bool((pixels == pixels[:, :, :1]).all()):
        raise DataError(
            f"every picture of the generator {type(generator).__name__} is of one colour, so it has no parts",
            "its weights are damaged, all zero, or were never trained: give others",
        )


def _probe_samples(generator: Generator, extractor: MaskExtractor, device: torch.device) -> list[Problem]:
    ctx = RunContext(Path(), device)
    try:
        batch = generator.sample(ctx.seeds("preview", PROBE_SAMPLES), features=extractor.features(generator.info))
    except GsegkitError as error:
        return [Problem("gen", error.message, error.hint)]
    want = (PROBE_SAMPLES, 3, generator.info.height, generator.info.width)
    if tuple(batch.images.shape) != want:
        return [Problem("gen", f"made images of shape {list(batch.images.shape)}, its info says {list(want)}")]
    if not bool(torch.isfinite(batch.images).all()):
        return [Problem("gen", "made images with NaN or infinity", "its weights are damaged or do not fit")]
    return []


def _probe_data(choices: Choices, generator: Generator) -> list[Problem]:
    problems = []
    try:
        images = open_images(choices, generator)
        if images is not None:
            _ = images[0]
    except GsegkitError as error:
        problems.append(Problem("images", error.message, error.hint))
    try:
        photographs = open_photographs(choices)
        if photographs is not None:
            _ = photographs[0]
    except GsegkitError as error:
        problems.append(Problem("photos", error.message, error.hint))
    try:
        test_set = open_test_set(choices)
        if test_set is not None:
            _ = test_set[0]
    except GsegkitError as error:
        problems.append(Problem("data", error.message, error.hint))
    return problems
