"""Clusters matched to true classes by a few annotated photographs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from gsegkit.classes.class_map import ClassMap, parse_class_map
from gsegkit.classes.greedy import contingency, greedy_targets
from gsegkit.classes.named import clusters_of
from gsegkit.context import RunContext
from gsegkit.dataset import LabelledDataset
from gsegkit.errors import ConfigError, DataError
from gsegkit.interfaces import MaskExtractor, Predict


def parents(extractor: MaskExtractor, fine: int, coarse: int) -> dict[int, int]:
    """For each cluster of a cut, the cluster of a coarser cut that it became part of.

    Raises:
        ConfigError: no such cuts, `coarse` is the finer one, or clusters are not merged from level to level.
    """
    levels = [k for k in reversed(extractor.levels) if coarse <= k <= fine]
    found = {cluster: cluster for cluster in extractor.level(fine).ids}
    target = set(extractor.level(coarse).ids)
    if coarse > fine:
        raise ConfigError(
            f"a cut into {coarse} clusters is finer than the one into {fine}",
            f"make pairs and segmenter with -o extractor.k={coarse} first",
        )
    for upper, lower in pairwise(levels):
        before, after = set(extractor.level(upper).ids), set(extractor.level(lower).ids)
        gone, new = before - after, after - before
        if len(new) != 1:
            raise ConfigError(
                f"the clusters of the cut into {lower} are not merged from those of the cut into {upper}",
                f"make pairs and segmenter with -o extractor.k={coarse} first",
            )
        found = {cluster: min(new) if parent in gone else parent for cluster, parent in found.items()}
    assert set(found.values()) == target
    return found


@dataclass(frozen=True)
class Predicted:
    """What the classes of a run's segmenter mean.

    Attributes:
        clusters: groups of clusters, each to be matched as one.
        group: for each predicted class the group that it belongs to.
        cut: the cut that the clusters are of; None without levels.
        ignore: clusters that no predicted class stands for.
    """

    clusters: tuple[tuple[int, ...], ...]
    group: tuple[int, ...]
    cut: int | None
    ignore: tuple[int, ...] = ()


def predicted_clusters(
    classes: Sequence[str], extractor: MaskExtractor, names: ClassMap | None = None, cut: int | None = None
) -> Predicted:
    """Find out which clusters a segmenter's classes are.

    Args:
        classes: the segmenter's.
        extractor: of the same run.
        names: the class names that the run was made with.
        cut: match the clusters of a coarser cut than the segmenter learnt; None = its own.

    Raises:
        ConfigError: classes of another origin, or a cut that cannot be made from the segmenter's classes.
    """
    if names is not None and tuple(classes) == names.names:
        if cut not in (None, names.cut):
            raise ConfigError("this run's classes already have names, so they cannot be cut", "omit the cut")
        groups = tuple(entry.clusters for entry in names.classes)
        return Predicted(groups, tuple(range(len(groups))), names.cut, names.ignore)
    if tuple(classes) != tuple(extractor.classes):
        raise ConfigError(
            f"the segmenter's classes ({', '.join(classes[:4])} ...) are not the clusters of this run's extractor",
            "finish the run first",
        )
    ids = clusters_of(extractor)
    kept = clusters_of(extractor, cut)  # refuses a cut without levels
    if not extractor.levels:
        return Predicted(tuple((cluster,) for cluster in ids), ids, None)
    coarse = len(kept)
    parent = parents(extractor, len(ids), coarse)
    return Predicted(tuple((cluster,) for cluster in kept), tuple(kept.index(parent[i]) for i in ids), coarse)


@dataclass(frozen=True)
class Match:
    """Clusters with the true classes that labels gave them.

    Attributes:
        extractor: fingerprint of the fit.
        cut: the cut that the clusters are of; None without levels.
        classes: true class -> its clusters, in the order of the true classes, those without a cluster left out.
        unmatched: true classes that no cluster went to.
        ignore: clusters that were ignored before.
        labels_used: names of the annotated images.
    """

    extractor: str
    cut: int | None
    classes: Mapping[str, tuple[int, ...]]
    unmatched: tuple[str, ...]
    ignore: tuple[int, ...]
    labels_used: tuple[str, ...]

    def class_map(self) -> ClassMap:
        """The class names to store; ConfigError when all clusters went to one class."""
        if len(self.classes) < 2:
            only = next(iter(self.classes))
            raise ConfigError(
                f"all clusters were matched to '{only}': there is nothing to distinguish",
                "try a finer cut, or inspect the clusters with gsegkit name RUN",
            )
        return parse_class_map(
            {
                "extractor": self.extractor,
                "cut": self.cut,
                "classes": [{"name": name, "clusters": list(ids)} for name, ids in self.classes.items()],
                "ignore": list(self.ignore),
                "labels_used": list(self.labels_used),
            },
            "the matched classes",
        )


def match_clusters(
    predict: Predict, predicted: Predicted, extractor: MaskExtractor, dataset: LabelledDataset, ctx: RunContext
) -> Match:
    """Match clusters to the true classes of a few annotated images by KLiSH's greedy rule.

    Args:
        predict: the run's segmenter.
        predicted: what its classes are.
        extractor: of the same run.
        dataset: all of it is used.
        ctx: progress and stop.

    Raises:
        DataError: no image has a labelled pixel.
    """
    num_true, tables, used = len(dataset.classes), [], []
    for index in ctx.track(range(len(dataset)), "matching"):
        sample = dataset[index]
        labels = predict(sample.pixels[None])[0].argmax(dim=0).cpu()
        fine = contingency(sample.mask, labels, num_true, len(predicted.group))
        table = np.zeros((num_true, len(predicted.clusters)), dtype=np.int64)
        for column, group in enumerate(predicted.group):
            table[:, group] += fine[:, column]
        tables.append(table)
        used.append(sample.name)
    stacked = np.stack(tables)
    if not stacked.any():
        raise DataError("none of the images has a labelled pixel: every mask is 255", "255 means ignore")
    targets = greedy_targets(stacked)
    found = {
        name: tuple(c for ids, t in zip(predicted.clusters, targets, strict=True) if t == value for c in ids)
        for value, name in enumerate(dataset.classes)
    }
    return Match(
        extractor=extractor.fingerprint(),
        cut=predicted.cut,
        classes={name: ids for name, ids in found.items() if ids},
        unmatched=tuple(name for name, ids in found.items() if not ids),
        ignore=predicted.ignore,
        labels_used=tuple(used),
    )
