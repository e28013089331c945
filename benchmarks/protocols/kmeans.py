"""Backends of k-means: inertia and CPU seconds on the same points."""

from __future__ import annotations

import time
from typing import Any

import torch
from sklearn.cluster import KMeans
from torch import Tensor

from benchmarks.protocols.common import Lab, say
from gsegkit.plugins import installed

#: name in the results -> backend and its options
BACKENDS: dict[str, tuple[str, dict[str, Any]]] = {
    "faiss": ("faiss", {"iterations": 20}),
    "faiss, its own defaults": ("faiss", {"iterations": 20, "init": "random", "max_points_per_centroid": 256}),
    "torch": ("torch", {"iterations": 20}),
}


def overlapping(n: int, d: int, seed: int) -> Tensor:
    """50 overlapping groups of different spread."""
    g = torch.Generator().manual_seed(seed)
    centres, spreads = torch.randn(50, d, generator=g), 0.5 + 2 * torch.rand(50, 1, generator=g)
    group = torch.randint(50, (n,), generator=g)
    return centres[group] + spreads[group] * torch.randn(n, d, generator=g)


def backends(lab: Lab, n: int = 65_536, d: int = 256, k: int = 50) -> dict[str, Any]:
    """Mean squared distance of the points to their centres, and seconds, for every backend and seed."""
    if lab.tiny:
        n, d, k = 512, 8, 5
    rows = []
    for name in (*BACKENDS, "scikit-learn, one start"):
        found = [_one(name, overlapping(n, d, seed), k, seed) for seed in lab.seeds]
        rows.append(
            {"backend": name, "mean_squared_distance": [f[0] for f in found], "cpu_seconds": [f[1] for f in found]}
        )
        say(str(rows[-1]))
    return {"n": n, "d": d, "k": k, "rows": rows}


def _one(name: str, x: Tensor, k: int, seed: int) -> tuple[float, float]:
    began = time.process_time()
    if name in BACKENDS:
        backend, options = BACKENDS[name]
        centres, labels = installed().build("kmeans", backend, options).fit(x, k, seed)
    else:
        model = KMeans(k, n_init=1, max_iter=20, random_state=seed).fit(x.numpy())
        centres, labels = torch.from_numpy(model.cluster_centers_), torch.from_numpy(model.labels_).long()
    seconds = time.process_time() - began
    return round(float((x - centres[labels]).square().sum(dim=1).mean()), 2), round(seconds, 2)
