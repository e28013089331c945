"""Class maps that nobody wrote: a coarse cut's parts, or foreground against background."""

from __future__ import annotations

from gsegkit.classes.class_map import ClassMap, parse_class_map
from gsegkit.classes.named import clusters_of
from gsegkit.interfaces import MaskExtractor

CLUSTERS, PARTS, FOREGROUND = "clusters", "parts", "foreground"
MOST_PARTS = 8  # more are not seen at a glance
SMALLEST_PART = 0.01  # share of the pixels; smaller clusters are odd corners that merge last
MOST_IGNORED = 0.05  # share of the pixels that may lie in such clusters


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


def coarse_parts(extractor: MaskExtractor) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
    """The finest level with at most 8 clusters that are large enough to be parts, and few pixels in the others.

    Returns:
        Number of clusters of the level, the parts among them with the background first, and those that are too small.
    """
    chosen, found = coarse_cut(extractor), 0
    for k in extractor.levels:
        shares = extractor.level(k).shares
        large = [share for share in shares if share >= SMALLEST_PART]
        if 2 <= len(large) <= MOST_PARTS and 1 - sum(large) / sum(shares) <= MOST_IGNORED:
            chosen, found = k, len(large)
    level = extractor.level(chosen)
    large_enough = [share >= SMALLEST_PART or not found for share in level.shares]
    parts = tuple(i for place, i in enumerate(level.ids) if large_enough[place] or place == 0)
    return chosen, parts, tuple(i for i in level.ids if i not in parts)


def automatic_classes(extractor: MaskExtractor, target: str) -> ClassMap | None:
    """The classes that a target of a run stands for.

    Args:
        extractor: fitted. The first cluster of each of its levels covers most of the images' edges: the background.
        target: `clusters` = the extractor's own classes; `parts` = at most 8 large clusters, the others ignored,
            see `coarse_parts`; `foreground` = the background of the coarse cut, and everything else.

    Returns:
        None where the extractor's classes are what the target asks for.
    """
    if target == CLUSTERS or (target == PARTS and not extractor.levels):
        return None
    cut: int | None = None
    ignored: tuple[int, ...] = ()
    if target == PARTS:
        cut, (first, *others), ignored = coarse_parts(extractor)
    else:
        cut = coarse_cut(extractor) if extractor.levels else None  # finer ones divide the background
        first, *others = clusters_of(extractor, cut)
    if not others or (cut is None and len(others) == 1):
        return None
    parts = [{"name": "background", "clusters": [first]}]
    if target == FOREGROUND:
        parts.append({"name": "foreground", "clusters": others})
    else:
        parts += [{"name": f"part {i}", "clusters": [cluster]} for i, cluster in enumerate(others, 1)]
    values = {"extractor": extractor.fingerprint(), "cut": cut, "classes": parts, "ignore": list(ignored)}
    return parse_class_map(values, f"target {target}")
