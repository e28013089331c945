"""The folders a plan names, opened; and the toy's own test set."""

from __future__ import annotations

import torch

from gsegkit.context import SMOKE_SAMPLES, RunContext
from gsegkit.dataset import LabelledDataset, MemoryDataset, UnlabelledImages
from gsegkit.engine.plan import Plan
from gsegkit.errors import CapabilityError, DataError, GsegkitError
from gsegkit.images import to_pixels
from gsegkit.interfaces import DatasetReader, Generator
from gsegkit.plugins import Registry

TRUTH_SAMPLES = 200


def open_images(plan: Plan, registry: Registry, generator: Generator) -> UnlabelledImages | None:
    """The plan's photographs, fitted to the generator's size; None when it names none."""
    if plan.images is None:
        return None
    reader: DatasetReader = registry.build("dataset", plan.data_reader.name, plan.data_reader.options)
    info = generator.info
    return reader.images(plan.images).fitted((info.height, info.width), info.fit_rule)


def open_test_set(plan: Plan, registry: Registry) -> LabelledDataset | None:
    """The plan's annotated photographs at their own sizes; None when it names none."""
    if plan.data is None:
        return None
    reader: DatasetReader = registry.build("dataset", plan.data_reader.name, plan.data_reader.options)
    return reader.labelled(plan.data)


def check_readable(dataset: LabelledDataset, ctx: RunContext) -> None:
    """Read every pair once, so that a damaged one is told before hours of work and not after them.

    Raises:
        DataError: names up to ten of the files that cannot be used.
    """
    bad: list[str] = []
    for index in ctx.track(range(ctx.limit(len(dataset), SMOKE_SAMPLES)), "reading the test images"):
        try:
            dataset[index]
        except GsegkitError as error:
            bad.append(error.message)
    if bad:
        more = f"; and {len(bad) - 10} more" if len(bad) > 10 else ""
        raise DataError(
            f"{len(bad)} of {len(dataset)} test pairs cannot be used: {'; '.join(bad[:10])}{more}",
            "mend or remove them, then run the same command again",
        )


def truth_set(generator: Generator, ctx: RunContext, count: int = TRUTH_SAMPLES) -> LabelledDataset | None:
    """Unseen samples with exact masks from a generator that knows them (capability `truth`), else None."""
    pixels, masks = [], []
    for seeds in ctx.batches("test", count):
        batch = generator.sample(seeds)
        try:
            masks.append(generator.truth(batch).cpu())
        except CapabilityError:
            return None
        pixels.append(to_pixels(batch.images).cpu())
    return MemoryDataset(torch.cat(pixels), torch.cat(masks), generator.info.mask_classes)
