"""Common ground of extractors that cluster a generator's pixels and read clusters out linearly.

A subclass says how points become clusters; reading features, cutting a hierarchy, class order, probabilities, storing
and loading are here, so that methods are compared on equal terms.
"""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from gsegkit.clustering.blocks import AT_ONCE, blocks
from gsegkit.clustering.config import ClusterConfig, choose_backend
from gsegkit.clustering.points import Points, collect_points, linear_scores, points_file, select_layers
from gsegkit.clustering.position import fold
from gsegkit.context import SMOKE_SAMPLES, RunContext
from gsegkit.dataset import UnlabelledImages
from gsegkit.distributed.team import ALONE, Team
from gsegkit.errors import DataError
from gsegkit.interfaces import Generator, KMeans, Level, MaskExtractor
from gsegkit.plugins import installed
from gsegkit.types import GeneratedBatch, GeneratorInfo, MaskBatch

BLOCK = 1 << 24  # numbers in the largest temporary of a pass over the points


@dataclass(frozen=True)
class Partition:
    """The points' clustering at one number of clusters.

    Attributes:
        ids: names of the clusters: a cluster keeps its id over all levels on which it exists.
        rows: for each its classifier, a row of `Clustering.weight`.
        leaves: for each leaf its position in `ids`.
        facts: JSON-ready numbers of this level (lowest IoU ...).
        owners: where a cluster has several classifiers, for each of `rows` the position in `ids` of its cluster, whose
            score is the highest of its rows; () = one row a cluster.
    """

    ids: tuple[int, ...]
    rows: tuple[int, ...]
    leaves: tuple[int, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)
    owners: tuple[int, ...] = ()


@dataclass(frozen=True)
class Clustering:
    """What a method found.

    Attributes:
        leaf: [N] int64: the leaf that each point lies in; leaves are the clusters of the finest level.
        levels: number of clusters -> clustering; one entry for a method without a hierarchy.
        weight: [R, D] float32, bias: [R] float32: linear classifiers; the highest score wins.
        scale: number of clusters -> steepness of the softmax over scores; missing ones are fitted to the points.
        facts: JSON-ready numbers of the whole fit.
    """

    leaf: Tensor
    levels: Mapping[int, Partition]
    weight: Tensor
    bias: Tensor
    scale: Mapping[int, float] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


class ClusterExtractor(MaskExtractor):
    """Clusters of pixel features, each read out by a linear classifier.

    Class 0 is the cluster that covers most of the images' edges, which is the background wherever there is one; the
    others follow by size. Probabilities are a softmax over the classifiers' scores. Every level of the hierarchy is
    stored, so `cut` needs no refit.

    Attributes:
        k: number of clusters at the present cut.
    """

    config: ClusterConfig
    weight: Tensor
    bias: Tensor
    divided = True  # the reading of features
    clusters_together: ClassVar[bool] = False  # `cluster` divides its work among the processes of `ctx.team` too

    def __init__(self, config: ClusterConfig) -> None:
        super().__init__(config)
        self.classes = ()
        self.k = 0
        self.layers: tuple[str, ...] = ()
        self.fit_facts: dict[str, Any] = {}
        self._table: dict[int, dict[str, Any]] = {}  # number of clusters -> ids, rows, owners, scale, shares, facts
        self.register_buffer("weight", torch.zeros(0, 0))
        self.register_buffer("bias", torch.zeros(0))

    @abstractmethod
    def cluster(self, points: Points, ctx: RunContext) -> Clustering:
        """Cluster the points; the only thing a method must say."""

    def memory_per_point(self) -> int:
        """Bytes that `cluster` needs for each point beside its features."""
        return 0

    def default_cut(self, found: Clustering) -> int:
        """Number of clusters when the user gives none: the finest."""
        return max(found.levels)

    # ---- the extractor's own interface ---------------------------------------------------------------------------

    def features(self, info: GeneratorInfo) -> tuple[str, ...]:
        """The paper's rule, or the layers given by option; those of the fit, once there is one."""
        return self.layers or select_layers(info, self.config)

    def fit(self, generator: Generator, ctx: RunContext, *, images: UnlabelledImages | None = None) -> None:
        """Cluster pixels of generated images; real images are not used.

        Raises:
            CapabilityError: the generator has no features.
            ConfigError: the points do not fit into memory_mib, or `k` is not among the levels found.
            DataError: features with NaN, or fewer points than clusters.
        """
        select_layers(generator.info, self.config)
        try:
            points = collect_points(generator, self.config, ctx, self.memory_per_point())
            self._tell_size(points, ctx)
            if not (ctx.team.first or self.clusters_together):
                return
            found = self.cluster(points, ctx if self.clusters_together else ctx.alone())
            if not ctx.team.first:
                return
            self._store(found, points)
        finally:
            points_file(ctx).unlink(missing_ok=True)
        self.cut(self.config.k if self.config.k is not None else self.default_cut(found))
        ctx.info(f"{self.k} clusters, {len(points):,} pixels of {self.weight.shape[1]} features")

    def extract(self, batch: GeneratedBatch, generator: Generator) -> MaskBatch:
        """Class probabilities at the images' size; scores `coverage` (not class 0) and `confidence` (mean maximum)."""
        size = (int(batch.images.shape[2]), int(batch.images.shape[3]))
        probs = self.probs(batch.features, size)
        coverage = 1 - probs[:, 0].mean(dim=(1, 2))
        return MaskBatch(probs, {"coverage": coverage, "confidence": probs.amax(dim=1).mean(dim=(1, 2))})

    @property
    def coarse(self) -> int:
        """A level for showing: the finest of at most `coarse_max` clusters, 0 where no level has so few.

        With `coarse_share` the finest of those in which no cluster covers less than that share of the pixels: such a
        cluster may be no part that a person would draw, but leaving it out often leaves two or three clusters. `cut`
        takes the extractor there; its class 0 is the background by the border rule, as at every level.
        """
        few = [k for k in self.levels if k <= self.config.coarse_max]
        whole = [k for k in few if min(self.level(k).shares) >= self.config.coarse_share]
        return max(whole, default=min(few, default=0))

    def _tell_size(self, points: Points, ctx: RunContext) -> None:
        """In a smoke run: how much larger the whole run's points are."""
        times = self.config.num_images / ctx.limit(self.config.num_images, SMOKE_SAMPLES)
        if times > 1:
            held, own = round((times - 1) * points.x.nbytes), round(times * len(points)) * self.memory_per_point()
            on_disk = self.config.storage == "disk"
            ctx.progress.larger(times, own + (0 if on_disk else held), held if on_disk else 0)

    # ---- the hierarchy -------------------------------------------------------------------------------------------

    def level(self, k: int) -> Level:
        """Ids, shares and facts of a level, see `MaskExtractor.level`."""
        entry = self.entry(k)
        return Level(tuple(entry["ids"]), tuple(entry["shares"]), entry["facts"])

    def cut(self, k: int) -> None:
        """Use another number of clusters; the classes become `cluster-ID` in class order."""
        self.classes = tuple(f"cluster-{name}" for name in self.level(k).ids)
        self.k = k

    def masks(self, batch: GeneratedBatch, generator: Generator, size: tuple[int, int]) -> Tensor:
        """See `MaskExtractor.masks`; the classifiers are evaluated at that size."""
        with torch.no_grad():
            return self.scores(batch.features, size).argmax(dim=1)

    def scores(self, features: Mapping[str, Tensor], size: tuple[int, int], k: int | None = None) -> Tensor:
        """Scores of the clusters of a level (the present cut by default) at a size: [N, K, *size] float32."""
        entry = self.entry(k or self.k)
        rows, owners = list(entry["rows"]), entry.get("owners", [])
        found = linear_scores(features, self.layers, self.weight[rows], self.bias[rows], size)
        return best_of_owners(found, owners, len(entry["ids"])) if owners else found

    def probs(self, features: Mapping[str, Tensor], size: tuple[int, int], k: int | None = None) -> Tensor:
        """Probabilities of the clusters of a level, [N, K, *size] float32, sums to 1 over K."""
        scale = float(self.entry(k or self.k)["scale"])
        return (self.scores(features, size, k) * scale).softmax(dim=1)

    def entry(self, k: int) -> Mapping[str, Any]:
        """A level as it is stored: `ids` and `shares` in class order, `rows`, `owners`, `scale`, `facts`."""
        if k not in self._table:
            raise self.no_level(k)
        return self._table[k]

    # ---- storing -------------------------------------------------------------------------------------------------

    def facts(self) -> dict[str, Any]:
        """Layers, levels and the cut."""
        return {
            "k": self.k,
            "layers": list(self.layers),
            "channels": self.weight.shape[1],
            "classifiers": self.weight.shape[0],
            "coarse": self.coarse,
            "fit": self.fit_facts,
            "levels": {str(k): entry for k, entry in self._table.items()},
        }

    def restore(self, facts: Mapping[str, Any]) -> None:
        """Take back what `facts()` gave."""
        self.layers = tuple(facts["layers"])
        self.fit_facts = dict(facts["fit"])
        self._set_table({int(k): dict(entry) for k, entry in facts["levels"].items()})
        self.weight = torch.zeros(int(facts["classifiers"]), int(facts["channels"]), device=self.weight.device)
        self.bias = torch.zeros(int(facts["classifiers"]), device=self.bias.device)
        self.cut(int(facts["k"]))

    def _store(self, found: Clustering, points: Points) -> None:
        self.layers = points.layers
        self.fit_facts = dict(found.facts)
        self.weight, self.bias = found.weight.float().contiguous(), found.bias.float().contiguous()
        if points.position is not None:  # points were projected; generated features will not be
            self.weight = fold(self.weight, points.position)
            self.fit_facts["position_rank"] = points.position.shape[1]
        leaf = found.leaf.cpu()
        num_leaves = len(next(iter(found.levels.values())).leaves)
        sizes = torch.bincount(leaf, minlength=num_leaves)
        border = torch.bincount(leaf[points.at_border], minlength=num_leaves)
        chosen = torch.randperm(len(leaf), generator=torch.Generator().manual_seed(0))[: self.config.scale_points]
        scores = points.x[chosen.to(points.x.device)].float() @ self.weight.T + self.bias
        table = {}
        for k, level in sorted(found.levels.items()):
            leaves = torch.tensor(level.leaves)
            share = torch.zeros(k, dtype=torch.int64).index_add_(0, leaves, sizes)
            edge = torch.zeros(k, dtype=torch.int64).index_add_(0, leaves, border)
            first = int(edge.argmax())
            order = sorted(range(k), key=lambda i: (i != first, -int(share[i]), level.ids[i]))
            scale = found.scale.get(k)
            if scale is None:
                own = scores[:, list(level.rows)]
                own = best_of_owners(own, level.owners, k) if level.owners else own
                scale = fit_scale(own, leaves[leaf[chosen]].to(scores.device), self.config.scale_range)
            table[k] = {
                "ids": [level.ids[i] for i in order],
                "rows": list(level.rows) if level.owners else [level.rows[i] for i in order],
                "owners": [order.index(owner) for owner in level.owners],
                "shares": [round(int(share[i]) / len(leaf), 6) for i in order],
                "scale": scale,
                "facts": dict(level.facts),
            }
        self._set_table(table)

    def _set_table(self, table: dict[int, dict[str, Any]]) -> None:
        self._table = table
        self.levels = tuple(sorted(table))


def best_of_owners(scores: Tensor, owners: Sequence[int], clusters: int) -> Tensor:
    """Highest score of each cluster's classifiers: [N, R, ...] -> [N, clusters, ...]; owners[r] is r's cluster."""
    own = torch.tensor(owners, device=scores.device)
    return torch.stack([scores[:, own == cluster].amax(dim=1) for cluster in range(clusters)], dim=1)


def fit_scale(scores: Tensor, labels: Tensor, limits: tuple[float, float]) -> float:
    """The steepness at which softmax(scale * scores) fits the labels best (least cross-entropy), within limits.

    Args:
        scores: [N, K] float32.
        labels: [N] int64.
        limits: lowest and highest.
    """
    right = scores.gather(1, labels[:, None]).squeeze(1)
    low, high = (torch.tensor(limit, dtype=torch.float64).log() for limit in limits)
    for _ in range(12):  # the loss is convex in the scale: halve the interval by the sign of its derivative
        middle = (low + high) / 2
        weights = (scores * float(middle.exp())).softmax(dim=1)
        slope = float(((weights * scores).sum(dim=1) - right).mean())
        low, high = (low, middle) if slope > 0 else (middle, high)
    return round(float(((low + high) / 2).exp()), 4)


def build_kmeans(name: str) -> KMeans:
    """The k-means backend of that name; `auto` takes faiss when its plugin and library are there, else the core's."""
    registry = installed()
    backend: KMeans = registry.build("kmeans", choose_backend(name, registry.available))
    return backend


def fit_kmeans(name: str, points: Tensor, k: int, seed: int, team: Team = ALONE) -> tuple[Tensor, Tensor]:
    """Centres and assignments by the k-means backend of that name, in all processes; see `KMeans.fit`."""
    backend = build_kmeans(name)
    if backend.divided:
        backend.team = team
        return backend.fit(points, k, seed)
    centres, labels = team.once(lambda: backend.fit(points, k, seed))
    return centres, labels


@contextlib.contextmanager
def one_step(ctx: RunContext, name: str, planned: int = 1) -> Iterator[None]:
    """A loop of one step, for work without smaller ones; `planned`: how many times longer the whole run's is."""
    ctx.progress.start(f"{ctx.folder.name}: {name}", 1, 0, planned)
    try:
        yield
        ctx.progress.advance(1, {})
    finally:
        ctx.progress.finish()


def assign(points: Tensor, weight: Tensor, bias: Tensor, team: Team = ALONE) -> Tensor:
    """Index of the highest linear score of each point: [N, D], [K, D], [K] -> [N] int64; in blocks."""

    def highest(rows: slice) -> tuple[Tensor]:
        return (torch.addmm(bias, points[rows].float(), weight.T).argmax(dim=1),)

    rows = blocks(len(points), BLOCK // max(weight.shape))
    return torch.cat([labels for (labels,) in team.map(highest, rows, AT_ONCE)])


def centre_classifiers(centres: Tensor) -> tuple[Tensor, Tensor]:
    """Linear classifiers whose highest score is the nearest centre: [K, D] -> weight [K, D], bias [K]."""
    return centres, -0.5 * centres.square().sum(dim=1)


def check_count(points: Points, clusters: int) -> None:
    """DataError when there are fewer points than clusters."""
    if len(points) < clusters:
        raise DataError(
            f"{len(points)} pixels cannot make {clusters} clusters",
            "raise num_images or pixels_per_image, or ask for fewer",
        )
