"""Clusters that get names later: linear scores of clusters, and the classes that clusters are part of."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import StrictInt
from sklearn.cluster import KMeans
from torch import Tensor

from gsegkit.context import RunContext
from gsegkit.dataset import UnlabelledImages
from gsegkit.errors import DataError, plural
from gsegkit.interfaces import PhotographSegmenter
from gsegkit.records.files import Record
from gsegkit.seeds import child_seed
from gsegkit_baselines.base import Baseline

FEWEST = 50  # points a cluster that are compared first
DIGITS = 3  # after the point, of values that are compared
NOT_HERE = -1e4  # logit of a class that no cluster is part of


class Targets(Record):
    """What is stored of named clusters: the class of each."""

    targets: tuple[StrictInt, ...] = ()


class Clusters(Baseline, PhotographSegmenter):
    """A clustering of the pixels of all photographs; its clusters may get names.

    Attributes:
        targets: for each cluster its class; () = clusters without names are the classes.
    """

    targets: tuple[int, ...] = ()

    @property
    @abstractmethod
    def num_clusters(self) -> int:
        """As its options say."""

    def name_clusters(self, targets: Sequence[int], classes: Sequence[str]) -> None:
        """See `PhotographSegmenter.name_clusters`."""
        if self.targets:
            super().name_clusters(targets, classes)
        self.targets, self.classes = tuple(targets), tuple(classes)

    def named(self, scores: Tensor) -> Tensor:
        """Scores of clusters, [N, k, H, W], as logits of classes: a class counts as much as its best cluster."""
        if not self.targets:
            return scores
        found = []
        for index in range(len(self.classes)):
            members = [cluster for cluster, target in enumerate(self.targets) if target == index]
            found.append(scores[:, members].amax(dim=1) if members else torch.full_like(scores[:, 0], NOT_HERE))
        return torch.stack(found, dim=1)

    def facts(self) -> dict[str, Any]:
        """See `ModulePart.facts`."""
        known = super().facts()
        return {**known, "targets": list(self.targets)} if known else {}

    def restore(self, facts: Mapping[str, Any]) -> None:
        """See `ModulePart.restore`."""
        super().restore(facts)
        targets = Targets.parse({"targets": facts.get("targets", ())}, Path("component.json")).targets
        if any(not 0 <= target < len(self.classes) for target in targets):
            raise ValueError(f"a cluster is part of none of {plural(len(self.classes), 'class')}")
        if facts and len(targets or self.classes) != self.num_clusters:
            raise ValueError(f"{plural(len(targets or self.classes), 'cluster')} in the place of {self.num_clusters}")
        self.targets = targets


def chosen(images: UnlabelledImages, most: int, ctx: RunContext) -> list[int]:
    """Rows of the photographs to look at; DataError when there is none."""
    if not len(images):
        raise DataError("there is no photograph to learn from", "give a folder of photographs with --data")
    return drawn_rows(len(images), most, ctx.seed)


def drawn_rows(count: int, most: int, seed: int) -> list[int]:
    """All of `count` rows, or `most` of them by the seed, rising."""
    if count <= most:
        return list(range(count))
    order = torch.Generator().manual_seed(child_seed(seed, "photographs"))
    return sorted(torch.randperm(count, generator=order)[:most].tolist())


def varied(images: UnlabelledImages, most: int, ctx: RunContext, what: str) -> Iterator[Tensor]:
    """The photographs to look at, [3, H, W] uint8, without those of one colour.

    Args:
        images: all photographs.
        most: at most so many are read.
        ctx: seed, progress and stop.
        what: is done with them, for the progress.

    Raises:
        DataError: there is none, or each is of one colour.
    """
    found = False
    for index in ctx.track(chosen(images, most, ctx), what):
        pixels = images[index]
        if bool((pixels != pixels[:, :1, :1]).any()):
            found = True
            yield pixels
    if not found:
        raise DataError("every photograph is of one colour: there is nothing to learn from", "give other photographs")


def centres(points: NDArray[np.float32], k: int, seed: int, what: str) -> NDArray[np.float32]:
    """k-means centres, [k, D].

    Raises:
        DataError: the points have fewer than `k` different values.
    """
    rounded = np.round(points, DIGITS)  # the same colour differs in the last digits from place to place
    some = rounded[:: max(1, len(points) // (FEWEST * k))]  # comparing all of them takes seconds
    if len(np.unique(some, axis=0)) < k and (different := len(np.unique(rounded, axis=0))) < k:
        most = f"ask for at most {different} clusters with -o seg.k" if different > 1 else "give others"
        raise DataError(f"the photographs have {plural(different, what)}, fewer than {k} clusters", most)
    found: NDArray[np.float32] = KMeans(k, n_init=1, random_state=seed % 2**32).fit(points).cluster_centers_
    return found
