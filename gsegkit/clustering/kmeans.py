"""Lloyd's k-means in torch: always available, deterministic, chunked, on CPU and CUDA by the same code."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gsegkit.clustering.blocks import AT_ONCE, blocks
from gsegkit.clustering.config import KMeansConfig
from gsegkit.errors import DataError
from gsegkit.interfaces import KMeans
from gsegkit.seeds import child_seed
from gsegkit.types import check_tensor


@dataclass(frozen=True)
class Assignment:
    """One pass over the points.

    Attributes:
        labels: [M] int64, nearest centre; the lowest index on a tie.
        distances: [M] float32, squared distance to it.
        sums: [k, D] float64, sum of each cluster's points.
        counts: [k] int64.
    """

    labels: Tensor
    distances: Tensor
    sums: Tensor
    counts: Tensor

    @property
    def inertia(self) -> float:
        """Sum of squared distances."""
        return float(self.distances.sum(dtype=torch.float64))


class TorchKMeans(KMeans):
    """K-means with greedy k-means++ starts.

    The same points, seed, options, device and thread count give the same result bit by bit. Temporary memory is
    bounded by `chunk_mib`; beside it the fit holds 12 bytes a point and the sample that k-means++ looks at.

    A cluster that lost all its points is moved onto the point that lies farthest from its own centre (several empty
    clusters, in the order of their index, take the farthest, second farthest ... point). It stays empty only when no
    point lies off its centre, that is, when there are fewer distinct points than clusters.

    Attributes:
        inertia: sum of squared distances of the last fit, NaN before it.
        iterations: Lloyd iterations of the start that was returned.
    """

    config: KMeansConfig
    divided = True

    def __init__(self, config: KMeansConfig) -> None:
        super().__init__(config)
        self.inertia = math.nan
        self.iterations = 0
        self._device = "none"

    @property
    def used_device(self) -> str:
        """The device of the last fit()'s points, `"none"` before the first."""
        return self._device

    def fit(self, points: Tensor, k: int, seed: int) -> tuple[Tensor, Tensor]:
        """Cluster [M, D] float32 points into `k` clusters; see `KMeans.fit`."""
        check_points(points, k)
        points = points.detach()
        # Distances are taken about the mean: float32 then loses no digits to a common offset.
        mean, variance = self._moments(points)
        best: tuple[Tensor, Assignment, int] | None = None
        for start in range(self.config.num_starts):
            centres = self.first_centres(points, k, child_seed(seed, "k-means", start)) - mean
            found = self._lloyd(points, mean, centres, self.config.tol * variance)
            if best is None or found[1].inertia < best[1].inertia:
                best = found
        assert best is not None
        centres, assignment, self.iterations = best
        self.inertia = assignment.inertia
        self._device = str(points.device)
        return centres + mean, assignment.labels

    # ---- Lloyd -------------------------------------------------------------------------------------------------

    def _lloyd(self, points: Tensor, mean: Tensor, centres: Tensor, tol: float) -> tuple[Tensor, Assignment, int]:
        """Alternate assignment and update until nothing moves; centres are about the mean."""
        labels = None
        done = 0
        for done in range(1, self.config.iterations + 1):
            found = self._assign(points, mean, centres)
            if labels is not None and torch.equal(found.labels, labels):
                return centres, found, done  # a fixed point: these labels are those of these centres
            labels = found.labels
            moved = self._update(points, mean, centres, found)
            shift = float((moved - centres).square().sum(dtype=torch.float64))
            centres = moved
            if shift <= tol:
                break
        found = self._assign(points, mean, centres)
        for _ in range(len(centres)):  # the last update may have emptied a cluster
            if bool((found.counts > 0).all()) or not bool((found.distances > 0).any()):
                break
            centres = self._fill_empty(points, mean, centres, found)
            found = self._assign(points, mean, centres)
        return centres, found, done

    def _update(self, points: Tensor, mean: Tensor, centres: Tensor, found: Assignment) -> Tensor:
        means = (found.sums / found.counts.clamp(min=1).unsqueeze(1)).float()
        moved = torch.where((found.counts > 0).unsqueeze(1), means, centres)
        return self._fill_empty(points, mean, moved, found)

    def _fill_empty(self, points: Tensor, mean: Tensor, centres: Tensor, found: Assignment) -> Tensor:
        """Move the empty clusters onto the farthest points; see the class."""
        empty = (found.counts == 0).nonzero().flatten()
        if len(empty) == 0:
            return centres
        order = found.distances.sort(descending=True, stable=True).indices[: len(empty)]
        order = order[found.distances[order] > 0]
        centres = centres.clone()
        centres[empty[: len(order)]] = points[order] - mean
        return centres

    def _assign(self, points: Tensor, mean: Tensor, centres: Tensor) -> Assignment:
        k, d = centres.shape
        labels = torch.empty(len(points), dtype=torch.int64, device=points.device)
        distances = torch.empty(len(points), dtype=torch.float32, device=points.device)
        sums = torch.zeros(k, d, dtype=torch.float64, device=points.device)
        chunks = self._chunks(len(points), k + 2 * d)

        def nearest_in(rows: slice) -> tuple[Tensor, Tensor, Tensor]:
            block = points[rows] - mean
            nearest, label = squared_distances(block, centres).min(dim=1)
            return label, nearest, _cluster_sums(block, label, k)

        for rows, (label, nearest, own) in zip(chunks, self.team.map(nearest_in, chunks, AT_ONCE), strict=True):
            labels[rows], distances[rows] = label, nearest
            sums += own
        return Assignment(labels, distances, sums, torch.bincount(labels, minlength=k))

    # ---- first centres -----------------------------------------------------------------------------------------

    def first_centres(self, points: Tensor, k: int, seed: int) -> Tensor:
        """Where one start begins, by the option `init`: k of the [M, D] points, as [k, D] float32."""
        generator = torch.Generator().manual_seed(seed)
        wanted = k if self.config.init == "random" else max(k, self.config.init_points)
        rows = torch.randperm(len(points), generator=generator)[:wanted].to(points.device)
        sample = points[rows]
        if self.config.init == "random":
            return sample

        def choose() -> tuple[Tensor]:
            return (torch.tensor(self._plus_plus(sample - sample.mean(dim=0), k, generator)),)

        (chosen,) = self.team.once(choose)
        return sample[chosen.to(sample.device)]

    def _plus_plus(self, sample: Tensor, k: int, generator: torch.Generator) -> list[int]:
        """Rows chosen by greedy k-means++ (Arthur and Vassilvitskii 2007).

        Of a few candidates, drawn in proportion to the squared distance, the one that lowers inertia most is taken.
        """
        trials = self.config.init_trials or 2 + int(math.log(k))
        first = int(torch.randint(len(sample), (1,), generator=generator))
        chosen = [first]
        norms = sample.square().sum(dim=1, keepdim=True)
        nearest = squared_distances(sample, sample[first : first + 1], norms).flatten()
        for _ in range(1, k):
            candidates = _draw_by_weight(nearest, trials, generator)
            lowered = self._lowered(sample, norms, nearest, candidates)
            best = int(lowered.sum(dim=0, dtype=torch.float64).argmin())
            nearest = lowered[:, best].contiguous()
            chosen.append(int(candidates[best]))
        return chosen

    def _lowered(self, sample: Tensor, norms: Tensor, nearest: Tensor, candidates: Tensor) -> Tensor:
        """[S, trials] float32: distance to the nearest centre if that candidate were added."""
        centres = sample[candidates]
        parts = [
            squared_distances(sample[rows], centres, norms[rows])
            for rows in self._chunks(len(sample), 3 * len(centres))
        ]
        return torch.minimum(torch.cat(parts), nearest.unsqueeze(1))

    # ---- passes over the points --------------------------------------------------------------------------------

    def _moments(self, points: Tensor) -> tuple[Tensor, float]:
        """Mean [D] float32 and the mean over features of their variance."""
        total = torch.zeros(points.shape[1], dtype=torch.float64, device=points.device)
        squares = torch.zeros_like(total)
        for rows in self._chunks(len(points), 4 * points.shape[1]):
            block = points[rows].double()
            total += block.sum(dim=0)
            squares += block.square().sum(dim=0)
        if not bool(torch.isfinite(total).all()):  # NaN and infinity survive a sum; no second pass is needed
            raise DataError("the points to cluster hold NaN or infinity", "the features of a generator are broken")
        mean = total / len(points)
        return mean.float(), float((squares / len(points) - mean.square()).clamp(min=0).mean())

    def _chunks(self, count: int, floats_per_row: int) -> list[slice]:
        return blocks(count, (self.config.chunk_mib << 20) // (4 * floats_per_row))


def check_points(points: Tensor, k: int) -> None:
    """What every backend demands of its input: [M, D] float32 and 1 <= k <= M."""
    check_tensor(points, "points", torch.float32, (None, None), "k-means ")
    if not 1 <= k <= len(points):
        raise DataError(
            f"cannot make {k} clusters of {len(points)} points", "ask for fewer clusters or give more points"
        )


def squared_distances(points: Tensor, centres: Tensor, norms: Tensor | None = None) -> Tensor:
    """|x - c|^2 of every pair by one matrix product: [M, D], [k, D] float32 -> [M, k] float32 >= 0.

    `norms` are the points' |x|^2, [M, 1], where they are known.
    """
    products = torch.addmm(centres.square().sum(dim=1), points, centres.T, alpha=-2)
    norms = points.square().sum(dim=1, keepdim=True) if norms is None else norms
    return products.add_(norms).clamp_(min=0)


def _cluster_sums(points: Tensor, labels: Tensor, k: int) -> Tensor:
    if points.device.type == "cpu":
        return torch.zeros(k, points.shape[1]).index_add_(0, labels, points).double()
    # index_add_ adds in random order on CUDA; a product with the one-hot matrix does not
    one_hot = torch.zeros(len(points), k, device=points.device)
    one_hot.scatter_(1, labels.unsqueeze(1), 1.0)
    return (one_hot.T @ points).double()


def _draw_by_weight(weights: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """`count` indices, drawn with replacement in proportion to [S] float32 weights; uniform when all are 0."""
    cumulative = weights.double().cpu().cumsum(0)  # on the CPU: CUDA's cumsum is not deterministic
    draws = torch.rand(count, generator=generator, dtype=torch.float64)
    if float(cumulative[-1]) == 0:
        return (draws * len(weights)).long().to(weights.device)
    found = torch.searchsorted(cumulative, draws * cumulative[-1], right=True)
    return found.clamp(max=len(weights) - 1).to(weights.device)
