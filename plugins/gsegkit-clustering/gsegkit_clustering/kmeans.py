"""Extractor `kmeans`: k-means++ of a generator's pixels; a new pixel belongs to the nearest centre.

As the baseline of Xu, Zhang and Hu, KLiSH, Table IV, in both of their metrics.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from gsegkit.clustering.extractor import (
    ClusterExtractor,
    Clustering,
    Partition,
    assign,
    build_kmeans,
    centre_classifiers,
    check_count,
)
from gsegkit.clustering.points import Points
from gsegkit.context import RunContext
from gsegkit_clustering.config import KMeansClusterConfig
from gsegkit_clustering.points import as_float32

SPHERE_ITERATIONS = 20  # most Lloyd iterations by angle, after those of the backend
BLOCK = 8192  # points in one pass


class KMeansExtractor(ClusterExtractor):
    """K-means. Its one level is `k`; another number needs another fit."""

    config: KMeansClusterConfig

    def cluster(self, points: Points, ctx: RunContext) -> Clustering:
        """Cluster by the backend; classifiers are those of the nearest centre."""
        k, by_angle = self.config.k, self.config.metric == "arccos"
        check_count(points, k)
        x = as_float32(points, by_angle, self.config.memory_mib)
        backend = build_kmeans(self.config.kmeans)
        ctx.info(f"k-means of {len(x):,} points into {k} clusters")
        centres, leaf = backend.fit(x, k, ctx.seed)
        if by_angle:
            centres, leaf = on_sphere(x, centres)
            # the largest cosine wins, and it wins for every length of the point: raw features need no scaling
            weight, bias = centres, torch.zeros(k, device=centres.device)
        else:
            weight, bias = centre_classifiers(centres)
        distance = mean_squared_distance(x, centres, leaf)
        scale = concentration(distance, x.shape[1]) / mean_length(points.x) if by_angle else precision(distance, x)
        facts = {"metric": self.config.metric, "device": backend.used_device, "mean_squared_distance": distance}
        level = Partition(ids=tuple(range(k)), rows=tuple(range(k)), leaves=tuple(range(k)))
        return Clustering(leaf, {k: level}, weight, bias, scale={k: scale}, facts=facts)


def on_sphere(x: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
    """Lloyd's iterations by angle, from centres that a Euclidean k-means of unit points found.

    The two differ: Euclidean centres of spread clusters are short, which makes distances to them smaller. Scaled to
    length 1 they are compared by angle alone, as published. A cluster without points keeps its centre.

    Args:
        x: [N, D] float32 of length 1.
        centres: [K, D] float32.

    Returns:
        Centres [K, D] of length 1, and labels [N] int64 of the largest cosine.
    """
    zero = torch.zeros(len(centres), device=x.device)
    centres = F.normalize(centres, dim=1)
    labels = assign(x, centres, zero)
    for _ in range(SPHERE_ITERATIONS):
        sums = cluster_sums(x, labels, len(centres))
        moved = F.normalize(sums, dim=1).float()
        centres = torch.where(sums.any(dim=1, keepdim=True), moved, centres)
        before, labels = labels, assign(x, centres, zero)
        if torch.equal(before, labels):
            break
    return centres, labels


def precision(distance: float, x: Tensor) -> float:
    """1 / variance of the mixture of round Gaussians that k-means fits: the steepness of its class probabilities.

    exp(-|x - c|^2 / 2 v) over the clusters is a softmax of the nearest-centre scores, times 1 / v.

    Args:
        distance: mean squared distance of a point to its centre.
        x: [N, D], for D.
    """
    return x.shape[1] / distance if distance > 0 else 1.0


def concentration(distance: float, dim: int) -> float:
    """Kappa of the mixture of von Mises-Fisher distributions that k-means by angle fits (Banerjee et al. 2005).

    Args:
        distance: mean squared distance of unit points to their unit centres, 2 - 2 mean cosine.
        dim: D.
    """
    cosine = min(max(1 - distance / 2, 0.0), 1 - 1e-6)
    return (cosine * dim - cosine**3) / (1 - cosine**2)


def mean_length(x: Tensor) -> float:
    """Mean over [N, D] points of their Euclidean length."""
    return sum(float(block.float().norm(dim=1).sum(dtype=torch.float64)) for block in torch.split(x, BLOCK)) / len(x)


def cluster_sums(x: Tensor, labels: Tensor, k: int) -> Tensor:
    """Sum of each cluster's points, [N, D], [N] -> [K, D] float64; by products, which have a fixed order on CUDA."""
    total = torch.zeros(k, x.shape[1], dtype=torch.float64, device=x.device)
    for block, part in zip(torch.split(x, BLOCK), torch.split(labels, BLOCK), strict=True):
        total += F.one_hot(part, k).T.float() @ block.float()
    return total


def mean_squared_distance(x: Tensor, centres: Tensor, labels: Tensor) -> float:
    """Mean over the points of the squared distance to their own centre."""
    parts = zip(torch.split(x, BLOCK), torch.split(labels, BLOCK), strict=True)
    total = sum(float((block - centres[part]).square().sum(dtype=torch.float64)) for block, part in parts)
    return round(total / len(x), 6)
