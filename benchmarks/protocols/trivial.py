"""What one would do without us: each a function that fits on a user's photographs and returns a predictor.

A method is `fit(labelled, photographs, seed) -> predict`: a few labelled photographs, and all of them without labels.
`predict` gives probabilities of 2 classes (background, foreground), of the K true classes, or of unnamed clusters,
which the protocol matches like ours.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import kornia
import numpy as np
import torch
import torch.nn.functional as F
from gsegkit_eval.baselines import foreground_iou
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from benchmarks.protocols import lite
from gsegkit.context import RunContext
from gsegkit.dataset import LabelledDataset, MemoryDataset, Sample
from gsegkit.images import resize_pixels
from gsegkit.interfaces import Predict
from gsegkit.plugins import installed
from gsegkit.refining import Predictor
from gsegkit.training import CentrePrior, otsu_foreground
from gsegkit.types import IGNORE

#: Photographs without labels, [3, H, W] uint8 each; sizes may differ.
Photographs = Sequence[Tensor]
#: A method: labelled photographs, all photographs, seed -> [N, 3, H, W] uint8 to probabilities [N, K, H, W] float32.
Fit = Callable[[LabelledDataset, Photographs, int], Predict]
Mask = NDArray[np.bool_]

CLUSTERS = 24  # of both k-means
PIXELS = 500  # of a photograph that learning from features looks at
COLOURS = 2000  # of a photograph that colour_kmeans looks at
INVERSE_PENALTY = 0.1  # C of the logistic regression
INSETS = (0.02, 0.05, 0.10)  # of GrabCut's first rectangle, as a share of the side
ROUNDS = 5  # of GrabCut
STEPS = 240  # of the supervised U-Net, 8 images each
LONGEST = 64  # pixels of the longer side at which it is trained


def each(one: Callable[[Tensor], Tensor]) -> Predict:
    """A predictor from a function of a single photograph."""
    return lambda pixels: torch.stack([one(photograph) for photograph in pixels])


def binary(mask: Mask) -> Tensor:
    """[H, W] bool -> probabilities of background and foreground, [2, H, W]."""
    foreground = torch.from_numpy(np.ascontiguousarray(mask)).float()
    return torch.stack([1 - foreground, foreground])


def off_the_border(labels: Mask) -> Mask:
    """The border rule: of two regions the one that is rarer on the picture's edge is the foreground."""
    edge = np.concatenate([labels[0], labels[-1], labels[1:-1, 0], labels[1:-1, -1]])
    return ~labels if edge.mean() > 0.5 else labels


def lab(pixels: Tensor) -> Tensor:
    """[..., 3, H, W] uint8 -> CIE Lab, float32."""
    return kornia.color.rgb_to_lab(pixels.float() / 255)


# ---- the foreground ------------------------------------------------------------------------------------------------


def centre_prior(labelled: LabelledDataset, photographs: Photographs, seed: int) -> Predict:
    """One constant mask: where more than half of the labelled masks have foreground."""
    prior = CentrePrior()
    for sample in labelled:
        prior.add(sample.mask)
    return each(lambda pixels: binary(prior.mask((pixels.shape[1], pixels.shape[2]))))


def otsu(labelled: LabelledDataset, photographs: Photographs, seed: int) -> Predict:
    """Otsu's threshold on the grey values, border rule."""
    return each(lambda pixels: binary(otsu_foreground(pixels)))


def two_means(labelled: LabelledDataset, photographs: Photographs, seed: int) -> Predict:
    """Two clusters of each photograph's colours in Lab, border rule."""

    def one(pixels: Tensor) -> Tensor:
        points = lab(pixels).flatten(1).T.numpy()
        found = KMeans(2, n_init=1, random_state=seed).fit_predict(points).astype(bool)
        return binary(off_the_border(found.reshape(pixels.shape[1:])))

    return each(one)


def grabcut(labelled: LabelledDataset, photographs: Photographs, seed: int) -> Predict:
    """GrabCut (Rother et al. 2004) from a rectangle; its inset is the best one on the labelled photographs."""

    def score(inset: float) -> float:
        return float(np.mean([_iou(grabcut_mask(sample.pixels, inset, seed), sample) for sample in labelled]))

    inset = max(INSETS, key=score)
    return each(lambda pixels: binary(grabcut_mask(pixels, inset, seed)))


def grabcut_mask(pixels: Tensor, inset: float, seed: int) -> Mask:
    """[3, H, W] uint8 -> foreground [H, W] after 5 rounds from a rectangle `inset` of the sides inside the border."""
    image = np.ascontiguousarray(pixels.permute(1, 2, 0).numpy()[:, :, ::-1])
    height, width = image.shape[:2]
    x, y = max(1, round(inset * width)), max(1, round(inset * height))
    mask, models = np.zeros((height, width), np.uint8), (np.zeros((1, 65)), np.zeros((1, 65)))
    cv2.setRNGSeed(seed)
    cv2.grabCut(image, mask, (x, y, width - 2 * x, height - 2 * y), *models, ROUNDS, cv2.GC_INIT_WITH_RECT)
    found: Mask = (mask == cv2.GC_FGD) | (mask == cv2.GC_PR_FGD)
    return found


def _iou(found: Mask, sample: Sample) -> float:
    both, either = foreground_iou(found, sample)
    return both / max(either, 1)


# ---- parts, unnamed ------------------------------------------------------------------------------------------------


def colour_kmeans(labelled: LabelledDataset, photographs: Photographs, seed: int) -> Predict:
    """24 clusters of colours in Lab, over all photographs."""
    draw = np.random.default_rng(seed)
    points = []
    for pixels in photographs:
        colours = lab(pixels).flatten(1).T.numpy()
        points.append(colours[draw.choice(len(colours), min(COLOURS, len(colours)), replace=False)])
    fitted = KMeans(CLUSTERS, n_init=1, random_state=seed).fit(np.concatenate(points))

    def one(pixels: Tensor) -> Tensor:
        labels = torch.from_numpy(fitted.predict(lab(pixels).flatten(1).T.numpy())).long()
        return F.one_hot(labels.view(pixels.shape[1:]), CLUSTERS).permute(2, 0, 1).float()

    return each(one)


def feature_kmeans(labelled: LabelledDataset, photographs: Photographs, seed: int) -> Predict:
    """24 clusters of standardised EfficientNet-Lite0 features, over all photographs; ImageNet's labels made them."""
    draw = np.random.default_rng(seed)
    everywhere = [torch.zeros(pixels.shape[1:], dtype=torch.uint8) for pixels in photographs]
    drawn = [_drawn(pixels, mask, draw)[0] for pixels, mask in zip(photographs, everywhere, strict=True)]
    scaler, points = StandardScaler(), np.concatenate(drawn)
    fitted = KMeans(CLUSTERS, n_init=1, random_state=seed).fit(scaler.fit_transform(points))

    def one(pixels: Tensor) -> Tensor:
        maps = lite.features(pixels[None])
        size = maps[0].shape[-2:]
        dense = torch.cat([F.interpolate(m, size, mode="bilinear") for m in maps], dim=1)[0]
        labels = torch.from_numpy(fitted.predict(scaler.transform(dense.flatten(1).T.numpy()))).long()
        hard = F.one_hot(labels.view(size), CLUSTERS).permute(2, 0, 1).float()
        return F.interpolate(hard[None], pixels.shape[1:], mode="bilinear")[0]

    return each(one)


# ---- parts, from labels --------------------------------------------------------------------------------------------


def few_labels(labelled: LabelledDataset, photographs: Photographs, seed: int) -> Predict:
    """Logistic regression on standardised EfficientNet-Lite0 features, 500 pixels a photograph."""
    draw = np.random.default_rng(seed)
    drawn = [_drawn(sample.pixels, sample.mask, draw) for sample in labelled]
    points, truth = np.concatenate([p for p, _ in drawn]), np.concatenate([t for _, t in drawn])
    scaler = StandardScaler().fit(points)
    fitted = LogisticRegression(C=INVERSE_PENALTY, max_iter=300).fit(scaler.transform(points), truth)
    slopes, offset = _plain(scaler, fitted, len(labelled.classes))

    def one(pixels: Tensor) -> Tensor:
        # linear: logits of each scale are enlarged, not its features
        logits, first = offset[None, :, None, None], 0
        for m in lite.features(pixels[None]):
            part = slopes[:, first : first + m.shape[1], None, None]
            logits = logits + F.interpolate(F.conv2d(m, part), pixels.shape[1:], mode="bilinear")
            first += m.shape[1]
        return logits[0].softmax(dim=0)

    return each(one)


def _drawn(pixels: Tensor, mask: Tensor, draw: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Features and labels of some labelled pixels of a photograph: [M, 176] and [M]."""
    rows, columns = np.nonzero(mask.numpy() != IGNORE)
    chosen = draw.choice(len(rows), min(PIXELS, len(rows)), replace=False)
    rows, columns = rows[chosen], columns[chosen]
    height, width = mask.shape
    places = np.stack([(columns + 0.5) / width, (rows + 0.5) / height], axis=1) * 2 - 1
    points = lite.at(lite.features(pixels[None]), torch.from_numpy(places).float())
    return points.numpy(), mask.numpy()[rows, columns]


def _plain(scaler: StandardScaler, fitted: LogisticRegression, num_classes: int) -> tuple[Tensor, Tensor]:
    """Slopes [K, D] and offsets [K] for features that are not standardised; a class that was not seen never wins."""
    slopes, offset = fitted.coef_ / scaler.scale_, fitted.intercept_
    offset = offset - slopes @ scaler.mean_
    if len(slopes) == 1:  # two classes: the library keeps one row
        slopes, offset = np.concatenate([-slopes / 2, slopes / 2]), np.concatenate([-offset / 2, offset / 2])
    all_slopes, all_offsets = np.zeros((num_classes, slopes.shape[1])), np.full(num_classes, -1e4)
    all_slopes[fitted.classes_], all_offsets[fitted.classes_] = slopes, offset
    return torch.from_numpy(all_slopes).float(), torch.from_numpy(all_offsets).float()


def supervised_unet(labelled: LabelledDataset, photographs: Photographs, seed: int, steps: int = STEPS) -> Predict:
    """Our own U-Net, trained with the labels; photographs squashed to one size."""
    learn = squashed(labelled)
    segmenter = installed().build("segmenter", "unet", {"steps": steps, "val_fraction": 0.0})
    with tempfile.TemporaryDirectory(prefix="gsegkit-unet-") as folder:
        segmenter.fit(learn, RunContext(Path(folder), seed=seed))
    return Predictor(segmenter.eval())


def squashed(data: LabelledDataset) -> MemoryDataset:
    """All of it at the size of the first photograph, the longer side at most 128 px."""
    height, width = data[0].mask.shape
    scale = min(1.0, LONGEST / max(height, width))
    size = round(height * scale), round(width * scale)
    samples = list(data)
    pixels = torch.cat([resize_pixels(s.pixels[None], size) for s in samples])
    masks = torch.cat([F.interpolate(s.mask[None, None], size, mode="nearest-exact")[0] for s in samples])
    return MemoryDataset(pixels, masks, data.classes, fit_rule="squash")
