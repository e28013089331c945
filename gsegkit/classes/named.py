"""Names for clusters: whether they fit an extractor, and the extractor and its pairs under their new names."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from gsegkit.artifacts import state_hash
from gsegkit.classmap import IGNORED, ClassMap, cluster_ids, parse_class_map
from gsegkit.clusters import ClusterExtractor
from gsegkit.context import RunContext
from gsegkit.dataset import LabelledDataset, Sample, Subset
from gsegkit.errors import ConfigError, DataError
from gsegkit.interfaces import Generator, MaskExtractor, Predict
from gsegkit.matching import contingency, greedy_targets
from gsegkit.types import IGNORE, GeneratedBatch, GeneratorInfo, MaskBatch, Report

KEEP = 1e-6  # least share of a pixel's probability that must lie outside ignored clusters to be scaled to 1


def fingerprint(extractor: MaskExtractor) -> str:
    """16 hex digits: what the fit found. The present cut does not change it; another fit gives another one."""
    if isinstance(extractor, ClusterExtractor):
        found: object = [[k, list(extractor.level(k)["ids"])] for k in extractor.levels]
    else:
        found = list(extractor.classes)
    return hashlib.sha256(json.dumps([state_hash(extractor), found]).encode()).hexdigest()[:16]


def clusters_of(extractor: MaskExtractor, cut: int | None = None) -> tuple[int, ...]:
    """Ids of the clusters of a cut (None = the present one) in class order; class indices without levels.

    Raises:
        ConfigError: no such cut, or a cut of an extractor that has no levels.
    """
    if isinstance(extractor, ClusterExtractor):
        return tuple(extractor.level(cut if cut is not None else extractor.k)["ids"])
    if cut is not None:
        raise ConfigError(
            f"extractor {type(extractor).__name__} has no levels to cut", "leave out the cut: its clusters are classes"
        )
    return tuple(range(len(extractor.classes)))


def check_origin(class_map: ClassMap, own: str) -> None:
    """Raise ConfigError unless the class map was made for the fit with this fingerprint."""
    if class_map.extractor != own:
        raise ConfigError(
            f"the class names were made for another fit of the extractor ({class_map.extractor}, here it is {own})",
            "the same numbers mean other clusters there: name this fit's clusters with gsegkit name RUN",
        )


def check_fits(class_map: ClassMap, extractor: MaskExtractor) -> None:
    """Raise ConfigError unless the class map was made for this very fit and names all clusters of its cut."""
    check_origin(class_map, fingerprint(extractor))
    if class_map.cut is None and isinstance(extractor, ClusterExtractor):
        raise ConfigError("the class names do not say which cut they belong to", "add a line: cut: NUMBER OF CLUSTERS")
    class_map.targets(clusters_of(extractor, class_map.cut))


def parents(extractor: ClusterExtractor, fine: int, coarse: int) -> dict[int, int]:
    """For each cluster of a cut, the cluster of a coarser cut that it became part of.

    Raises:
        ConfigError: no such cuts, `coarse` is the finer one, or clusters are not merged from level to level.
    """
    levels = [k for k in reversed(extractor.levels) if coarse <= k <= fine]
    found = {cluster: cluster for cluster in extractor.level(fine)["ids"]}
    target = set(extractor.level(coarse)["ids"])
    if coarse > fine:
        raise ConfigError(
            f"a cut into {coarse} clusters is finer than the one into {fine}",
            f"make pairs and segmenter with -o extractor.k={coarse} first",
        )
    for upper, lower in pairwise(levels):
        before, after = set(extractor.level(upper)["ids"]), set(extractor.level(lower)["ids"])
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
            raise ConfigError("this run's classes are named already, so they cannot be cut", "leave out the cut")
        groups = tuple(entry.clusters for entry in names.classes)
        return Predicted(groups, tuple(range(len(groups))), names.cut, names.ignore)
    if tuple(classes) != tuple(extractor.classes):
        raise ConfigError(
            f"the segmenter's classes ({', '.join(classes[:4])} ...) are not the clusters of this run's extractor",
            "run it to its end first",
        )
    ids = clusters_of(extractor)
    if not isinstance(extractor, ClusterExtractor):
        clusters_of(extractor, cut)  # refuses a cut
        return Predicted(tuple((cluster,) for cluster in ids), ids, None)
    coarse = extractor.k if cut is None else cut
    kept = clusters_of(extractor, coarse)
    parent = parents(extractor, extractor.k, coarse)
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
                f"all clusters were matched to '{only}': there is nothing to tell apart",
                "try a finer cut, or look at the clusters with gsegkit name RUN",
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
        extractor=fingerprint(extractor),
        cut=predicted.cut,
        classes={name: ids for name, ids in found.items() if ids},
        unmatched=tuple(name for name, ids in found.items() if not ids),
        ignore=predicted.ignore,
        labels_used=tuple(used),
    )


class Named(MaskExtractor):
    """A fitted extractor under given class names: probabilities of a class's clusters are added.

    Ignored clusters compete like a class; where they win, the pixel is marked in `MaskBatch.ignore`, and the
    probabilities of the classes are scaled to 1 (uniform where hardly anything is left of them). The score `coverage`
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
        if isinstance(extractor, ClusterExtractor) and class_map.cut is not None:
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

    The clusters of the pairs are read from the names of their classes, see `gsegkit.classmap.cluster_ids`.

    Raises:
        ConfigError: the class map belongs to other clusters.
    """

    def __init__(self, dataset: LabelledDataset, class_map: ClassMap) -> None:
        targets = class_map.targets(cluster_ids(dataset.classes))
        self.dataset = dataset
        self.classes = class_map.names
        self.fit_rule = dataset.fit_rule
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


def leave_out(dataset: LabelledDataset, names: Sequence[str]) -> tuple[LabelledDataset, str]:
    """A data set without the images whose labels were used, and a note that says so ("" when no label was used).

    Raises:
        DataError: nothing would be left.
    """
    if not names:
        return dataset, ""
    used = set(names)
    kept = [index for index in range(len(dataset)) if dataset[index].name not in used]
    count = len(dataset) - len(kept)
    if not kept:
        raise DataError(
            f"all {count} images were used to name the classes: none is left to score", "match on fewer images"
        )
    what = f"{len(used)} annotated images were used to name the classes (labels_used)"
    if not count:
        return dataset, f"{what}; none of them is in this data set"
    return Subset(dataset, kept), f"{what}; {count} of this data set's {len(dataset)} images were left out for it"


def with_note(report: Report, note: str) -> Report:
    """The report with one more note; "" adds none."""
    return replace(report, notes=(*report.notes, note)) if note else report
