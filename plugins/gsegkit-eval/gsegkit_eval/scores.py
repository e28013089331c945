"""Formulas: IoU, precision, recall, F, from counts. Every rule for 0/0 stands here."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gsegkit.classes.greedy import Floats
from gsegkit.classes.greedy import ratio as ratio


def precision(tp: ArrayLike, fp: ArrayLike) -> Floats:
    """Tp / (tp + fp); 1 when nothing was predicted."""
    return ratio(tp, np.add(tp, fp), 1.0)


def recall(tp: ArrayLike, fn: ArrayLike) -> Floats:
    """Tp / (tp + fn); 1 when there is nothing to find."""
    return ratio(tp, np.add(tp, fn), 1.0)


def f_score(tp: ArrayLike, fp: ArrayLike, fn: ArrayLike, beta2: float) -> Floats:
    """(1 + b2) P R / (b2 P + R); 0 when both are 0."""
    p, r = precision(tp, fp), recall(tp, fn)
    return ratio((1 + beta2) * p * r, beta2 * p + r, 0.0)


def class_ious(tables: NDArray[np.int64]) -> Floats:
    """IoU of every class in every image: [n, K, K'] counts -> [n, K], NaN where a class is in neither."""
    k = tables.shape[1]
    inside = np.einsum("nkk->nk", tables[:, :, :k])
    union = tables.sum(axis=2) + tables[:, :, :k].sum(axis=1) - inside
    return ratio(inside, union, np.nan)


def without_void(tables: NDArray[np.int64]) -> NDArray[np.int64]:
    """The counts where true background pixels count nowhere, not even as wrong: [n, K, K'] -> [n, K, K']."""
    kept = tables.copy()
    kept[:, 0] = 0
    return kept


def macro(table: NDArray[np.int64]) -> dict[str, float]:
    """Precision, recall and F1 of each class of one [K, K'] table, then the mean over the classes that occur.

    A class that is never predicted has precision 0, one that is never true recall 0. F1 is averaged, not made of the
    averages (Labels4Free's code).
    """
    k = len(table)
    tp = np.diag(table[:, :k])
    truth, predicted = table.sum(axis=1), table[:, :k].sum(axis=0)
    occurs = truth + predicted > 0
    found = {
        "precision": ratio(tp, predicted, 0.0),
        "recall": ratio(tp, truth, 0.0),
        "f1": ratio(2 * tp, truth + predicted, 0.0),
    }
    return {name: float(values[occurs].mean()) for name, values in found.items()}


def mean_defined(values: Floats, axis: int | None = None) -> Floats:
    """Mean of the values that are not NaN; NaN when there is none."""
    defined = ~np.isnan(values)
    return ratio(np.where(defined, values, 0).sum(axis=axis), defined.sum(axis=axis), np.nan)


def adjusted_rand(tables: NDArray[np.int64]) -> Floats:
    """Adjusted Rand index (Hubert and Arabie 1985) of each table of a stack, [n, K, K'] counts -> [n].

    1 where both sides agree on every pair, also where each puts all into one segment.
    """
    counts = tables.astype(np.float64)  # products of pair counts pass int64
    total, squares = counts.sum(axis=(1, 2)), (counts**2).sum(axis=(1, 2))
    together = squares - total  # ordered pairs that both sides put together, and so on
    only_true = (counts.sum(axis=2) ** 2).sum(axis=1) - squares
    only_found = (counts.sum(axis=1) ** 2).sum(axis=1) - squares
    apart = total**2 - squares - only_true - only_found
    chance = (together + only_true) * (only_true + apart) + (together + only_found) * (only_found + apart)
    found = ratio(2 * (together * apart - only_true * only_found), chance, 1.0)
    return np.where((only_true == 0) & (only_found == 0), 1.0, found)


def covering(tables: NDArray[np.int64]) -> Floats:
    """Segmentation covering: mean over the true segments of the best IoU with any found one, [n, K, K'] -> [n]."""
    true, found = tables.sum(axis=2), tables.sum(axis=1)
    best = ratio(tables, true[:, :, None] + found[:, None, :] - tables, 0.0).max(axis=2)
    return mean_defined(np.where(true > 0, best, np.nan), axis=1)


def two_segments(tables: NDArray[np.int64]) -> NDArray[np.int64]:
    """Background and foreground only, on both sides: [n, K, K'] counts -> [n, 2, 2]."""
    rows = np.stack([tables[:, 0], tables[:, 1:].sum(axis=1)], axis=1)
    return np.stack([rows[:, :, 0], rows[:, :, 1:].sum(axis=2)], axis=2)


def number(value: ArrayLike) -> float | None:
    """JSON-ready: None for NaN."""
    return None if np.isnan(value) else float(np.asarray(value))


class FCurve:
    """F_beta over thresholds k/255 of the foreground probability, streaming.

    A pixel is foreground at threshold k when its probability is greater than k/255.

    Args:
        beta2: squared beta.
        first: first k; the last is 254.
    """

    def __init__(self, beta2: float, first: int = 0) -> None:
        self.beta2 = beta2
        self.first = first
        self._sum = np.zeros(255 - first)
        self._counts = np.zeros((3, 255 - first), dtype=np.int64)
        self._images = 0

    @staticmethod
    def levels(probs: NDArray[np.float32], truth: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Scored pixels of an image, or of a part of it, by level: foreground probabilities and truth, [M] each.

        Returns:
            [2, 256]: pixels of the foreground, and of the background; those of parts are added.
        """
        # p > k/255 for integer k is the same as ceil(255 p) > k
        level = np.ceil(np.clip(probs.astype(np.float64), 0, 1) * 255).astype(np.int64)
        return np.stack([np.bincount(level[truth], minlength=256), np.bincount(level[~truth], minlength=256)])

    def add(self, levels: NDArray[np.int64]) -> None:
        """Count one image, given as `levels`."""
        positive, negative = levels
        tp = positive[::-1].cumsum()[::-1][1 + self.first :]  # [k]: pixels of a level above k
        fp = negative[::-1].cumsum()[::-1][1 + self.first :]
        fn = positive.sum() - tp
        self._sum += f_score(tp, fp, fn, self.beta2)
        self._counts += np.stack([tp, fp, fn])
        self._images += 1

    def best_mean(self) -> float:
        """F averaged over the images at each threshold, then the maximum."""
        return float(self._sum.max() / self._images) if self._images else float("nan")

    def best_dataset(self) -> float:
        """F of the counts added over the data set at each threshold, then the maximum."""
        tp, fp, fn = self._counts
        return float(f_score(tp, fp, fn, self.beta2).max()) if self._images else float("nan")
