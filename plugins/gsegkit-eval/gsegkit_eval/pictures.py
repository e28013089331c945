"""What a network says of a generator's pictures, of its bare layers, and of photographs: common to its evaluators."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from gsegkit.context import RunContext
from gsegkit.dataset import UnlabelledImages
from gsegkit.errors import DataError
from gsegkit.images import to_images
from gsegkit.interfaces import Generator
from gsegkit.taps import frozen

#: [N, 3, H, W] float32 in [-1, 1] on any device -> features [N, D] on the CPU.
Describe = Callable[[Tensor], Tensor]
IMAGES = "images"  # what the composites are called beside the layers
MIN_IMAGES = 8  # of photographs: halves of fewer have no covariance to speak of
READ = 64  # photographs at a time


def check_enough(images: UnlabelledImages, what: str) -> None:
    """DataError for a folder of fewer photographs than any comparison needs."""
    if len(images) < MIN_IMAGES:
        raise DataError(
            f"{len(images)} photographs are too few for {what}", f"give at least {MIN_IMAGES}, preferably 1000"
        )


def generated(generator: Generator, describe: Describe, num_samples: int, ctx: RunContext) -> dict[str, Tensor]:
    """Features of the images under `images`, and of every layer with three channels under its name; [N, D] each.

    Raises:
        DataError: a picture or its features are not finite.
    """
    found: dict[str, list[Tensor]] = {}
    with frozen(generator):
        for seeds in ctx.track(list(ctx.batches("test", num_samples)), "painting"):
            with torch.no_grad():
                batch = generator.sample(seeds.to(generator.device))
            layers = {name: layer for name, layer in batch.layers.items() if layer.shape[1] == 3}
            for name, pictures in chain({IMAGES: batch.images}.items(), layers.items()):
                rows = describe(pictures) if bool(torch.isfinite(pictures).all()) else None
                if rows is None or not bool(torch.isfinite(rows).all()):
                    raise DataError(
                        f"the generator made {name} that are not finite", "train it again, or use earlier weights"
                    )
                found.setdefault(name, []).append(rows)
    return {name: torch.cat(rows) for name, rows in found.items()}


def photographed(
    generator: Generator, images: UnlabelledImages, describe: Describe, num_images: int | None, ctx: RunContext
) -> Tensor:
    """Features [M, D] of at most `num_images` photographs (None = all), drawn by the seed, fitted to the generator.

    Raises:
        DataError: all of them have the same features.
    """
    info = generator.info
    wanted = len(images) if num_images is None else min(num_images, len(images))
    count = max(MIN_IMAGES, ctx.limit(wanted, MIN_IMAGES))
    chosen = np.random.default_rng(ctx.seed).permutation(len(images))[:count].tolist()
    fitted = images.fitted((info.height, info.width), info.fit_rule)
    batches = [chosen[i : i + READ] for i in range(0, count, READ)]
    rows = [describe(to_images(fitted.batch(part))) for part in ctx.track(batches, "reading photographs")]
    features = torch.cat(rows)
    if bool((features == features[0]).all()):
        raise DataError("all photographs have the same features", "give a folder of different photographs")
    return features


def halves(features: Tensor, ctx: RunContext) -> tuple[Tensor, Tensor]:
    """Two random halves of the photographs; a folder's order is often that of its subjects."""
    order = np.random.default_rng(ctx.seed).permutation(len(features))
    return features[order[::2]], features[order[1::2]]
