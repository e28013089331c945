"""What one would do without us, as rows of a table: the segmenters of gsegkit-baselines, and a U-Net with labels.

A method is `fit(labelled, photographs, seed) -> predict`: a few labelled photographs, and all of them without labels.
`predict` gives probabilities of 2 classes (background, foreground) or of the K true classes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from gsegkit_eval.baselines import foreground_iou
from torch import Tensor

from gsegkit.api.fitting import name_clusters
from gsegkit.classes.class_map import RAW_NAME
from gsegkit.context import RunContext
from gsegkit.dataset import LabelledDataset, MemoryDataset, Sample, UnlabelledImages
from gsegkit.images import resize_pixels, write_png
from gsegkit.interfaces import PhotographSegmenter, Predict, Segmenter
from gsegkit.plugins import installed
from gsegkit.refining import Predictor

#: Photographs without labels, [3, H, W] uint8 each; sizes may differ.
Photographs = Sequence[Tensor]
#: A method: labelled photographs, all photographs, seed -> [N, 3, H, W] uint8 to probabilities [N, K, H, W] float32.
Fit = Callable[[LabelledDataset, Photographs, int], Predict]

INSETS = (0.02, 0.05, 0.10)  # of GrabCut's first rectangle, as a share of the side
STEPS = 240  # of the supervised U-Net, 8 images each
LONGEST = 64  # pixels of the longer side at which it is trained


def baseline(name: str, **options: Any) -> Fit:
    """A segmenter of gsegkit-baselines; clusters get names by the labelled photographs."""

    def fit(labelled: LabelledDataset, photographs: Photographs, seed: int) -> Predict:
        seeded = {"seed": seed} if "seed" in installed().find("segmenter", name).config_class().model_fields else {}
        segmenter: Segmenter = installed().build("segmenter", name, {**seeded, **options})
        with tempfile.TemporaryDirectory(prefix="gsegkit-baseline-") as folder:
            ctx = RunContext(Path(folder), seed=seed)
            if not isinstance(segmenter, PhotographSegmenter):
                segmenter.fit(labelled, ctx)
            else:
                segmenter.fit_photographs(_as_files(photographs, Path(folder)), ctx)
                if all(RAW_NAME.fullmatch(cluster) for cluster in segmenter.classes):
                    name_clusters(segmenter.eval(), labelled, ctx)
        return Predictor(segmenter.eval())

    return fit


def _as_files(photographs: Photographs, folder: Path) -> UnlabelledImages:
    """The way that a user's photographs come."""
    for index, pixels in enumerate(photographs):
        write_png(folder / f"{index:05d}.png", pixels)
    return UnlabelledImages(tuple(sorted(folder.glob("*.png"))))


def grabcut(labelled: LabelledDataset, photographs: Photographs, seed: int) -> Predict:
    """GrabCut from a rectangle; its inset is the best one on the labelled photographs."""

    def score(inset: float) -> float:
        return float(np.mean([_iou(fits[inset], sample) for sample in labelled]))

    fits = {inset: baseline("grabcut", inset=inset)(labelled, [], seed) for inset in INSETS}
    return fits[max(INSETS, key=score)]


def _iou(predict: Predict, sample: Sample) -> float:
    both, either = foreground_iou((predict(sample.pixels[None])[0, 1] > 0.5).numpy(), sample)
    return both / max(either, 1)


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
