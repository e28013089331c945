"""Evaluator `masks`: foreground / background and semantic masks against ground truth.

The per-image protocol is that of Melas-Kyriazi et al. (released code): scores at the photographs' own resolution,
averaged over the images, F_beta with beta^2 = 0.3, precision 1 for an empty prediction, recall 1 for an empty truth.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gsegkit.classes.greedy import contingency
from gsegkit.classes.held_out import choose_images, leave_out
from gsegkit.context import RunContext
from gsegkit.dataset import LabelledDataset, Sample, Subset
from gsegkit.distributed.team import Results
from gsegkit.errors import ConfigError, DataError
from gsegkit.interfaces import Evaluator, Predict
from gsegkit.training import CentrePrior, otsu_foreground
from gsegkit.types import IGNORE, Report
from gsegkit_eval.baselines import foreground_iou
from gsegkit_eval.config import MasksConfig
from gsegkit_eval.counts import predict_classes, predict_strips, predicted_classes, scored
from gsegkit_eval.definitions import BASELINES, ORDER, PART_DEFINITIONS, mask_definitions
from gsegkit_eval.matching import LABELS_USED, Matching, decide, describe, greedy, hungarian
from gsegkit_eval.scores import (
    FCurve,
    adjusted_rand,
    class_ious,
    covering,
    f_score,
    macro,
    mean_defined,
    number,
    precision,
    ratio,
    recall,
    two_segments,
    without_void,
)

Scores = dict[str, float | None]
EMPTY_IOU = {"zero": 0.0, "one": 1.0, "skip": float("nan")}


@dataclass
class Tally:
    """What one pass over the data set leaves behind.

    Attributes:
        names: image names.
        tables: per image, [K1, K2] counts by (true class, predicted class).
        prior: the centre prior's mean mask.
        otsu: per image, foreground IoU of Otsu's threshold.
    """

    names: list[str] = field(default_factory=list)
    tables: list[NDArray[np.int64]] = field(default_factory=list)
    prior: CentrePrior = field(default_factory=CentrePrior)
    otsu: list[float] = field(default_factory=list)


class Masks(Evaluator):
    """Scores masks; see the README for matching, definitions and the rules for empty masks."""

    config: MasksConfig
    divided = True

    def evaluate(self, predict: Predict, dataset: LabelledDataset, ctx: RunContext) -> Report:
        """Score `predict` on `dataset`; images may differ in size.

        Raises:
            ConfigError: the matching rule does not fit the classes.
            DataError: nothing to score.
            ContractError: the predictor returned something else than probabilities.
        """
        num_predicted, names = predicted_classes(predict, dataset)
        matching = decide(self.config.match, num_predicted, names, dataset.classes)
        if self.config.threshold is not None and (matching is None or sorted(matching.targets) != [0, 1]):
            raise ConfigError(
                f"threshold={self.config.threshold:g} needs two predicted classes, matched to background and "
                f"foreground without labels; there are {num_predicted}",
                "omit the threshold, or use the default match=auto",
            )
        used = ""
        if matching is not None:
            dataset, used = leave_out(dataset, matching.labels_used)
        elif count := min(ctx.limit(self.config.num_match_images or 0), len(dataset) // 2):
            matching, dataset = self._match_on_few(predict, dataset, num_predicted, count, ctx)
        curve = FCurve(self.config.beta2, first=255 - self.config.thresholds)
        tally = self._count(predict, dataset, num_predicted, matching, curve, ctx)
        tables = np.stack(tally.tables)
        decided = matching or self._found(tables)
        priors = self._second_pass(predict, dataset, None if matching else decided, curve, tally.prior, ctx)
        confusion = decided.apply(tables)
        metrics, per_image = self._metrics(confusion, tally.names)
        metrics["max_f_beta"] = curve.best_mean()
        metrics["max_f_beta_dataset"] = curve.best_dataset()
        definitions = mask_definitions(self.config.beta2, curve.first, self.config.empty_iou)
        if self.config.baselines:
            metrics |= {
                "baseline_centre_prior_iou": number(mean_defined(np.array(priors))),
                "baseline_otsu_iou": number(mean_defined(np.array(tally.otsu))),
            }
            definitions |= BASELINES
        definitions |= PART_DEFINITIONS if "miou_parts" in metrics else {}
        true_names = ("background", "foreground") if decided.merged else dataset.classes
        return Report(
            metrics={name: metrics[name] for name in sorted(metrics, key=ORDER.index)},
            per_class=_per_class(confusion, true_names),
            per_image=per_image,
            definitions=definitions,
            notes=(
                decided.note,
                describe(decided, names, true_names),
                *([used] if used else []),
                *self._threshold_note(),
                *self._empty_note(confusion),
            ),
        )

    # ---- matching ------------------------------------------------------------------------------------------------

    def _found(self, tables: NDArray[np.int64], labels: str = LABELS_USED) -> Matching:
        return (hungarian if self.config.match == "hungarian" else greedy)(tables, labels)

    def _match_on_few(
        self, predict: Predict, dataset: LabelledDataset, num_predicted: int, count: int, ctx: RunContext
    ) -> tuple[Matching, LabelledDataset]:
        """Match on `count` images drawn by the context's seed; the data set without them."""
        chosen = set(choose_images(len(dataset), count, ctx.seed))
        few = Subset(dataset, sorted(chosen))
        num_true = len(dataset.classes)

        def one(sample: Sample, _: int) -> Results:
            labels = predict_classes(predict, sample, num_predicted)
            return (torch.from_numpy(contingency(sample.mask, labels, num_true, num_predicted)),)

        tables = [table.numpy() for (table,) in scored(few, ctx, "matching", one)]
        if not np.any(tables):
            raise DataError("no image used for matching has a labelled pixel", "raise num_match_images")
        used = f"this used the labels of {count} images drawn by seed {ctx.seed}, which were left out of the score"
        rest = Subset(dataset, [i for i in range(len(dataset)) if i not in chosen])
        return self._found(np.stack(tables), used), rest

    # ---- passes over the data ----------------------------------------------------------------------------------

    def _count(
        self,
        predict: Predict,
        dataset: LabelledDataset,
        num_predicted: int,
        matching: Matching | None,
        curve: FCurve,
        ctx: RunContext,
    ) -> Tally:
        merged = matching is not None and matching.merged
        num_true = 2 if merged else len(dataset.classes)
        tally = Tally()

        def one(sample: Sample, _: int) -> Results:
            truth = _merge(sample.mask) if merged else sample.mask
            table, levels = np.zeros((num_true, num_predicted), np.int64), np.zeros((2, 256), np.int64)
            for rows, probs in predict_strips(predict, sample, num_predicted):
                labels = _classes(probs, matching, self.config.threshold)
                table += contingency(truth[rows], labels, num_true, num_predicted)
                if matching is not None:
                    levels += _levels(probs, sample.mask[rows], matching)
            name = torch.tensor(list(sample.name.encode()), dtype=torch.uint8)
            found = (name, torch.from_numpy(table), torch.from_numpy(levels))
            if not self.config.baselines:
                return found
            otsu = torch.tensor(foreground_iou(otsu_foreground(sample.pixels), sample))
            return *found, CentrePrior.shares(sample.mask), otsu

        for name, table, levels, *baselines in scored(dataset, ctx, "scoring", one):
            tally.names.append(name.numpy().tobytes().decode())
            tally.tables.append(table.numpy())
            if matching is not None:
                curve.add(levels.numpy())
            if baselines:
                shares, otsu = baselines
                tally.prior.add_shares(shares)
                tally.otsu.append(self._iou(*otsu.tolist()))
        if not tally.tables:
            raise DataError("no image has a pixel to score: every mask is 255", "255 means ignore; check the masks")
        return tally

    def _second_pass(
        self,
        predict: Predict,
        dataset: LabelledDataset,
        matching: Matching | None,
        curve: FCurve,
        prior: CentrePrior,
        ctx: RunContext,
    ) -> list[float]:
        """What had to wait: the F curve of a matching that was found in the data, and the centre prior's IoUs."""
        ious: list[float] = []
        if matching is None and not self.config.baselines:
            return ious

        def one(sample: Sample, _: int) -> Results:
            levels = np.zeros((2, 256), np.int64)
            if matching is not None:
                for rows, probs in predict_strips(predict, sample, len(matching.targets)):
                    levels += _levels(probs, sample.mask[rows], matching)
            if not self.config.baselines:
                return (torch.from_numpy(levels),)
            height, width = sample.mask.shape
            return torch.from_numpy(levels), torch.tensor(foreground_iou(prior.mask((height, width)), sample))

        for levels, *baseline in scored(dataset, ctx, "baselines" if matching is None else "F_beta curve", one):
            if matching is not None:
                curve.add(levels.numpy())
            ious += [self._iou(*counts.tolist()) for counts in baseline]
        return ious

    # ---- scores ------------------------------------------------------------------------------------------------

    def _metrics(self, confusion: NDArray[np.int64], names: list[str]) -> tuple[Scores, dict[str, Scores]]:
        segments = two_segments(confusion)
        images = {**self._rows(confusion), "ari": adjusted_rand(segments), "msc": covering(segments)}
        total = confusion.sum(axis=0, keepdims=True)
        whole = self._rows(total)
        metrics: Scores = {name: number(mean_defined(values)) for name, values in images.items()}
        ious = class_ious(confusion)
        metrics["miou"] = number(mean_defined(mean_defined(ious, axis=0)))
        metrics["miou_dataset"] = number(mean_defined(class_ious(total)))
        metrics |= {f"{name}_macro_dataset": value for name, value in macro(total[0]).items()}
        if confusion.shape[1] > 2:  # of a foreground alone they would be its IoU and its recall
            for name, tables in (("miou_parts", confusion), ("miou_parts_void", without_void(confusion))):
                parts = class_ious(tables)[:, 1:]
                metrics[name] = number(mean_defined(mean_defined(parts, axis=0)))
                metrics[f"{name}_dataset"] = number(mean_defined(class_ious(tables.sum(axis=0, keepdims=True))[:, 1:]))
        metrics |= {f"{name}_dataset": number(values[0]) for name, values in whole.items()}
        metrics["num_images"] = len(names)
        per_image = {
            name: {key: number(values[row]) for key, values in images.items()} for row, name in enumerate(names)
        }
        return metrics, per_image

    def _rows(self, confusion: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
        """Foreground scores and accuracy of each [K, K + 1] table of a stack."""
        k = confusion.shape[1]
        tp = confusion[:, 1:, 1:].sum(axis=(1, 2))
        fp = confusion[:, 0, 1:].sum(axis=1)
        fn = confusion[:, 1:, 0].sum(axis=1)
        right = np.einsum("nkk->n", confusion[:, :, :k])
        return {
            "accuracy": ratio(right, confusion.sum(axis=(1, 2)), np.nan),
            "iou_foreground": ratio(tp, tp + fp + fn, EMPTY_IOU[self.config.empty_iou]),
            "precision": precision(tp, fp),
            "recall": recall(tp, fn),
            "f1": f_score(tp, fp, fn, 1.0),
            "f_beta": f_score(tp, fp, fn, self.config.beta2),
        }

    def _iou(self, inside: int, union: int) -> float:
        return inside / union if union else EMPTY_IOU[self.config.empty_iou]

    def _threshold_note(self) -> list[str]:
        threshold = self.config.threshold
        return [] if threshold is None else [f"foreground where its probability is greater than {threshold:g}"]

    def _empty_note(self, confusion: NDArray[np.int64]) -> list[str]:
        count = int((confusion[:, 1:].sum(axis=(1, 2)) == 0).sum())
        return [f"{count} of {len(confusion)} images have no true foreground"] if count else []


def _merge(mask: Tensor) -> Tensor:
    return mask.clone().masked_fill_((mask != 0) & (mask != IGNORE), 1)


def _classes(probs: Tensor, matching: Matching | None, threshold: float | None) -> Tensor:
    """The predicted classes, [K, h, W] -> [h, W]: the most probable, or what is foreground at a threshold."""
    if threshold is None or matching is None:
        return probs.argmax(dim=0)
    background, foreground = (matching.targets.index(target) for target in (0, 1))
    return torch.where(1 - probs[background] > threshold, foreground, background)


def _levels(probs: Tensor, truth: Tensor, matching: Matching) -> NDArray[np.int64]:
    """See `FCurve.levels`; probs [K, h, W], truth [h, W]."""
    background = [cluster for cluster, target in enumerate(matching.targets) if target == 0]
    foreground = 1 - probs[background].sum(dim=0)
    valid = truth != IGNORE
    return FCurve.levels(foreground[valid].numpy(), (truth[valid] != 0).numpy())


def _per_class(confusion: NDArray[np.int64], names: tuple[str, ...]) -> dict[str, Scores]:
    """Per class: `iou`, `precision`, `recall` over the data set, `iou_per_image` as in `miou`, and its `share`."""
    total = confusion.sum(axis=0)
    k = len(names)
    inside, truth, predicted = np.diag(total[:, :k]), total.sum(axis=1), total[:, :k].sum(axis=0)
    ious = class_ious(total[None])[0]
    image_ious = mean_defined(class_ious(confusion), axis=0)
    return {
        name: {
            "iou": number(ious[i]),
            "iou_per_image": number(image_ious[i]),
            "precision": number(ratio(inside[i], predicted[i], np.nan)),
            "recall": number(ratio(inside[i], truth[i], np.nan)),
            "share": float(truth[i] / total.sum()),
        }
        for i, name in enumerate(names)
    }
