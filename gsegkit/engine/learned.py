"""Whether a segmenter learned the pairs that it was trained on: measured on new ones, said in a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gsegkit.context import RunContext
from gsegkit.dataset import LabelledDataset, MemoryDataset
from gsegkit.engine.synthesis import NamedRefiner, label_samples
from gsegkit.interfaces import Generator, MaskExtractor, Segmenter
from gsegkit.types import IGNORE

NUM_PAIRS = 64  # new pairs that are compared
GAIN = 0.2  # what the mIoU must exceed that of a constant map by
BATCH_SIZE = 16  # pictures predicted at once


@dataclass(frozen=True)
class Learned:
    """How well a segmenter says what the extractor says on pictures that it was not trained on.

    Attributes:
        pairs: number of pictures compared.
        miou: IoU over all their pixels, averaged over the classes that occur in either.
        constant_miou: what one class everywhere, the largest, would get.
        parts: classes that occur in the extractor's masks.
        never: those of them that the segmenter never predicts.
        remedy: what to do when it failed.
        per_picture: IoU of each picture, averaged over the classes that occur in either of its masks.
    """

    pairs: int
    miou: float
    constant_miou: float
    parts: tuple[str, ...]
    never: tuple[str, ...]
    remedy: str = ""
    per_picture: tuple[float, ...] = ()

    @property
    def failed(self) -> bool:
        """The mIoU is too close to a constant map's, or most of the parts are never predicted."""
        return self.miou < self.constant_miou + GAIN or 2 * len(self.never) > len(self.parts)

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary; `problem` is the sentence, or "" when nothing failed."""
        return {
            "learned": not self.failed,
            "pairs": self.pairs,
            "miou": round(self.miou, 4),
            "constant_miou": round(self.constant_miou, 4),
            "parts": len(self.parts),
            "never_predicted": list(self.never),
            "problem": self.sentence if self.failed else "",
        }

    @property
    def sentence(self) -> str:
        """What could not be learned, and what to do about it."""
        missing = f", and it never predicts {len(self.never)} of {len(self.parts)} parts" if self.never else ""
        return (
            f"the segmenter did not learn its pairs: mIoU {self.miou:.2f} on {self.pairs} new pairs, where one class "
            f"everywhere gives {self.constant_miou:.2f}{missing}; {self.remedy}"
        )


def new_pairs(
    generator: Generator,
    extractor: MaskExtractor,
    refiners: Sequence[NamedRefiner],
    ctx: RunContext,
    count: int = NUM_PAIRS,
    purpose: str = "validation",
) -> LabelledDataset | None:
    """Pairs as the segmenter's were made, of seeds that it has not seen; None when the refiners keep none of them."""
    generator.eval()
    extractor.eval()
    pixels, masks = [], []
    for seeds in ctx.track(list(torch.split(ctx.seeds(purpose, count), ctx.batch_size)), "making new pairs"):
        batch, finite = label_samples(generator, extractor, seeds)
        batch = batch.keep(finite)
        for _, refiner in refiners:
            batch = refiner.refine(batch) if len(batch) else batch
        pixels.append(batch.pixels)
        masks.append(batch.masks)
    found = torch.cat(pixels), torch.cat(masks)
    if not len(found[0]) or bool((found[1] == IGNORE).all()):
        return None
    return MemoryDataset(*found, extractor.classes, fit_rule=generator.info.fit_rule)


def compare(segmenter: Segmenter, pairs: LabelledDataset, remedy: str = "") -> Learned:
    """Compare a segmenter's masks with those of pairs that it has not seen; at most `NUM_PAIRS` are read.

    Args:
        segmenter: trained on pairs of the same classes.
        pairs: of one size.
        remedy: what to do when the segmenter failed.
    """
    k, count = len(segmenter.classes), min(len(pairs), NUM_PAIRS)
    table, per_picture = torch.zeros(k, k, dtype=torch.int64), []
    for start in range(0, count, BATCH_SIZE):
        pixels, truth = pairs.batch(range(start, min(start + BATCH_SIZE, count)))
        for true, mask in zip(truth.long(), segmenter.predict(pixels).cpu().long(), strict=True):
            counts = _counts(true, mask, k)
            per_picture.append(_mean_iou(counts))
            table += counts
    occurs, predicted = table.sum(dim=1) > 0, table.sum(dim=0) > 0
    largest = float(table.sum(dim=1).max() / table.sum().clamp(min=1))
    name = segmenter.classes.__getitem__
    return Learned(
        pairs=count,
        miou=_mean_iou(table),
        constant_miou=largest / max(int(occurs.sum()), 1),
        parts=tuple(map(name, occurs.nonzero().flatten().tolist())),
        never=tuple(map(name, (occurs & ~predicted).nonzero().flatten().tolist())),
        remedy=remedy,
        per_picture=tuple(per_picture),
    )


def _mean_iou(table: Tensor) -> float:
    """Mean IoU over the classes that occur as true or predicted; 0 where nothing is labelled."""
    either = table.sum(dim=0) + table.sum(dim=1) - table.diag()
    if not bool((either > 0).any()):
        return 0.0
    return float((table.diag().double() / either.clamp(min=1))[either > 0].mean())


def _counts(truth: Tensor, predicted: Tensor, k: int) -> Tensor:
    """Pixels by (true, predicted) class, [k, k] int64, those of 255 left out."""
    valid = truth != IGNORE
    return torch.bincount(truth[valid] * k + predicted[valid], minlength=k * k).reshape(k, k)
