"""Self-training: photographs without masks, labelled by a segmenter, become pairs that the next segmenter learns from.

The segmenter's probabilities are refined on each photograph; pixels that stay uncertain are 255, photographs with too
few certain pixels are left out. Synthetic pairs are mixed in: photographs alone would narrow the segmenter to their
own look, and would confirm its own mistakes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from gsegkit.colours import overlay
from gsegkit.context import SMOKE_SAMPLES, RunContext
from gsegkit.dataset import LabelledDataset, Sample, Subset, UnlabelledImages
from gsegkit.engine.plan import SelfTrain
from gsegkit.engine.shards import Manifest, ShardDataset, missing_shards, write_shard
from gsegkit.engine.sources import FEWEST_PHOTOGRAPHS
from gsegkit.errors import DataError
from gsegkit.images import resize_pixels
from gsegkit.interfaces import Refiner, Segmenter
from gsegkit.types import IGNORE, LabelledBatch

OVERSAMPLING = 2  # photographs are labelled at this multiple of the training size: their edges are sharper there
SHARD_SIZE = 256  # photographs
BATCH_SIZE = 16  # photographs labelled at once
SHOWN = 8  # photographs in the figure


def label_photographs(
    segmenter: Segmenter, refiner: Refiner | None, photographs: UnlabelledImages, config: SelfTrain, ctx: RunContext
) -> ShardDataset:
    """Label photographs with a segmenter, and store the pairs at its training size.

    Finished shards are kept, so an interrupted stage continues.

    Args:
        segmenter: fitted.
        refiner: cleans the masks of the photographs; None = the segmenter's own are taken.
        photographs: how they are fitted is the segmenter's business: size and rule are replaced by its own.
        config: what counts as certain.
        ctx: its folder receives the shards.

    Raises:
        DataError: a photograph that cannot be read, or too few with certain pixels.
    """
    height, width = segmenter.train_size
    large = photographs.fitted((height * OVERSAMPLING, width * OVERSAMPLING), segmenter.batch_rule)
    found = store_pairs(
        ctx.limit(len(large), SMOKE_SAMPLES),
        lambda rows: certain_pairs(_label(segmenter, refiner, large, rows), segmenter.train_size, config),
        Manifest(
            classes=tuple(segmenter.classes), num_shards=1, shard_size=SHARD_SIZE, height=height, width=width,
            fit_rule=segmenter.fit_rule, scaling=segmenter.scaling,
        ),
        ctx,
    )  # fmt: skip
    if len(found) < FEWEST_PHOTOGRAPHS:
        raise DataError(
            f"the segmenter is sure of only {len(found)} of {len(large)} photographs",
            "give photographs like those that the generator was trained on, or lower selftrain.min_confidence",
        )
    return found


def store_pairs(
    count: int, make: Callable[[Sequence[int]], LabelledBatch], manifest: Manifest, ctx: RunContext
) -> ShardDataset:
    """Store labelled photographs in shards; finished ones are kept, so an interrupted stage continues.

    Args:
        count: photographs.
        make: rows -> their pairs, with the score `labelled`; it may leave some out.
        manifest: of the data set; the number of its shards is filled in.
        ctx: its folder receives the shards.
    """
    shards = [range(start, min(start + SHARD_SIZE, count)) for start in range(0, count, SHARD_SIZE)]
    manifest = manifest.model_copy(update={"num_shards": len(shards)})
    if ctx.team.first:
        manifest.write(ctx.folder)
    unmade = missing_shards(ctx.folder, range(len(shards)), manifest) if ctx.team.first else []
    missing = ctx.team.share(ctx.team.told(unmade))
    groups = {number: torch.arange(count)[shards[number].start : shards[number].stop] for number in missing}
    batches = [(number, rows) for number in missing for rows in groups[number].split(BATCH_SIZE)]
    made: list[LabelledBatch] = []
    for number, rows in ctx.track(batches, "labelling photographs"):
        made.append(make(rows.tolist()))
        if int(rows[-1]) == shards[number][-1]:
            batch = joined(made)
            write_shard(ctx.folder, number, batch, {"photographs": len(shards[number]), "kept": len(batch)})
            made = []
    ctx.team.wait()
    return ShardDataset(ctx.folder)


def _label(
    segmenter: Segmenter, refiner: Refiner | None, photographs: UnlabelledImages, rows: Sequence[int]
) -> LabelledBatch:
    """Some photographs with what the segmenter and then the refiner say."""
    pixels = photographs.batch(rows)
    probs = segmenter.probs(pixels).cpu()
    batch = LabelledBatch(torch.tensor(rows), pixels, probs.argmax(dim=1).to(torch.uint8), probs)
    return refiner.refine(batch) if refiner is not None and len(batch) else batch


def certain_pairs(batch: LabelledBatch, size: tuple[int, int], config: SelfTrain) -> LabelledBatch:
    """Pairs at the training size: uncertain pixels are 255, and those with too few certain ones are left out."""
    certain = batch.probs * (batch.masks != IGNORE).unsqueeze(1)
    probs = F.interpolate(certain, size=size, mode="area") if len(batch) else certain[..., : size[0], : size[1]]
    confidence, classes = probs.max(dim=1)
    masks = classes.to(torch.uint8).masked_fill(confidence < config.min_confidence, IGNORE)
    share = (masks != IGNORE).flatten(1).float().mean(dim=1)
    small = LabelledBatch(batch.seeds, resize_pixels(batch.pixels, size), masks, probs)
    return small.with_scores(labelled=share).keep(share >= config.min_labelled)


def joined(batches: Sequence[LabelledBatch]) -> LabelledBatch:
    """Batches with the score `labelled` as one."""
    return LabelledBatch(
        seeds=torch.cat([batch.seeds for batch in batches]),
        pixels=torch.cat([batch.pixels for batch in batches]),
        masks=torch.cat([batch.masks for batch in batches]),
        probs=torch.cat([batch.probs for batch in batches]),
        scores={"labelled": torch.cat([batch.scores["labelled"] for batch in batches])},
    )


class Mixed(LabelledDataset):
    """Synthetic pairs and labelled photographs together, in the given shares; no row occurs twice.

    Of the kind that there is too much of, rows are taken at equal distances.
    """

    def __init__(self, synthetic: LabelledDataset, photographs: LabelledDataset, share: float) -> None:
        wanted = round(len(photographs) * share / (1 - share))
        pairs = min(wanted, len(synthetic))
        photos = len(photographs) if pairs == wanted else max(FEWEST_PHOTOGRAPHS, round(pairs * (1 - share) / share))
        self.classes, self.fit_rule, self.scaling = synthetic.classes, synthetic.fit_rule, synthetic.scaling
        self._synthetic = Subset(synthetic, spread(len(synthetic), pairs))
        self._photographs = Subset(photographs, spread(len(photographs), photos))

    def __len__(self) -> int:
        return len(self._synthetic) + len(self._photographs)

    def __getitem__(self, index: int) -> Sample:
        later = index - len(self._synthetic)
        return self._synthetic[index] if later < 0 else self._photographs[later]

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """See `LabelledDataset.batch`."""
        rows = [self[int(i)] for i in indices]
        return torch.stack([row.pixels for row in rows]), torch.stack([row.mask for row in rows])


def spread(total: int, count: int) -> Sequence[int]:
    """`count` of `total` rows at equal distances; all of them when there are no more."""
    return [i * total // count for i in range(count)] if count < total else range(total)


def show_difference(
    before: Segmenter, after: Segmenter, photographs: UnlabelledImages, ctx: RunContext, palette: Tensor
) -> float:
    """Leave a figure: photographs, their masks before self-training, and after it.

    Returns:
        The share of pixels that changed class.
    """
    height, width = after.train_size
    rows = spread(len(photographs), SHOWN)
    pixels = photographs.fitted((height * OVERSAMPLING, width * OVERSAMPLING), after.batch_rule).batch(rows)
    old, new = before.predict(pixels).cpu(), after.predict(pixels).cpu()
    changed = float((old != new).float().mean())
    drawn = [overlay(pixels, masks, palette=palette) for masks in (old, new)]
    caption = f"photographs, before self-training, after it: {changed:.0%} of these pixels changed class"
    ctx.figure("selftrain", torch.cat([pixels, *drawn]), caption, columns=len(rows))
    return changed
