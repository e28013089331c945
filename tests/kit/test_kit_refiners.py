"""The kit catches what is wrong with refiners; what is right passes every check."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch
from kit_defects import Defects

from gsegkit.config import Config
from gsegkit.interfaces import Refiner
from gsegkit.testing import check_refiner

defects = Defects("refiner")


class Keep(Refiner):
    """A good one: keeps what is covered enough."""

    def refine(self, batch):
        return batch.keep((batch.masks != 0).float().mean((1, 2)) > 0.1)


@defects("pixels", "refine", "touched pixels")
class TouchesPixels(Refiner):
    def refine(self, batch):
        return replace(batch, pixels=batch.pixels.flip(3))


@defects("input-unchanged", "refine", "wrote into batch.masks")
class InPlace(Refiner):
    def refine(self, batch):
        batch.masks[:, 0] = 0
        return batch


@defects("rows-are-independent", "refine", "depends on the other rows")
class DropsBelowMedian(Refiner):
    def refine(self, batch):
        share = (batch.masks != 0).float().mean((1, 2))
        return batch.keep(share >= share.median()) if len(batch) else batch


@defects("rows", "refine", r"masks hold \[0, 1, 2\] with 2 classes")
class InventsClass(Refiner):
    def refine(self, batch):
        masks = batch.masks.clone()
        masks[:, 4:6] = 2
        return batch.with_masks(masks)


@defects("rows", "refine", "reordered")
class Sorts(Refiner):
    def refine(self, batch):
        order = (batch.masks != 0).float().mean((1, 2)).argsort()
        return replace(
            batch,
            seeds=batch.seeds[order],
            pixels=batch.pixels[order],
            masks=batch.masks[order],
            probs=batch.probs[order],
            scores={name: score[order] for name, score in batch.scores.items()},
        )


@defects("extreme-batches", "refine", "raised")
class NeedsRows(Refiner):
    def refine(self, batch):
        return batch.with_scores(share=torch.stack([(mask != 0).float().mean() for mask in batch.masks]))


@defects("no-state", "refine", "the second call gave another")
class Counts(Refiner):
    calls = 0

    def refine(self, batch):
        self.calls += 1
        return batch.with_scores(call=torch.full((len(batch),), float(self.calls)))


@defects("global-state", "refine", "Python's global random state")
class DropsAtRandom(Refiner):
    def refine(self, batch):
        random.seed(3)
        return batch.keep(torch.tensor([random.random() < 0.9 for _ in range(len(batch))], dtype=torch.bool))


@pytest.mark.parametrize("defect", defects.found, ids=str)
def test_a_defect_is_caught_and_named(defect) -> None:
    defects.verify(defect)


def test_every_check_catches_something() -> None:
    assert defects.unproven(lambda: Keep(Config())) == []


def test_a_good_one_passes_every_check() -> None:
    results = check_refiner(lambda: Keep(Config()))
    assert sum(result.status == "passed" for result in results) >= 11
