"""Which of a generator's activations the alpha network reads (Labels4Free, Sec. 3.1)."""

from __future__ import annotations

import torch
from kornia.metrics import ssim
from torch import Tensor

from gsegkit.context import RunContext
from gsegkit.errors import CapabilityError
from gsegkit.interfaces import Edit, Generator
from gsegkit.seeds import child_seed
from gsegkit.types import FeatureSpec, GeneratorInfo
from gsegkit_labels4free.networks import Level

TENSORS = 2  # of a level: the outputs of its last two convolutions
SMALLEST = 32  # side of the smallest images that the method works on
MEASURED = 32  # images that the SSIM is a mean over
WINDOW = 11  # of the SSIM, in pixels
UNTOUCHED = 0.9  # SSIM above which a level's colours say nothing about the image


def levels_of(info: GeneratorInfo, most: int) -> tuple[Level, ...]:
    """The `most` highest resolutions, shallow to deep, with the last two maps of each; from shapes alone.

    Raises:
        CapabilityError: no feature maps, or images of less than 32 px.
    """
    if not info.features:
        raise CapabilityError(
            "the generator provides no feature maps", "choose a generator with the capability 'features' (gsegkit list)"
        )
    if min(info.height, info.width) < SMALLEST:
        raise CapabilityError(
            f"the generator's images are {info.height} x {info.width}",
            f"labels4free needs at least {SMALLEST} px; directions and klish work on smaller ones",
        )
    by_size: dict[tuple[int, int], list[FeatureSpec]] = {}
    for spec in info.features:
        by_size.setdefault((spec.height, spec.width), []).append(spec)
    sizes = sorted(by_size, key=lambda size: size[0] * size[1])[-most:]
    return tuple(Level.of(by_size[size][-TENSORS:]) for size in sizes)


def select_levels(generator: Generator, levels: tuple[Level, ...], ctx: RunContext) -> tuple[Level, ...]:
    """Leave out low resolutions that the image does not depend on.

    A level's own contribution to the colours (edit point `b8.rgb` beside the feature `b8.conv1`) is replaced by
    noise; where the image stays alike by SSIM, the level is left out. All levels above the first one that matters
    stay. A generator without such edit points keeps all levels.
    """
    for start, level in enumerate(levels):
        similarity = _similarity(generator, level, ctx)
        if similarity is None or similarity <= UNTOUCHED or start == len(levels) - 1:
            return levels[start:]
    return levels


@torch.no_grad()
def _similarity(generator: Generator, level: Level, ctx: RunContext) -> float | None:
    """Mean SSIM of images with and without noise in a level's colours; None when it has no such edit point."""
    point = f"{level.names[-1].partition('.')[0]}.rgb"
    if point not in generator.info.edit_points:
        return None
    total, seeds = 0.0, ctx.seeds("fit", ctx.limit(MEASURED, 8))
    for number, chunk in enumerate(torch.split(seeds, ctx.batch_size)):
        latents, labels = generator.latents(chunk), generator.labels(chunk)
        noise = _noise(child_seed(ctx.seed, point, number))
        images = [
            generator.synthesize(latents, labels, edits=edits).images.clamp(-1, 1) for edits in (None, {point: noise})
        ]
        total += float(ssim(images[0], images[1], WINDOW, max_val=2.0).mean()) * len(chunk)
    return total / len(seeds)


def _noise(seed: int) -> Edit:
    def edit(colours: Tensor) -> Tensor:
        # differs from the paper: N(0, 1) whatever the colours' own spread drowns every level of a small network
        random = torch.Generator().manual_seed(seed)
        noise = torch.randn(colours.shape, generator=random).to(colours)
        return colours.mean(dim=(2, 3), keepdim=True) + noise * colours.std(dim=(2, 3), keepdim=True)

    return edit
