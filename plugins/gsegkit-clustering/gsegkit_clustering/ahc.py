"""Extractor `ahc`: agglomerative hierarchical clustering of a generator's pixels, and a linear classifier for each cut.

As the baseline of Xu, Zhang and Hu, KLiSH, Table IV: scikit-learn's tree of few pixels. A tree does not
classify a pixel that was not in it, so a linear softmax classifier learns each cut and is used on all other pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import AgglomerativeClustering
from torch import Tensor

from gsegkit.clustering.extractor import ClusterExtractor, Clustering, Partition, check_count
from gsegkit.clustering.points import Points, map_size, select_layers
from gsegkit.context import SMOKE_SAMPLES, RunContext
from gsegkit.dataset import UnlabelledImages
from gsegkit.errors import ConfigError, DataError
from gsegkit.interfaces import Generator
from gsegkit_clustering.config import AhcConfig
from gsegkit_clustering.kmeans import mean_length
from gsegkit_clustering.points import as_float32
from gsegkit_clustering.softmax import Softmax, adam, class_means

LINKAGES = {
    "ward": {"linkage": "ward"},
    "arccos": {"linkage": "average", "metric": "cosine"},  # of unit vectors; called arccos in the paper
    "euclidean": {"linkage": "average", "metric": "euclidean"},
}
TOLERANCE = 1e-5  # measured: a loss at most 0.15 % above the optimum, 99.9 % of the labels the same


class AhcExtractor(ClusterExtractor):
    """Agglomerative clustering. Every number of clusters from 2 to `max_levels` is a level of the tree."""

    config: AhcConfig

    def fit(self, generator: Generator, ctx: RunContext, *, images: UnlabelledImages | None = None) -> None:
        """See `ClusterExtractor.fit`; refuses before anything is read when the distances would not fit."""
        size = map_size(generator.info, self.config.resolution)
        per_image = min(self.config.pixels_per_image or size[0] * size[1], size[0] * size[1])
        num_images = ctx.limit(self.config.num_images, SMOKE_SAMPLES)
        layers = select_layers(generator.info, self.config)
        dim = sum(generator.info.feature(name).channels for name in layers)
        self._check_memory(num_images, per_image, dim)
        super().fit(generator, ctx, images=images)

    def cluster(self, points: Points, ctx: RunContext) -> Clustering:
        """Grow the tree, cut it, and learn each cut."""
        check_count(points, self.config.k)
        by_angle = self.config.metric == "arccos"
        x = as_float32(points, by_angle, self.config.memory_mib)
        ctx.info(f"agglomerative clustering of {len(x):,} points")
        merges = grow(x.cpu().numpy(), self.config.metric)
        tree = Cuts.of(merges, min(self.config.max_levels, len(x)))
        leaf = torch.from_numpy(tree.leaf).to(x.device)
        weight, bias, agreement = self._learn(x, leaf, tree, ctx)
        if by_angle:  # x has length 1 here and another there: without a bias the label is the same
            weight = weight / mean_length(points.x)
        levels, row = {}, 0
        for k, ids in tree.ids.items():
            levels[k] = Partition(ids, tuple(range(row, row + k)), tree.leaves[k], {"agreement": agreement[k]})
            row += k
        facts = {"metric": self.config.metric, "points": len(x), "optimizer": self.config.optimizer}
        return Clustering(leaf, levels, weight, bias, scale=dict.fromkeys(levels, 1.0), facts=facts)

    def _learn(self, x: Tensor, leaf: Tensor, tree: Cuts, ctx: RunContext) -> tuple[Tensor, Tensor, dict[int, float]]:
        """Classifiers of all levels, one below the other: [R, D], [R]; and the share of labels that each repeats.

        A level starts from the one before it, whose split cluster gives its weights to both parts: half the work of
        the published start from class means.
        """
        with_bias = self.config.metric != "arccos"
        # differs from the paper: points are scaled to mean length 1, so that `decay` means the same for every generator
        exact = self.config.optimizer == "lbfgs"
        length = x.norm(dim=1).mean() if exact else x.new_ones(())
        if not bool(length > 0):
            raise DataError("all features are zero", "the generator's weights are damaged, or other layers are needed")
        x = x / length
        softmax = Softmax(x, self.config.decay, with_bias, TOLERANCE) if exact else None
        found: list[Tensor] = []
        agreement = {}
        for k in ctx.track(list(tree.ids), "learning the cuts"):
            labels = torch.tensor(tree.leaves[k], device=x.device)[leaf]
            if softmax is None:
                theta = adam(x, labels, class_means(x, labels, k, with_bias), self.config.decay, with_bias)
            else:
                start = found[-1][tree.parents(k)] if found else class_means(x, labels, k, with_bias)
                theta = softmax.fit(labels, start)
            right = torch.addmm(theta[:, -1], x, theta[:, :-1].T).argmax(dim=1) == labels
            agreement[k] = round(float(right.float().mean()), 4)
            found.append(theta)
        rows = torch.cat(found)
        return rows[:, :-1] / length, rows[:, -1].contiguous(), agreement

    def _check_memory(self, num_images: int, per_image: int, dim: int) -> None:
        count, limit = num_images * per_image, self.config.memory_mib << 20
        if tree_bytes(count, dim) <= limit:
            return
        fitting = next((n for n in range(per_image, 0, -1) if tree_bytes(num_images * n, dim) <= limit), 0)
        remedies = [f"lower pixels_per_image to {fitting}"] if fitting else ["lower num_images"]
        raise ConfigError(
            f"a tree of {count:,} points needs {tree_bytes(count, dim) / 2**20:,.0f} MiB for the distances of all "
            f"pairs, memory_mib is {self.config.memory_mib}",
            f"{remedies[0]}, or raise memory_mib",
        )


def tree_bytes(count: int, dim: int) -> int:
    """Memory of `grow`: SciPy holds every pair's distance twice as float64, and the points once more as float64."""
    return 8 * count * (count - 1) + 12 * count * dim


def grow(x: NDArray[np.float32], metric: str) -> NDArray[np.int64]:
    """The merges of [N, D] points, lowest first: [N-1, 2]; row i makes node N + i of two nodes."""
    if len(x) == 1:
        return np.zeros((0, 2), dtype=np.int64)
    tree = AgglomerativeClustering(n_clusters=2, compute_full_tree=True, **LINKAGES[metric]).fit(x)
    return np.asarray(tree.children_, dtype=np.int64)


@dataclass(frozen=True)
class Cuts:
    """The upper end of a tree.

    Clusters are numbered in the order in which splitting the root makes them, the larger part first: the root is 0,
    the two clusters of the first cut 1 and 2, and a cluster keeps its number until it is split.

    Attributes:
        leaf: [N] int64, cluster of the finest cut, as position in its ids.
        ids: number of clusters -> their ids, rising number of clusters.
        leaves: number of clusters -> for each cluster of the finest cut its position in `ids`.
        parent: cluster id -> id of the cluster that it was split from.
    """

    leaf: NDArray[np.int64]
    ids: dict[int, tuple[int, ...]]
    leaves: dict[int, tuple[int, ...]]
    parent: dict[int, int]

    @staticmethod
    def of(merges: NDArray[np.int64], finest: int) -> Cuts:
        """Undo merges, last one first, until there are `finest` clusters."""
        n = len(merges) + 1
        sizes = np.ones(2 * n - 1, dtype=np.int64)
        for i, (a, b) in enumerate(merges):
            sizes[n + i] = sizes[a] + sizes[b]
        name = {2 * n - 2: 0}
        parent: dict[int, int] = {}
        ids: dict[int, tuple[int, ...]] = {}
        alive = [2 * n - 2]
        for k in range(2, finest + 1):
            node = max(alive)  # nodes are numbered in the order of the merges
            parts = sorted(merges[node - n].tolist(), key=lambda part: (-sizes[part], part))
            for part in parts:
                name[part] = len(name)
                parent[name[part]] = name[node]
            at = alive.index(node)
            alive[at : at + 1] = parts
            ids[k] = tuple(name[node] for node in alive)
        leaves = {k: tuple(_place(cluster, level, parent) for cluster in ids[finest]) for k, level in ids.items()}
        return Cuts(_members(merges, alive), ids, leaves, parent)

    def parents(self, k: int) -> list[int]:
        """For each cluster of the cut into k its own, or its parent's, position in the cut into k - 1."""
        above = self.ids[k - 1]
        return [_place(cluster, above, self.parent) for cluster in self.ids[k]]


def _place(cluster: int, level: tuple[int, ...], parent: dict[int, int]) -> int:
    while cluster not in level:
        cluster = parent[cluster]
    return level.index(cluster)


def _members(merges: NDArray[np.int64], nodes: list[int]) -> NDArray[np.int64]:
    """For each point the position in `nodes` of the node above it, [N]."""
    n = len(merges) + 1
    above = np.full(2 * n - 1, -1, dtype=np.int64)
    above[nodes] = np.arange(len(nodes))
    for i in range(len(merges) - 1, -1, -1):
        if above[n + i] >= 0:
            above[merges[i]] = above[n + i]
    return above[:n]
