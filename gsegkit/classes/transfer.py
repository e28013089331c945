"""Class names handed from one fit to another: a cluster gets the class that it mostly covers on generated images."""

from __future__ import annotations

import numpy as np

from gsegkit.classes.class_map import ClassMap, parse_class_map
from gsegkit.classes.greedy import contingency
from gsegkit.classes.named import Named, clusters_of
from gsegkit.context import RunContext
from gsegkit.interfaces import Generator, MaskExtractor
from gsegkit.types import IGNORE

NUM_IMAGES = 64  # that are compared


def transferred(named: Named, extractor: MaskExtractor, generator: Generator, ctx: RunContext) -> ClassMap:
    """Names for the clusters of a fit, from those of another fit to the same generator. No label is used.

    Each cluster becomes part of the class that covers most of its pixels on 64 generated images. A cluster that is on
    none of them is ignored; a class that gets no cluster is left out, with a warning.

    Args:
        named: the fit whose clusters have names.
        extractor: the other fit, at the cut to be named.
        generator: of both.
        ctx: progress and seed.

    Raises:
        ConfigError: all clusters are mostly one class.
    """
    ids, wanted = clusters_of(extractor), (*named.features(generator.info), *extractor.features(generator.info))
    table = np.zeros((len(named.classes), len(ids)), dtype=np.int64)
    for seeds in ctx.track(list(ctx.batches("preview", NUM_IMAGES)), "comparing clusters with named ones"):
        batch = generator.sample(seeds, features=tuple(dict.fromkeys(wanted)))
        says = named.extract(batch, generator)
        truth = says.probs.argmax(dim=1)
        if says.ignore is not None:
            truth[says.ignore] = IGNORE
        clusters = extractor.extract(batch, generator).probs.argmax(dim=1)
        table += contingency(truth.cpu(), clusters.cpu(), len(named.classes), len(ids))
    best = table.argmax(axis=0)
    members: list[list[int]] = [[] for _ in named.classes]
    for place, cluster in enumerate(ids):
        if table[:, place].any():
            members[int(best[place])].append(cluster)
    found = [entry for entry, own in zip(named.class_map.classes, members, strict=True) if own]
    for entry in named.class_map.classes:
        if entry not in found:
            ctx.warn(f"no cluster of this fit is mostly '{entry.name}': the class is left out")
    values = {
        "extractor": extractor.fingerprint(),
        "cut": len(ids) if extractor.levels else None,
        "classes": [
            {"name": entry.name, "colour": entry.colour, "clusters": own}
            for entry, own in zip(named.class_map.classes, members, strict=True)
            if own
        ],
        "ignore": [cluster for place, cluster in enumerate(ids) if not table[:, place].any()],
    }
    return parse_class_map(values, "the names of the other fit")
