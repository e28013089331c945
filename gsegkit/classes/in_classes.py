"""A segmenter of many clusters under class names: what it says of a class's clusters is added; nothing is trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gsegkit.classes.class_map import IGNORED, ClassMap
from gsegkit.classes.match import predicted_clusters
from gsegkit.classes.named import KEEP, check_fits, clusters_of
from gsegkit.errors import ConfigError
from gsegkit.interfaces import MaskExtractor, Segmenter
from gsegkit.refining import Predictor, Refine


def at_present_cut(names: ClassMap, classes: Sequence[str], extractor: MaskExtractor) -> ClassMap:
    """Names for a coarser cut, given to the clusters of the extractor's present cut that they are made of.

    Args:
        names: for the present cut, or a coarser one.
        classes: the clusters of the present cut, as segmenter or pairs call them.
        extractor: fitted.

    Raises:
        ConfigError: other classes, names of another fit, or those of a finer cut.
    """
    check_fits(names, extractor)
    found = predicted_clusters(classes, extractor, None, names.cut)
    targets = names.targets([cluster for (cluster,) in found.clusters])
    members: dict[int, list[int]] = {}
    for cluster, group in zip(clusters_of(extractor), found.group, strict=True):
        members.setdefault(targets[group], []).append(cluster)
    rows = [entry.model_copy(update={"clusters": tuple(members[i])}) for i, entry in enumerate(names.classes)]
    cut = len(found.group) if extractor.levels else None
    return names.model_copy(update={"cut": cut, "classes": tuple(rows), "ignore": tuple(members.get(IGNORED, ()))})


class InClasses(Segmenter):
    """Adds the probabilities of the clusters of each class.

    Probabilities of ignored clusters are left out, and those of the classes are scaled to 1.

    Args:
        segmenter: fitted; its classes are the extractor's clusters.
        extractor: of the same run.
        names: for the present cut of the extractor, or a coarser one.

    Raises:
        ConfigError: the segmenter's classes are no clusters of this extractor, the names were made for another fit,
            or they belong to a finer cut.
    """

    class_of: Tensor

    def __init__(self, segmenter: Segmenter, extractor: MaskExtractor, names: ClassMap) -> None:
        super().__init__(segmenter.config)
        names = at_present_cut(names, segmenter.classes, extractor)
        targets = names.targets(clusters_of(extractor))
        self.segmenter = segmenter
        self.classes = names.names
        self.train_size, self.fit_rule, self.scaling = segmenter.train_size, segmenter.fit_rule, segmenter.scaling
        self.labels_used = segmenter.labels_used
        # stored, so that two sets of names are two segmenters
        self.register_buffer("class_of", torch.tensor(targets))

    def fit(self, dataset: Any, ctx: Any, *, val: Any = None) -> None:
        """Refused: it has nothing to learn."""
        raise ConfigError("a segmenter under class names cannot be trained", "train one on pairs with those names")

    @property
    def members(self) -> list[list[int]]:
        """For each class those of the segmenter's."""
        chosen: list[int] = self.class_of.tolist()
        return [[i for i, target in enumerate(chosen) if target == index] for index in range(len(self.classes))]

    def logits(self, images: Tensor) -> Tensor:
        """See `Segmenter.logits`; softmax of them is the sum of the probabilities of a class's clusters."""
        fine = self.segmenter.logits(images)
        return torch.stack([fine[:, members].logsumexp(dim=1) for members in self.members], dim=1)

    @property
    def one_view(self) -> bool:
        """See `Segmenter.one_view`."""
        return self.segmenter.one_view

    def probs(self, pixels: Tensor, refine: Refine = ()) -> Tensor:
        """See `Segmenter.probs`."""
        if refine:
            return Predictor(self, refine)(pixels)
        if self.one_view:
            return super().probs(pixels)
        fine = self.segmenter.probs(pixels)
        found = torch.stack([fine[:, members].sum(dim=1) for members in self.members], dim=1)
        total = found.sum(dim=1, keepdim=True)
        return torch.where(total > KEEP, found / total.clamp(min=KEEP), 1 / len(self.classes))
