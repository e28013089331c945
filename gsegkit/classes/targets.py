"""Class maps that nobody wrote: a coarse cut's parts, or foreground against background."""

from __future__ import annotations

from gsegkit.classes.class_map import ClassMap, parse_class_map
from gsegkit.classes.named import clusters_of
from gsegkit.interfaces import MaskExtractor

CLUSTERS, PARTS, FOREGROUND = "clusters", "parts", "foreground"
MOST_PARTS = 8  # more are not seen at a glance


def coarse_cut(extractor: MaskExtractor) -> int:
    """Number of clusters of the cut for showing.

    An extractor may say which one (fact `coarse`). Otherwise it is, among the levels of at most 8 clusters, the one
    whose smallest cluster is largest, of 3 or more where there are such.
    """
    own = int(extractor.facts().get("coarse") or 0)
    if own:
        return own
    few = [k for k in extractor.levels if k <= MOST_PARTS] or [min(extractor.levels)]
    several = [k for k in few if k > 2] or few
    return max(several, key=lambda k: min(extractor.level(k).shares))


def automatic_classes(extractor: MaskExtractor, target: str) -> ClassMap | None:
    """The classes that a target of a run stands for.

    Args:
        extractor: fitted. The first cluster of each of its levels covers most of the images' edges: the background.
        target: `clusters` = the extractor's own classes; `parts` = background and the other clusters of the coarse
            cut; `foreground` = background and everything else.

    Returns:
        None where the extractor's classes are what the target asks for.
    """
    if target == CLUSTERS or (target == PARTS and not extractor.levels):
        return None
    cut = coarse_cut(extractor) if extractor.levels else None
    first, *others = clusters_of(extractor, cut)
    if not others or (cut is None and len(others) == 1):
        return None
    parts = [{"name": "background", "clusters": [first]}]
    if target == FOREGROUND:
        parts.append({"name": "foreground", "clusters": others})
    else:
        parts += [{"name": f"part {i}", "clusters": [cluster]} for i, cluster in enumerate(others, 1)]
    return parse_class_map({"extractor": extractor.fingerprint(), "cut": cut, "classes": parts}, f"target {target}")
