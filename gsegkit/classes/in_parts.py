"""A segmenter of many clusters, looked at as a few parts."""

from __future__ import annotations

from collections.abc import Sequence

from gsegkit.classes.class_map import ClassMap
from gsegkit.classes.in_classes import InClasses
from gsegkit.classes.match import parents
from gsegkit.classes.targets import PARTS, automatic_classes, coarse_parts
from gsegkit.errors import ConfigError
from gsegkit.interfaces import MaskExtractor, Segmenter


def in_parts(segmenter: Segmenter, extractor: MaskExtractor) -> InClasses:
    """The segmenter with its clusters added up to those of the cut for showing; the fine ones stay to be named.

    Its classes are "background", "part 1", "part 2" ...

    Raises:
        ConfigError: the segmenter's classes are not the extractor's clusters, or they are the parts already.
    """
    names = parts_to_name(extractor)
    if names is None:
        raise ConfigError("the extractor's classes are its parts", "show them as they are")
    return InClasses(segmenter, extractor, names)


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
    """The parts as `in_parts` shows them, for a person to name: small clusters are in the part that they join.

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
