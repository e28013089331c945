"""Evaluator `clusters`: how well unnamed classes agree with true ones, whatever they are called.

AMI, ARI and NMI need no matching. Of the two mIoUs, the greedy one is Algorithm 2 of Xu et al. (KLiSH).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score, normalized_mutual_info_score
from torch import Tensor

from gsegkit.classes.greedy import contingency
from gsegkit.context import RunContext
from gsegkit.dataset import LabelledDataset, Sample
from gsegkit.distributed.team import Results
from gsegkit.errors import DataError
from gsegkit.interfaces import Evaluator, Predict
from gsegkit.seeds import child_seed
from gsegkit.types import IGNORE, Report
from gsegkit_eval.config import ClustersConfig
from gsegkit_eval.counts import predict_classes, predicted_classes, scored
from gsegkit_eval.definitions import CLUSTERS
from gsegkit_eval.matching import describe, greedy, hungarian
from gsegkit_eval.scores import class_ious, mean_defined, number


class Clusters(Evaluator):
    """Scores a clustering; 255 in the truth counts nowhere.

    AMI, ARI and NMI see all pixels when there are at most `max_pixels`, else an equal number of random pixels of each
    image (drawn from the context's seed).
    """

    config: ClustersConfig
    divided = True

    def evaluate(self, predict: Predict, dataset: LabelledDataset, ctx: RunContext) -> Report:
        """Score the most probable classes of `predict` on `dataset`."""
        num_predicted, names = predicted_classes(predict, dataset)
        quota = max(1, self.config.max_pixels // len(dataset))

        def one(sample: Sample, index: int) -> Results:
            labels = predict_classes(predict, sample, num_predicted)
            table = contingency(sample.mask, labels, len(dataset.classes), num_predicted)
            chosen = _sample_pixels(sample.mask, quota, child_seed(ctx.seed, "pixels", index))
            return torch.from_numpy(table), sample.mask.flatten()[chosen], labels.flatten()[chosen]

        rows = list(scored(dataset, ctx, "scoring", one))
        if not rows:
            raise DataError("no image has a pixel to score: every mask is 255", "255 means ignore; check the masks")
        tables, truths, found = ([part.numpy() for part in parts] for parts in zip(*rows, strict=True))
        return self._report(np.stack(tables), np.concatenate(truths), np.concatenate(found), dataset.classes, names)

    def _report(
        self,
        tables: NDArray[np.int64],
        truth: NDArray[np.uint8],
        found: NDArray[np.int64],
        classes: tuple[str, ...],
        names: tuple[str, ...] | None,
    ) -> Report:
        matched, paired = greedy(tables), hungarian(tables)
        by_image = mean_defined(class_ious(matched.apply(tables)), axis=0)
        total = matched.apply(tables).sum(axis=0)
        one_to_one = class_ious(paired.apply(tables).sum(axis=0, keepdims=True))[0]
        occurs = tables.sum(axis=(0, 2)) > 0
        metrics = {
            "ami": float(adjusted_mutual_info_score(truth, found)),
            "ari": float(adjusted_rand_score(truth, found)),
            "nmi": float(normalized_mutual_info_score(truth, found)),
            "miou_greedy": float(np.nan_to_num(by_image).mean()),
            "miou_hungarian": float(np.nan_to_num(one_to_one)[occurs].mean()),
            "accuracy_greedy": float(np.trace(total) / total.sum()),
            "num_pixels": len(truth),
            "num_images": len(tables),
        }
        per_class = {
            name: {"iou_greedy": number(by_image[i]), "iou_hungarian": number(one_to_one[i])}
            for i, name in enumerate(classes)
        }
        notes = (
            f"greedy: {matched.note}",
            f"greedy: {describe(matched, names, classes)}",
            f"Hungarian: {paired.note}",
            f"Hungarian: {describe(paired, names, classes)}",
        )
        return Report(metrics=metrics, per_class=per_class, definitions=CLUSTERS, notes=notes)


def _sample_pixels(mask: Tensor, quota: int, seed: int) -> Tensor:
    """Flat indices of at most `quota` pixels that are not 255, in rising order."""
    valid = (mask.flatten() != IGNORE).nonzero().flatten()
    if len(valid) <= quota:
        return valid
    order = torch.randperm(len(valid), generator=torch.Generator().manual_seed(seed))
    return valid[order[:quota].sort().values]
