"""Extractor `kasp`: k-means-based approximate spectral clustering (Yan, Huang and Jordan 2009).

As the baseline of Xu, Zhang and Hu, KLiSH, Table IV: k-means into 100 clusters, spectral clustering of their centres.
A new pixel takes the cluster of its nearest centre.
"""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components
from sklearn.cluster import spectral_clustering
from sklearn.neighbors import kneighbors_graph

from gsegkit.clustering.extractor import (
    ClusterExtractor,
    Clustering,
    Partition,
    build_kmeans,
    centre_classifiers,
    check_count,
)
from gsegkit.clustering.points import Points
from gsegkit.context import RunContext
from gsegkit.seeds import child_seed
from gsegkit_clustering.config import KaspConfig
from gsegkit_clustering.kmeans import mean_squared_distance, precision
from gsegkit_clustering.points import as_float32


class KaspExtractor(ClusterExtractor):
    """KASP. Every number of clusters below that of the centres is a level; they are not nested.

    A cluster's id is that of its set of centres: where two levels have a cluster in common, it has the same id.
    """

    config: KaspConfig

    def cluster(self, points: Points, ctx: RunContext) -> Clustering:
        """Group the centres once for each number of clusters."""
        k0 = self.config.k0
        check_count(points, k0)
        x = as_float32(points, False, self.config.memory_mib)
        backend = build_kmeans(self.config.kmeans)
        ctx.info(f"k-means of {len(x):,} points into {k0} centres")
        centres, leaf = backend.fit(x, k0, ctx.seed)
        graph = neighbour_graph(centres.double().cpu().numpy(), self.config.num_neighbours)
        names: dict[frozenset[int], int] = {}
        levels = {}
        for k in ctx.track(range(2, k0), "spectral clustering of the centres"):
            groups, rule = group_centres(graph, k, child_seed(ctx.seed, "spectral", k) % 2**32)
            members = [frozenset(np.flatnonzero(groups == i).tolist()) for i in range(k)]
            ids = tuple(names.setdefault(cluster, len(names)) for cluster in members)
            owners = tuple(int(group) for group in groups)
            levels[k] = Partition(ids, tuple(range(k0)), owners, {"assign_labels": rule}, owners)
        weight, bias = centre_classifiers(centres)
        distance = mean_squared_distance(x, centres, leaf)
        facts = {
            "device": backend.used_device,
            "mean_squared_distance": distance,
            # clusters below this number join pieces of the graph that nothing links
            "pieces_of_graph": int(connected_components(graph, directed=False)[0]),
        }
        return Clustering(leaf, levels, weight, bias, dict.fromkeys(levels, precision(distance, x)), facts)


def neighbour_graph(centres: NDArray[np.float64], num_neighbours: int) -> csr_matrix:
    """Symmetric affinity of the centres, [K0, K0]: 1 for neighbours of each other, 0.5 for one-sided ones.

    It is scikit-learn's affinity "nearest_neighbors", in which a centre is its own first neighbour.
    """
    graph = kneighbors_graph(centres, n_neighbors=num_neighbours, include_self=True)
    return csr_matrix(0.5 * (graph + graph.T))


def group_centres(graph: csr_matrix, k: int, seed: int) -> tuple[NDArray[np.int64], str]:
    """Spectral clustering of the graph: labels [K0] in 0 .. k-1, all of them used, and the rule that gave them.

    Rounding the eigenvectors by "discretize", as published, often leaves clusters empty (most k above 30
    with 100 centres).
    # differs from the paper: then the pivoted QR of "cluster_qr" rounds them, so that k clusters are k clusters.
    """
    for rule in ("discretize", "cluster_qr", "kmeans"):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Graph is not fully connected")  # in the facts
            labels = spectral_clustering(graph, n_clusters=k, random_state=seed, assign_labels=rule)
        if len(np.unique(labels)) == k:
            break
    return labels.astype(np.int64), rule
