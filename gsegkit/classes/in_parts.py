"""A segmenter of many clusters, looked at as a few parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gsegkit.classes.class_map import ClassMap
from gsegkit.classes.match import parents, predicted_clusters
from gsegkit.classes.targets import PARTS, automatic_classes, coarse_parts
from gsegkit.errors import ConfigError
from gsegkit.interfaces import MaskExtractor, Segmenter

if TYPE_CHECKING:
    from torch import Tensor


class InParts:
    """Adds a segmenter's clusters up to those of the extractor's cut for showing; the fine ones stay to be named.

    Attributes:
        classes: "background", "part 1", "part 2" ...
    """

    def __init__(self, segmenter: Segmenter, extractor: MaskExtractor) -> None:
        """Raises ConfigError when the segmenter's classes are not the extractor's clusters."""
        cut, parts, small = coarse_parts(extractor)
        found = predicted_clusters(segmenter.classes, extractor, None, cut)
        part_of = {cluster: i for i, cluster in enumerate(parts)}
        part_of |= {cluster: part_of[home] for cluster, home in homes(extractor, cut, parts, small).items()}
        clusters = [cluster for (cluster,) in found.clusters]
        self._segmenter, self._part = segmenter, [part_of[clusters[group]] for group in found.group]
        self.classes = ("background", *(f"part {i}" for i in range(1, len(parts))))

    def probs(self, pixels: Tensor) -> Tensor:
        """Probabilities of the parts: [N, 3, H, W] uint8 -> [N, K, H, W] float32."""
        probs = self._segmenter.probs(pixels)
        parts = probs.new_zeros(len(probs), len(self.classes), *probs.shape[2:])
        return parts.index_add_(1, probs.new_tensor(self._part).long(), probs)


def homes(extractor: MaskExtractor, cut: int, parts: Sequence[int], small: Sequence[int]) -> dict[int, int]:
    """For each small cluster of a cut the part that it joins first; of several the largest, and the background last."""
    level = extractor.level(cut)
    shares = dict(zip(level.ids, level.shares, strict=True))
    found: dict[int, int] = {}
    for k in sorted((k for k in extractor.levels if k < cut), reverse=True):
        parent = parents(extractor, cut, k)
        for cluster in (c for c in small if c not in found):
            if joined := [part for part in parts if parent[part] == parent[cluster]]:
                found[cluster] = max(joined, key=shares.__getitem__)
    return {cluster: found.get(cluster, parts[0]) for cluster in small}


def parts_to_name(extractor: MaskExtractor) -> ClassMap | None:
    """The parts as `InParts` shows them, for a person to name: small clusters are in the part that they join.

    Returns:
        None where the extractor's classes are the parts.
    """
    names = automatic_classes(extractor, PARTS)
    if names is None or names.cut is None or not names.ignore:
        return names
    try:
        home = homes(extractor, names.cut, [entry.clusters[0] for entry in names.classes], names.ignore)
    except ConfigError:  # levels of a method that does not merge
        return names
    members: dict[int, tuple[int, ...]] = {}
    for cluster, part in home.items():
        members[part] = (*members.get(part, ()), cluster)
    classes = [
        entry.model_copy(update={"clusters": (*entry.clusters, *members.get(entry.clusters[0], ()))})
        for entry in names.classes
    ]
    return names.model_copy(update={"classes": tuple(classes), "ignore": ()})


def can_be_in_parts(segmenter: Segmenter, extractor: MaskExtractor) -> bool:
    """Whether its classes are clusters without names, more than the cut for showing has."""
    if tuple(segmenter.classes) != tuple(extractor.classes) or len(extractor.levels) < 2:
        return False
    return coarse_parts(extractor)[0] < len(extractor.classes)
