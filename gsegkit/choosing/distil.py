"""A segmenter of one's own from the chosen candidate: it labels all photographs, and a network learns from them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from gsegkit.choosing.candidates import Candidate
from gsegkit.comparing.compare import folder_of
from gsegkit.comparing.material import shrink
from gsegkit.context import RunContext
from gsegkit.dataset import UnlabelledImages
from gsegkit.engine.plan import SelfTrain
from gsegkit.engine.selftrain import SHARD_SIZE, certain_pairs, joined, store_pairs
from gsegkit.engine.shards import Manifest, ShardDataset
from gsegkit.engine.sources import open_part
from gsegkit.interfaces import Refiner, Segmenter
from gsegkit.plugins import Registry
from gsegkit.refining import Predictor
from gsegkit.types import LabelledBatch

SIDE = 128  # pixels of the longer side that the network learns at


class Chosen:
    """A candidate as something that predicts: the classes of its method, added up to those that a person named."""

    def __init__(self, segmenter: Segmenter, targets: Sequence[int], names: Sequence[str]) -> None:
        """`targets`: class of the segmenter -> class of the candidate; `names`: of those, equal ones become one."""
        self.classes = tuple(dict.fromkeys(names))
        self._segmenter = segmenter
        self._targets = torch.tensor([self.classes.index(names[target]) for target in targets])

    def probs(self, pixels: Tensor) -> Tensor:
        """[N, 3, H, W] uint8 -> [N, K, H, W] float32."""
        fine = self._segmenter.probs(pixels.to(self._segmenter.device)).cpu()
        found = fine.new_zeros(len(fine), len(self.classes), *fine.shape[2:])
        return found.index_add_(1, self._targets, fine)


def open_candidate(candidate: Candidate, folder: Path, registry: Registry, device: torch.device) -> Segmenter:
    """The fitted method of a candidate: that of its run, or what the comparison in `folder` kept."""
    method = candidate.outcome.method
    where = method.run if method.run is not None else folder_of(method, folder)
    found: Segmenter = open_part(where, "segmenter", registry, device)
    return found


def label_all(
    chosen: Chosen, refiner: Refiner | None, photographs: UnlabelledImages, size: tuple[int, int], ctx: RunContext
) -> ShardDataset:
    """Label every photograph as the page showed it, and store the pairs at the training size.

    Args:
        chosen: what predicts.
        refiner: acts on its answers; None = none.
        photographs: at their own sizes; they are squashed to `size`.
        size: (height, width).
        ctx: its folder receives the shards.
    """
    config, predictor = SelfTrain(), Predictor(chosen, () if refiner is None else refiner)

    def one(row: int) -> LabelledBatch:
        batch = predictor.label(shrink(photographs[row])[None])
        return certain_pairs(LabelledBatch(torch.tensor([row]), batch.pixels, batch.masks, batch.probs), size, config)

    manifest = Manifest(
        classes=chosen.classes, num_shards=1, shard_size=SHARD_SIZE, height=size[0], width=size[1], fit_rule="squash",
        scaling=photographs.scaling,
    )  # fmt: skip
    return store_pairs(len(photographs), lambda rows: joined([one(row) for row in rows]), manifest, ctx)


def training_size(photographs: UnlabelledImages, side: int) -> tuple[int, int]:
    """(height, width) whose longer side is `side`, with the middle one of the photographs' aspect ratios.

    Both are multiples of 8, which networks take without padding.
    """
    shapes = [photographs[i].shape[1:] for i in range(0, len(photographs), max(1, len(photographs) // 16))]
    aspect = sorted(width / height for height, width in shapes)[len(shapes) // 2]
    height, width = (side, side * aspect) if aspect <= 1 else (side / aspect, side)
    return max(8, round(height / 8) * 8), max(8, round(width / 8) * 8)
