"""Validation while training: mean IoU over the data set, and whether the masks collapsed to one class."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from gsegkit.dataset import Sample
from gsegkit.distributed.team import ALONE, Team
from gsegkit.interfaces import Segmenter
from gsegkit.types import IGNORE

ALARM_SHARE = 0.98  # of all pixels in one class


@dataclass(frozen=True)
class Confusion:
    """Pixel counts, [K true, K predicted] int64."""

    counts: Tensor

    @property
    def miou(self) -> float:
        """IoU over all pixels of the data set, averaged over the classes that occur in truth or prediction."""
        both = self.counts.diag().double()
        either = self.counts.sum(0) + self.counts.sum(1) - self.counts.diag()
        return float((both / either.clamp_min(1))[either > 0].mean()) if bool((either > 0).any()) else 0.0

    def collapsed(self) -> int | None:
        """The class that swallowed the prediction while the truth holds clearly more than it, else None."""
        total = self.counts.sum().clamp_min(1)
        predicted, truth = self.counts.sum(0) / total, self.counts.sum(1) / total
        top = int(predicted.argmax())
        alone = bool(predicted[top] == 1) and bool(truth[top] < 1)
        swallowed = bool(predicted[top] >= ALARM_SHARE) and bool(truth[top] < ALARM_SHARE - 0.03)
        return top if alone or swallowed else None


def confusion(segmenter: Segmenter, batches: Iterable[list[Sample]], team: Team = ALONE) -> Confusion:
    """Predict photographs of any size, as they will be predicted later, and count; 255 in the truth does not count.

    Each process of `team` gives batches of its own; the counts are those of all.
    """
    k = len(segmenter.classes)
    counts = torch.zeros(k * k, dtype=torch.int64)
    for rows in batches:
        pixels = torch.stack([row.pixels for row in rows])
        truth = torch.stack([row.mask for row in rows]).long()
        predicted = segmenter.predict(pixels).cpu().long()
        valid = truth != IGNORE
        counts += torch.bincount(truth[valid] * k + predicted[valid], minlength=k * k)
    return Confusion(team.sum(counts).reshape(k, k))


def equal_sizes(samples: Iterable[Sample], most: int) -> Iterable[list[Sample]]:
    """Neighbours of equal size together, at most `most`: data sets of photographs mix sizes."""
    group: list[Sample] = []
    for sample in samples:
        if group and (len(group) == most or group[0].mask.shape != sample.mask.shape):
            yield group
            group = []
        group.append(sample)
    if group:
        yield group
