"""Batches of pairs whose order is a function of (seed, step), read one step ahead by a single thread."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, Self

import torch
from torch import Tensor

from gsegkit.dataset import LabelledDataset, Sample, Subset
from gsegkit.distributed.team import ALONE, Team
from gsegkit.errors import DataError
from gsegkit.seeds import child_seed
from gsegkit.training import EpochOrder, rows_of, upload
from gsegkit.types import IGNORE

FREQUENCY_IMAGES = 500  # enough to know how frequent the classes are


class Pairs(NamedTuple):
    """One batch as it is stored: pixels [N, 3, H, W] uint8, masks [N, H, W] uint8, weights [N, H, W] or None."""

    pixels: Tensor
    masks: Tensor
    weights: Tensor | None

    def to(self, device: torch.device) -> Pairs:
        """The same on another device; from pinned memory when that is a GPU."""
        weights = None if self.weights is None else upload(self.weights, device)
        return Pairs(upload(self.pixels, device), upload(self.masks, device), weights)


class Loader:
    """Reads a process's rows of the batches of a data set; a context manager, because it owns a thread.

    Every read of the data set goes through that one thread: file handles are never used by two at once.
    """

    def __init__(self, dataset: LabelledDataset, batch_size: int, seed: int, team: Team = ALONE) -> None:
        if len(dataset) < 2:
            raise DataError(
                f"{len(dataset)} image is left to train on" if len(dataset) else "there is no image to train on",
                "batch normalisation needs at least 2; make more samples, or relax the refiners",
            )
        self.dataset = dataset
        self.batch_size = min(batch_size, len(dataset))
        self.order = EpochOrder(len(dataset), self.batch_size, seed)
        self.part = rows_of(team, self.batch_size)
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="gsegkit-loader")
        self._ahead: dict[int, Future[Pairs]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def indices(self, step: int) -> list[int]:
        """Rows of a step, in all processes the same.

        Every epoch is a permutation of its own; a batch may reach over its end, so none is short.
        """
        return self.order.rows(step)

    def batch(self, step: int) -> Pairs:
        """This process's pairs of a step; the next step's are read meanwhile."""
        future = self._ahead.pop(step, None) or self._pool.submit(self._read, step)
        self._ahead = {step + 1: self._pool.submit(self._read, step + 1)}
        return future.result()

    def rows(self, dataset: LabelledDataset, indices: Iterable[int]) -> list[Sample]:
        """Rows of any data set, read by the same thread."""
        return self._pool.submit(lambda: [dataset[i] for i in indices]).result()

    def _read(self, step: int) -> Pairs:
        indices = self.indices(step)[self.part]
        pixels, masks = self.dataset.batch(indices)
        check_classes(masks, self.dataset.classes)
        return Pairs(pixels, masks, self.dataset.batch_weights(indices))


def check_classes(masks: Tensor, classes: tuple[str, ...]) -> None:
    """Refuse masks that hold a class nobody named."""
    unknown = masks[(masks >= len(classes)) & (masks != IGNORE)]
    if unknown.numel():
        raise DataError(
            f"a mask holds class {int(unknown[0])}, but there are {len(classes)} classes (0 .. {len(classes) - 1})",
            "name all classes, or mark the pixels to ignore with 255",
        )


def split(dataset: LabelledDataset, fraction: float, most: int, seed: int) -> tuple[Subset, Subset | None]:
    """Split off validation rows at random: (training, validation); None when `fraction` is 0.

    Raises:
        DataError: too few rows to train on and to validate with.
    """
    if fraction == 0:
        return Subset(dataset, range(len(dataset))), None
    if len(dataset) < 3:
        raise DataError(
            f"{len(dataset)} images cannot be split into training and validation",
            "make more samples, or set val_fraction=0",
        )
    count = min(max(1, round(len(dataset) * fraction)), most, len(dataset) - 2)
    order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(child_seed(seed, "validation")))
    train, val = order[count:].sort().values, order[:count].sort().values
    return Subset(dataset, train.numpy()), Subset(dataset, val.numpy())


def class_counts(dataset: LabelledDataset, team: Team = ALONE) -> Tensor:
    """Pixels of each class, [K] int64, in up to `FREQUENCY_IMAGES` rows spread over the data set; read in shares."""
    num_classes = len(dataset.classes)
    counts = torch.zeros(num_classes, dtype=torch.int64)
    for index in team.share(range(0, len(dataset), max(1, len(dataset) // FREQUENCY_IMAGES))):
        mask = dataset[index].mask
        check_classes(mask, dataset.classes)
        counts += torch.bincount(mask[mask != IGNORE].long().flatten(), minlength=num_classes)
    return team.sum(counts)
