"""KLiSH's greedy maximum matching of clusters to true classes (Xu, Zhang and Hu, Algorithm 2), and its counts."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from gsegkit.types import IGNORE

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]
UNMATCHED = -1


def ratio(numerator: ArrayLike, denominator: ArrayLike, undefined: float) -> Floats:
    """Elementwise quotient; `undefined` where the denominator is 0."""
    top, bottom = np.broadcast_arrays(np.asarray(numerator, float), np.asarray(denominator, float))
    quotient = np.full(top.shape, undefined)
    np.divide(top, bottom, out=quotient, where=bottom != 0)
    return quotient


def contingency(truth: Tensor, predicted: Tensor, num_true: int, num_predicted: int) -> Counts:
    """Pixels by (true class, predicted class), without those whose truth is 255.

    Args:
        truth: [H, W] uint8.
        predicted: [H, W] integer.
        num_true: K1.
        num_predicted: K2.

    Returns:
        [K1, K2] int64.
    """
    valid = truth != IGNORE
    pairs = truth[valid].long() * num_predicted + predicted[valid].long()
    counts: Counts = torch.bincount(pairs, minlength=num_true * num_predicted).view(num_true, num_predicted).numpy()
    return counts


def greedy_targets(tables: Counts) -> tuple[int, ...]:
    """The true class of each cluster by greedy maximum matching.

    Starting with nothing matched, the (cluster, class) pair that gives the greatest mIoU is fixed, until every
    cluster has a class; several clusters may go to one class. The mIoU is the plain mean over all true classes of
    the image-averaged IoU (images where a class is in neither truth nor prediction are left out for that class).
    On a tie the lowest class, then the lowest cluster, wins.

    Args:
        tables: [n, K1, K2] counts by (image, true class, cluster).

    Returns:
        K2 class indices.
    """
    _, num_true, num_predicted = tables.shape
    truth = tables.sum(axis=2)  # [n, K1]
    sizes = tables.sum(axis=1)  # [n, K2]
    inside, claimed = np.zeros_like(truth), np.zeros_like(truth)
    current = np.zeros(num_true)
    # IoU of class i if cluster j joined it; a step changes only the row of the class that grew
    candidate = np.stack([_joined(tables, sizes, truth, inside, claimed, i) for i in range(num_true)])
    targets = [UNMATCHED] * num_predicted
    free = np.ones(num_predicted, dtype=bool)
    for _ in range(num_predicted):
        gain = np.where(free, candidate - current[:, None], -np.inf)
        target, cluster = np.unravel_index(int(gain.argmax()), gain.shape)
        targets[cluster] = int(target)
        free[cluster] = False
        inside[:, target] += tables[:, target, cluster]
        claimed[:, target] += sizes[:, cluster]
        current[target] = candidate[target, cluster]
        candidate[target] = _joined(tables, sizes, truth, inside, claimed, int(target))
    return tuple(targets)


def _joined(tables: Counts, sizes: Counts, truth: Counts, inside: Counts, claimed: Counts, target: int) -> Floats:
    """Image-averaged IoU of class `target` after each cluster joined it, [K2]."""
    both = inside[:, target, None] + tables[:, target, :]
    union = truth[:, target, None] + claimed[:, target, None] + sizes - both
    return ratio(ratio(both, union, 0.0).sum(axis=0), (union > 0).sum(axis=0), 0.0)
