"""Unsupervised fine-grained segmentation: generator -> extractor -> pairs -> segmenter -> real annotated photographs.

No real photograph is used for fitting. Clusters are matched to the true classes by KLiSH's greedy rule on 20 labelled
photographs that are then left out. Beside each row: a constant centre mask, Otsu's threshold, two-means on each
photograph's colours (foreground = the one that touches the edge less), all for the foreground; and a U-Net trained WITH
the labels of `train` (else half of `data`, scored on the other half), which is the ceiling.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.protocols.common import Lab, say, weights_folder
from gsegkit import api
from gsegkit.clustering.config import KMeansConfig
from gsegkit.clustering.kmeans import TorchKMeans
from gsegkit.context import RunContext
from gsegkit.dataset import LabelledDataset, MemoryDataset
from gsegkit.images import fit_pixels
from gsegkit.plugins import installed
from gsegkit.refining import Predictor
from gsegkit.storage import read_json
from gsegkit.types import IGNORE

MATCH_IMAGES = 20
SHOWN = ("iou_foreground", "miou", "accuracy", "baseline_centre_prior_iou", "baseline_otsu_iou")


def two_means(pixels: Tensor) -> Tensor:
    """Foreground [H, W] bool of one photograph [3, H, W] uint8: colours in two clusters."""
    _, height, width = pixels.shape
    labels = TorchKMeans(KMeansConfig()).fit(pixels.flatten(1).T.float().contiguous(), 2, 0)[1].view(height, width)
    edge = torch.cat([labels[0], labels[-1], labels[:, 0], labels[:, -1]]).float().mean()
    return labels == (0 if edge > 0.5 else 1)


def two_means_iou(dataset: LabelledDataset) -> float:
    """Mean IoU of the foreground over photographs."""
    ious = []
    for i in range(len(dataset)):
        sample = dataset[i]
        valid, truth = sample.mask != IGNORE, (sample.mask != 0) & (sample.mask != IGNORE)
        found = two_means(sample.pixels) & valid
        ious.append(float((found & truth).sum()) / max(float((found | truth).sum()), 1))
    return float(np.mean(ious))


def supervised(train: LabelledDataset | None, data: LabelledDataset, steps: int, ctx: RunContext) -> dict[str, Any]:
    """The ceiling: a U-Net trained with labels."""
    learn, test = halves(data) if train is None else (train, data)
    segmenter = installed().build("segmenter", "unet", {"steps": steps})
    segmenter.fit(learn, ctx)
    report = installed().build("evaluator", "masks", {"match": "index"}).evaluate(Predictor(segmenter), test, ctx)
    return {
        "trained_on": len(learn),
        "scored_on": len(test),
        **{name: report.metrics[name] for name in SHOWN[:3]},
        "per_class": {name: row["iou"] for name, row in report.per_class.items()},
    }


def halves(data: LabelledDataset) -> tuple[MemoryDataset, MemoryDataset]:
    """Every second photograph for learning, the others for the score, all in 64 x 64."""
    made = []
    for start in (0, 1):
        samples = [data[i] for i in range(start, len(data), 2)]
        pixels = torch.cat([fit_pixels(s.pixels[None], (64, 64), "squash") for s in samples])
        masks = torch.cat([F.interpolate(s.mask[None, None], (64, 64), mode="nearest-exact")[0] for s in samples])
        made.append(MemoryDataset(pixels, masks, data.classes))
    return made[0], made[1]


def fine(
    lab: Lab, data: str, weights: str, train: str = "", stored: bool = False, extractor: str = "klish",
    options: list[str] | None = None, ceiling_steps: int = 600,
) -> dict[str, Any]:  # fmt: skip
    """A run of `gsegkit run` for each seed, and the marks beside it.

    `weights`: of the StyleGAN2, in the zoo or (`stored`) a folder beside the data sets.
    """
    given = [*(options or []), f"eval.num_match_images={MATCH_IMAGES}"]
    given.append(f"gen.weights={weights_folder(weights) if stored else weights}")
    annotated = lab.labelled(data)
    rows = [_row(lab, data, extractor, given, seed) for seed in lab.seeds]
    return {
        "match_images": MATCH_IMAGES,
        "rows": rows,
        "mean": {name: float(np.mean([row[name] for row in rows])) for name in SHOWN},
        "std": {name: float(np.std([row[name] for row in rows])) for name in SHOWN},
        "two_means_on_colour_iou": two_means_iou(annotated),
        "supervised_unet": supervised(
            lab.labelled(train) if train else None, annotated, ceiling_steps, lab.context("supervised", data, 0)
        ),
    }


def _row(lab: Lab, data: str, extractor: str, options: list[str], seed: int) -> dict[str, Any]:
    folder = lab.work / f"{data}-{extractor}-{seed}"
    done = folder / "report" / "metrics.json"
    if not done.exists():
        api.run("stylegan2", extractor, "unet", out=folder, options=options, data=lab.data(data), seed=seed,
                num_samples=2000, smoke=lab.tiny)  # fmt: skip
    metrics = read_json(done)
    row = {"seed": seed, "seconds": read_json(folder / "run.json")["seconds"], **{k: metrics[k] for k in SHOWN},
           "per_class": {name: row["iou"] for name, row in metrics["per_class"].items()},
           "notes": metrics["notes"]}  # fmt: skip
    say(str(row))
    return row
