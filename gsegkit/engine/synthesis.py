"""Generator + extractor + refiners -> (image, mask) pairs on disk: resumable, and divisible among workers."""

from __future__ import annotations

import io
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gsegkit.context import SMOKE_SAMPLES, RunContext
from gsegkit.engine.plan import MAX_SAMPLES, NATIVE, PairFormat
from gsegkit.engine.shards import LAYOUTS, Manifest, ShardDataset, missing_shards, shard_record, write_shard
from gsegkit.errors import ConfigError, ContractError, DataError, StorageError
from gsegkit.images import to_pixels
from gsegkit.interfaces import Generator, MaskExtractor, Refiner
from gsegkit.types import IGNORE, LabelledBatch

SHARD_SIZE = 256  # candidates per shard, rounded up to whole micro-batches
MAX_BROKEN = 0.001  # share of images that may be non-finite before the generator counts as broken
BYTES_PER_PIXEL = 4  # RGB and a mask
COVERAGE_ALARM = 0.98  # share of all pixels in one class above which the masks have probably collapsed

NamedRefiner = tuple[str, Refiner]


def synthesize(
    generator: Generator,
    extractor: MaskExtractor,
    refiners: Sequence[NamedRefiner],
    num_samples: int,
    ctx: RunContext,
    *,
    worker: tuple[int, int] = (0, 1),
    recipe: Mapping[str, Any] | None = None,
    format: PairFormat = NATIVE,
) -> ShardDataset | None:
    """Make `num_samples` candidates, refine them, and store those that remain.

    Micro-batch k always holds candidates k*b .. k*b+b-1, whole, so interruption, resume, the number of workers and a
    later, larger `num_samples` change no pixel. Finished shards are kept; a damaged one is made anew.

    Args:
        generator: on its device.
        extractor: fitted, on the same device.
        refiners: (name, refiner) in the order they run.
        num_samples: candidates; refiners may drop some.
        ctx: its folder receives the shards; its batch_size is the micro-batch; its team shares the shards.
        worker: (index, count): this process, or its team, makes every count-th shard.
        recipe: JSON-ready facts to store in the manifest.
        format: of the shards' files; the pairs are the same in each.

    Returns:
        The data set, or None when other workers' shards are still missing.

    Raises:
        ConfigError: no samples, or more than any disk holds.
        DataError: the refiners dropped everything.
        ContractError: a part returned something its interface forbids.
    """
    if not 1 <= num_samples <= MAX_SAMPLES:
        raise ConfigError(f"{num_samples} samples cannot be made", f"give 1 to {MAX_SAMPLES}")
    num_samples = ctx.limit(num_samples, SMOKE_SAMPLES)
    size = shard_size(ctx.batch_size)
    num_shards = -(-num_samples // size)
    manifest = Manifest(
        classes=tuple(extractor.classes),
        num_shards=num_shards,
        shard_size=size,
        height=generator.info.height,
        width=generator.info.width,
        fit_rule=generator.info.fit_rule,
        scaling=generator.scaling,
        format=format,
        recipe=dict(recipe or {}),
    )
    generator.eval()
    extractor.eval()
    mine = [shard for shard in range(num_shards) if shard % worker[1] == worker[0]]
    missing = ctx.team.told(missing_shards(ctx.folder, mine, manifest) if ctx.team.first else [])
    if len(missing) < len(mine):
        ctx.info(f"kept {len(mine) - len(missing)} of {len(mine)} shards")
    if missing:
        pairs = min(len(missing) * size, num_samples)
        check_space(ctx.folder, pairs * pair_bytes(generator, extractor, format, ctx))
    coverage = Coverage(ctx, manifest.classes)
    if ctx.team.first:
        manifest.write(ctx.folder)
    for shard in ctx.track(ctx.team.share(missing), "making pairs"):
        batch, counts = _make_shard(generator, extractor, refiners, shard, size, num_samples, ctx)
        coverage.add(batch.masks)
        write_shard(ctx.folder, shard, batch, counts, format)
    counts_of_all = ctx.team.sum(coverage.counts)  # and all shards are written
    unmade = ctx.team.first and any(shard_record(ctx.folder, shard, manifest) is None for shard in range(num_shards))
    if ctx.team.told(unmade):
        return None
    dataset = ShardDataset(ctx.folder, verify=False)  # they were read just now
    if missing and len(dataset) and not bool(counts_of_all.any()):
        raise DataError(
            "every pixel of every pair is ignored, so there is nothing to learn", "name fewer clusters ignored"
        )
    if len(dataset) == 0:
        dropped = ", ".join(f"{name} {count}" for name, count in dataset.counts.items())
        raise DataError(
            f"the refiners dropped all of {num_samples} samples ({dropped})", "relax the refiner that dropped most"
        )
    return dataset


def shard_size(batch_size: int) -> int:
    """Candidates of a shard: whole micro-batches."""
    return -(-SHARD_SIZE // batch_size) * batch_size


def pair_bytes(generator: Generator, extractor: MaskExtractor, format: PairFormat, ctx: RunContext) -> float:
    """Bytes of a pair on disk; where that depends on the pictures, the mean of the first micro-batch, as it is made."""
    if format == NATIVE:
        return generator.info.height * generator.info.width * BYTES_PER_PIXEL
    first, _ = label_samples(generator, extractor, ctx.seeds("dataset", ctx.batch_size, 0))
    LAYOUTS[format].write(buffer := io.BytesIO(), first)
    return len(buffer.getvalue()) / len(first)


def check_space(folder: Path, needed: float) -> None:
    """StorageError when a folder, which is made if it is missing, has not so many bytes free."""
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise StorageError(
            f"the pairs need about {needed / 1e9:.1f} GB and '{folder}' has {free / 1e9:.1f} GB free",
            "free some space, lower the number of samples, or choose another folder",
        )


def _make_shard(
    generator: Generator,
    extractor: MaskExtractor,
    refiners: Sequence[NamedRefiner],
    shard: int,
    shard_size: int,
    num_samples: int,
    ctx: RunContext,
) -> tuple[LabelledBatch, dict[str, int]]:
    counts = {"candidates": 0, "non-finite": 0, **{name: 0 for name, _ in refiners}}
    first = shard * shard_size
    wanted = min(shard_size, num_samples - first)
    batches = []
    for start in range(0, wanted, ctx.batch_size):
        ctx.check_stop()
        seeds = ctx.seeds("dataset", ctx.batch_size, first + start)
        batch, finite = label_samples(generator, extractor, seeds)
        inside = torch.arange(len(batch)) < wanted - start
        counts["candidates"] += int(inside.sum())
        counts["non-finite"] += int((inside & ~finite).sum())
        batch = batch.keep(inside & finite)
        for name, refiner in refiners:
            before = len(batch)
            batch = _refine(name, refiner, batch) if before else batch
            counts[name] += before - len(batch)
        no_probs = batch.probs.new_empty(len(batch), 0, *batch.masks.shape[1:])  # many times the pixels, not stored
        batches.append(replace(batch, probs=no_probs))
    if counts["non-finite"] > MAX_BROKEN * max(counts["candidates"], 1000):
        raise ContractError(
            f"{counts['non-finite']} of {counts['candidates']} generated images are not finite",
            "the generator is broken or its weights are damaged",
        )
    counts["kept"] = sum(len(batch) for batch in batches)
    return _concat(batches), counts


def label_samples(generator: Generator, extractor: MaskExtractor, seeds: Tensor) -> tuple[LabelledBatch, Tensor]:
    """Sample, extract and bring to the stored side.

    Returns:
        The labelled batch on the CPU, and [N] bool: which images were finite.
    """
    generated = generator.sample(seeds, features=extractor.features(generator.info))
    with torch.no_grad():
        masks = extractor.extract(generated, generator)
    n, k, h, w = masks.probs.shape
    if (n, h, w) != (len(seeds), *generated.images.shape[2:]) or k != len(extractor.classes):
        raise ContractError(
            f"extractor {type(extractor).__name__}.extract returned probs {list(masks.probs.shape)}, expected "
            f"[{len(seeds)}, {len(extractor.classes)}, {', '.join(map(str, generated.images.shape[2:]))}]"
        )
    finite = torch.isfinite(generated.images).flatten(1).all(dim=1).cpu()
    classes = masks.probs.argmax(dim=1).to(torch.uint8)
    if masks.ignore is not None:
        classes = classes.masked_fill(masks.ignore, IGNORE)
    labelled = LabelledBatch(
        seeds=seeds,
        pixels=to_pixels(generated.images).cpu(),
        masks=classes.cpu(),
        probs=masks.probs.cpu(),
        scores={name: value.cpu() for name, value in masks.scores.items()},
    )
    return labelled, finite


def _refine(name: str, refiner: Refiner, batch: LabelledBatch) -> LabelledBatch:
    refined = refiner.refine(batch)
    known = torch.isin(refined.seeds, batch.seeds)
    if len(refined) > len(batch) or not bool(known.all()):
        raise ContractError(
            f"refiner '{name}' returned rows that it was not given",
            "a refiner may only drop rows, not add or repeat them",
        )
    return refined


def _concat(batches: Sequence[LabelledBatch]) -> LabelledBatch:
    names = set.intersection(*(set(batch.scores) for batch in batches))
    return LabelledBatch(
        seeds=torch.cat([batch.seeds for batch in batches]),
        pixels=torch.cat([batch.pixels for batch in batches]),
        masks=torch.cat([batch.masks for batch in batches]),
        probs=torch.cat([batch.probs for batch in batches]),
        scores={name: torch.cat([batch.scores[name] for batch in batches]) for name in sorted(names)},
    )


class Coverage:
    """Warns, once, when nearly all pixels are of one class: the masks have collapsed."""

    def __init__(self, ctx: RunContext, classes: Sequence[str]) -> None:
        self.ctx, self.classes = ctx, classes
        self.counts = torch.zeros(len(classes), dtype=torch.int64)
        self.warned = False

    def add(self, masks: Tensor) -> None:
        """Count [N, H, W] uint8 masks; 255 is not counted."""
        self.counts += torch.bincount(masks[masks != IGNORE].flatten().int(), minlength=len(self.classes))
        share = float(self.counts.max() / self.counts.sum().clamp(min=1))
        if share > COVERAGE_ALARM and not self.warned:
            self.warned = True
            name = self.classes[int(self.counts.argmax())]
            self.ctx.warn(f"'{name}' covers {share:.1%} of the images: the extractor has probably collapsed")
