"""Pairs scored against another network's masks of the same pictures, as papers do that have no true ones."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from gsegkit.dataset import LabelledDataset, Sample
from gsegkit.errors import DataError
from gsegkit.interfaces import Segmenter
from gsegkit.types import IGNORE

Truth = Callable[[Sample], Tensor]  # a picture -> [H, W] uint8, its class indices


class Against(LabelledDataset):
    """Pictures of pairs with another network's masks in the place of the truth.

    Pixels that the pairs ignore are ignored in the truth too: no prediction is made for them.

    Args:
        pairs: pictures, and the masks that are to be scored.
        rows: of the pairs, those that have another mask.
        classes: of the other masks.
        truth: gives them.
    """

    def __init__(self, pairs: LabelledDataset, rows: Sequence[int], classes: Sequence[str], truth: Truth) -> None:
        self.pairs, self.rows, self.truth = pairs, list(rows), truth
        self.classes = tuple(classes)
        self.fit_rule, self.scaling = pairs.fit_rule, pairs.scaling
        self.predict = Stored(pairs)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Sample:
        row = self.rows[index]
        sample = self.pairs[row]
        mask = self.truth(sample)
        if mask.shape != sample.mask.shape:
            raise DataError(
                f"the other mask of '{sample.name}' is {mask.shape[1]} x {mask.shape[0]}, the picture "
                f"{sample.mask.shape[1]} x {sample.mask.shape[0]}",
                "label the exported pictures at their own size",
            )
        self.predict.seen(sample.pixels, row)
        return Sample(sample.name, sample.pixels, mask.masked_fill(sample.mask == IGNORE, IGNORE))


class Stored:
    """A predictor that knows the masks of pairs: it gives back the one of a picture that it was shown.

    Attributes:
        classes: of the pairs.
    """

    def __init__(self, pairs: LabelledDataset) -> None:
        self.pairs, self.classes = pairs, pairs.classes
        self._rows: dict[bytes, int] = {}

    def seen(self, pixels: Tensor, row: int) -> None:
        """Which row of the pairs a picture is, [3, H, W] uint8."""
        self._rows[_digest(pixels)] = row

    def __call__(self, pixels: Tensor) -> Tensor:
        """[N, 3, H, W] uint8, pictures of the pairs -> [N, K, H, W] float32, probabilities 0 and 1."""
        masks = torch.stack([self.pairs[self._rows[_digest(one)]].mask for one in pixels])
        masks = masks.masked_fill(masks == IGNORE, 0).long()
        return F.one_hot(masks, len(self.classes)).permute(0, 3, 1, 2).float()


def by_segmenter(pairs: LabelledDataset, labeller: Segmenter, num_images: int) -> Against:
    """The first pairs against what a segmenter says of their pictures."""
    return Against(
        pairs, range(min(num_images, len(pairs))), labeller.classes,
        lambda sample: labeller.predict(sample.pixels[None])[0].cpu(),
    )  # fmt: skip


def by_masks(pairs: LabelledDataset, masks: LabelledDataset, num_images: int) -> Against:
    """The first pairs that are in a labelled folder too, by their names, against the masks there.

    Raises:
        DataError: none is.
    """
    there = {masks[row].name: row for row in range(len(masks))}
    rows = [row for row in range(len(pairs)) if pairs[row].name in there][:num_images]
    if not rows:
        raise DataError(
            "no mask of the folder has the name of a picture of these pairs",
            "export the pairs (gsegkit export RUN --format png --out FOLDER), label its images and keep their names",
        )
    return Against(pairs, rows, masks.classes, lambda sample: masks[there[sample.name]].mask)


def _digest(pixels: Tensor) -> bytes:
    return hashlib.blake2b(pixels.cpu().contiguous().numpy().tobytes(), digest_size=16).digest()
