"""few-labels and feature-kmeans: linear answers on frozen features."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from gsegkit.context import RunContext
from gsegkit.dataset import LabelledDataset, UnlabelledImages
from gsegkit.errors import DataError
from gsegkit.types import IGNORE
from gsegkit_baselines.clusters import NOT_HERE, Clusters, centres, drawn_rows, varied
from gsegkit_baselines.config import FeatureKMeansConfig, FewLabelsConfig
from gsegkit_baselines.features import FeatureSegmenter, at, drawn

ITERATIONS = 300  # of the regression
Weights = tuple[NDArray[np.float64], NDArray[np.float64]]


class FewLabels(FeatureSegmenter):
    """Logistic regression on standardised features of some pixels of every labelled photograph."""

    config: FewLabelsConfig
    learns_from = "labels"

    def fit(self, dataset: LabelledDataset, ctx: RunContext, *, val: LabelledDataset | None = None) -> None:
        """See `Segmenter.fit`; photographs may differ in size. `val` is not used.

        Raises:
            DataError: no pixel is labelled, or all of them belong to one class.
        """
        self.build(0, 0)
        self.to(ctx.device)
        draw = np.random.default_rng(ctx.seed)
        points, truth = [], []
        for index in ctx.track(drawn_rows(len(dataset), self.config.num_images, ctx.seed), "features"):
            sample = dataset[index]
            mask = sample.mask.numpy()
            (rows, columns), places = drawn(mask != IGNORE, self.config.pixels, draw)
            points.append(at(self.maps(sample.pixels), places))
            truth.append(mask[rows, columns])
        labels = np.concatenate(truth)
        slopes, offsets = regression(np.concatenate(points), labels, len(dataset.classes), self.config.penalty)
        self.classes = dataset.classes
        self.take(slopes, offsets)


class FeatureKMeans(Clusters, FeatureSegmenter):
    """k clusters of standardised features over all photographs."""

    config: FeatureKMeansConfig

    @property
    def num_clusters(self) -> int:
        """See `Clusters.num_clusters`."""
        return self.config.k

    @property
    def num_outputs(self) -> int:
        """See `FeatureSegmenter.num_outputs`."""
        return self.config.k

    def fit_photographs(self, images: UnlabelledImages, ctx: RunContext) -> None:
        """See `PhotographSegmenter.fit_photographs`."""
        self.build(0, 0)
        self.to(ctx.device)
        draw = np.random.default_rng(ctx.seed)
        points = []
        for pixels in varied(images, self.config.num_images, ctx, "features"):
            _, places = drawn(np.ones(tuple(pixels.shape[1:]), dtype=bool), self.config.pixels, draw)
            points.append(at(self.maps(pixels), places))
        scaler, found = StandardScaler(), np.concatenate(points)
        middle = centres(scaler.fit_transform(found), self.config.k, ctx.seed, "feature").astype(np.float64)
        # minus half the squared distance to a centre, less what all centres have in common, on features as they are
        slopes, offsets = middle / scaler.scale_, -np.square(middle).sum(axis=1) / 2
        self.classes = tuple(f"cluster-{i}" for i in range(self.config.k))
        self.take(slopes, offsets - slopes @ scaler.mean_)

    def logits(self, images: Tensor) -> Tensor:
        """See `Segmenter.logits`."""
        return self.named(self.scores(images))


def regression(
    points: NDArray[np.float32],
    truth: NDArray[np.uint8],
    num_classes: int,
    penalty: float,
    weights: NDArray[np.float64] | None = None,
) -> Weights:
    """Slopes [K, D] and offsets [K] for features that are not standardised; a class that was not seen never wins.

    Args:
        points: [M, D].
        truth: [M], their classes.
        num_classes: K.
        penalty: of large weights.
        weights: [M] > 0, of the points; None = all alike.

    Raises:
        DataError: no point has a class, or all have the same.
    """
    seen = np.unique(truth)
    if len(seen) < 2:
        raise DataError(
            "no pixel is labelled" if not len(seen) else f"every labelled pixel belongs to class {seen[0]}",
            "annotate photographs that show at least two classes, background included",
        )
    scaler = StandardScaler().fit(points)
    with warnings.catch_warnings():  # 300 iterations are enough, whether or not the last digits have settled
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = LogisticRegression(C=1 / penalty, max_iter=ITERATIONS).fit(
            scaler.transform(points), truth, sample_weight=weights
        )
    slopes, offsets = fitted.coef_ / scaler.scale_, fitted.intercept_
    offsets = offsets - slopes @ scaler.mean_
    if len(slopes) == 1:  # two classes: the library keeps one row
        slopes, offsets = np.concatenate([-slopes / 2, slopes / 2]), np.concatenate([-offsets / 2, offsets / 2])
    all_slopes, all_offsets = np.zeros((num_classes, slopes.shape[1])), np.full(num_classes, NOT_HERE)
    all_slopes[fitted.classes_], all_offsets[fitted.classes_] = slopes, offsets
    return all_slopes, all_offsets
