"""Names for clusters: whether they fit an extractor, and the extractor and its pairs under their new names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gsegkit.classes.class_map import IGNORED, ClassMap, class_map_in, cluster_ids
from gsegkit.context import RunContext
from gsegkit.dataset import LabelledDataset, Sample
from gsegkit.errors import ConfigError
from gsegkit.interfaces import Generator, MaskExtractor
from gsegkit.types import IGNORE, GeneratedBatch, GeneratorInfo, MaskBatch

KEEP = 1e-6  # least share of a pixel's probability that must lie outside ignored clusters to be scaled to 1


def clusters_of(extractor: MaskExtractor, cut: int | None = None) -> tuple[int, ...]:
    """Ids of the clusters of a cut (None = the present one) in class order; class indices without levels.

    Raises:
        ConfigError: no such cut, or a cut of an extractor that has no levels.
    """
    if extractor.levels or cut is not None:
        return extractor.level(cut if cut is not None else len(extractor.classes)).ids
    return tuple(range(len(extractor.classes)))


def check_origin(class_map: ClassMap, own: str) -> None:
    """Raise ConfigError unless the class map was made for the fit with this fingerprint."""
    if class_map.extractor != own:
        raise ConfigError(
            f"the class names were made for another fit of the extractor ({class_map.extractor}, here it is {own})",
            "cluster numbers are valid for one fit only: name this fit's clusters with gsegkit name RUN",
        )


def check_match(match: Any, own: Callable[[], str]) -> None:
    """Raise ConfigError when an evaluator's option `match` is a file of class names that were made for another fit.

    Args:
        match: the option; a rule, a table of true classes, or a file that is not there is left to the evaluator.
        own: gives the fingerprint of the fit; called when it is needed.
    """
    class_map = class_map_in(match) if isinstance(match, str) and Path(match).is_file() else None
    if class_map is not None:
        check_origin(class_map, own())


def check_fits(class_map: ClassMap, extractor: MaskExtractor) -> None:
    """Raise ConfigError unless the class map was made for this very fit and names all clusters of its cut."""
    check_origin(class_map, extractor.fingerprint())
    if class_map.cut is None and extractor.levels:
        raise ConfigError(
            "the class names do not state which cut they belong to", "add a line: cut: NUMBER OF CLUSTERS"
        )
    class_map.targets(clusters_of(extractor, class_map.cut))


class Named(MaskExtractor):
    """A fitted extractor under given class names: probabilities of a class's clusters are added.

    Ignored clusters compete like a class; where they win, the pixel is marked in `MaskBatch.ignore`, and the
    probabilities of the classes are scaled to 1 (uniform where next to nothing is left of them). The score `coverage`
    is that of the named classes, all other scores are the extractor's.

    Args:
        extractor: fitted; it is cut to the class map's level.
        class_map: names.

    Raises:
        ConfigError: see `check_fits`.
    """

    def __init__(self, extractor: MaskExtractor, class_map: ClassMap) -> None:
        super().__init__(extractor.config)
        check_fits(class_map, extractor)
        if class_map.cut is not None:
            extractor.cut(class_map.cut)
        self.extractor = extractor
        self.class_map = class_map
        self.classes = class_map.names
        targets = class_map.targets(clusters_of(extractor))
        self.members = [[i for i, t in enumerate(targets) if t == index] for index in range(len(self.classes))]
        self.ignored = [i for i, t in enumerate(targets) if t == IGNORED]

    def features(self, info: GeneratorInfo) -> tuple[str, ...]:
        """Those of the extractor."""
        return self.extractor.features(info)

    def fit(self, generator: Generator, ctx: RunContext, *, images: object = None) -> None:
        """Refused: names belong to one fit."""
        raise ConfigError("a named extractor cannot be fitted again", "fit the extractor, then name its clusters")

    def extract(self, batch: GeneratedBatch, generator: Generator) -> MaskBatch:
        """Probabilities of the named classes."""
        found = self.extractor.extract(batch, generator)
        probs = torch.stack([found.probs[:, members].sum(dim=1) for members in self.members], dim=1)
        ignore = None
        if self.ignored:
            ignore = found.probs[:, self.ignored].sum(dim=1) > probs.amax(dim=1)
            total = probs.sum(dim=1, keepdim=True)
            probs = torch.where(total > KEEP, probs / total.clamp(min=KEEP), 1 / len(self.classes))
        coverage = 1 - probs[:, 0].mean(dim=(1, 2))
        return MaskBatch(probs, {**found.scores, "coverage": coverage}, ignore)


class Renamed(LabelledDataset):
    """Pairs whose clusters are merged into named classes; ignored clusters become 255.

    The clusters of the pairs are read from the names of their classes, see `gsegkit.classes.class_map.cluster_ids`.

    Raises:
        ConfigError: the class map belongs to other clusters.
    """

    def __init__(self, dataset: LabelledDataset, class_map: ClassMap) -> None:
        targets = class_map.targets(cluster_ids(dataset.classes))
        self.dataset = dataset
        self.classes = class_map.names
        self.fit_rule, self.scaling = dataset.fit_rule, dataset.scaling
        self._table = torch.full((256,), IGNORE, dtype=torch.uint8)
        for value, target in enumerate(targets):
            self._table[value] = IGNORE if target == IGNORED else target

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        sample = self.dataset[index]
        return replace(sample, mask=self._table[sample.mask.long()])

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """See `LabelledDataset.batch`."""
        pixels, masks = self.dataset.batch(indices)
        return pixels, self._table[masks.long()]

    def batch_weights(self, indices: Sequence[int]) -> Tensor | None:
        """See `LabelledDataset.batch_weights`."""
        return self.dataset.batch_weights(indices)
