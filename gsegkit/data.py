"""The folders a plan names, opened; and the toy's own test set."""

from __future__ import annotations

import torch

from gsegkit.context import RunContext
from gsegkit.dataset import LabelledDataset, MemoryDataset, UnlabelledImages
from gsegkit.errors import CapabilityError
from gsegkit.images import to_pixels
from gsegkit.interfaces import DatasetReader, Generator
from gsegkit.plan import Plan
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
