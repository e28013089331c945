"""Pixels as points: a generator's feature maps, upsampled and joined, and linear classifiers that read them.

A pixel's feature vector is the concatenation, from low to high resolution, of all chosen maps, each upsampled
bilinearly with aligned corners. The upsampled maps themselves are never made: see `features_at` and `linear_scores`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from gsegkit.clustering.config import FeatureConfig
from gsegkit.clustering.position import PlaceMeans, position_directions, project_out
from gsegkit.context import SMOKE_SAMPLES, RunContext
from gsegkit.errors import CapabilityError, ConfigError, DataError
from gsegkit.images import shrunk_size
from gsegkit.interfaces import Generator
from gsegkit.seeds import child_seed
from gsegkit.taps import frozen
from gsegkit.types import FeatureSpec, GeneratorInfo

POINTS_FILE = "points.bin"
ROUNDING = 1e-5  # relative: what reading between pixels makes of one value
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def select_layers(info: GeneratorInfo, config: FeatureConfig) -> tuple[str, ...]:
    """Which feature maps to read, from shapes alone (KLiSH, Sec. 4.1).

    Of several maps of one resolution the last counts. Going from high to low resolution, maps are added until the next
    one would make more than `max_channels` channels, or is smaller than `min_size` pixels and than `min_scale` times
    the image. Layers that the user names are taken as they are.

    Returns:
        Names, from low to high resolution.

    Raises:
        CapabilityError: the generator offers no features.
        ContractError: a given name is unknown.
        ConfigError: even the one map of highest resolution has too many channels.
    """
    if not info.features:
        raise CapabilityError(
            "the generator provides no feature maps", "choose a generator with the capability 'features' (gsegkit list)"
        )
    if config.layers:
        return tuple(spec.name for spec in map(info.feature, config.layers))
    last = {(spec.height, spec.width): spec for spec in info.features}  # later maps replace earlier ones
    chosen: list[FeatureSpec] = []
    for spec in sorted(last.values(), key=lambda spec: spec.height * spec.width, reverse=True):
        few = config.min_size is None or min(spec.height, spec.width) < config.min_size
        too_small = few and min(spec.height / info.height, spec.width / info.width) < config.min_scale
        if sum(s.channels for s in chosen) + spec.channels > config.max_channels or (chosen and too_small):
            break
        chosen.insert(0, spec)
    if not chosen:
        raise ConfigError(
            f"the largest feature map alone has more than max_channels={config.max_channels} channels",
            "raise max_channels, or name the layers",
        )
    return tuple(spec.name for spec in chosen)


@dataclass(frozen=True)
class Points:
    """Pixels of generated images as points.

    Attributes:
        x: [N, D] float32, float16 or bfloat16; may be mapped from a file.
        image: [N] int64, which generated image.
        pixel: [N] int64, flat position in a map of `size`.
        size: (height, width) of that map.
        layers: names of the maps, in the order of x's columns.
        position: [D, r] float32, directions that were taken out of x because they tell position; None = none were.
    """

    x: Tensor
    image: Tensor
    pixel: Tensor
    size: tuple[int, int]
    layers: tuple[str, ...]
    position: Tensor | None = None

    def __len__(self) -> int:
        return len(self.x)

    @property
    def at_border(self) -> Tensor:
        """[N] bool: the pixel lies on the image's edge."""
        height, width = self.size
        y, x = self.pixel // width, self.pixel % width
        return (y == 0) | (y == height - 1) | (x == 0) | (x == width - 1)


def collect_points(
    generator: Generator, config: FeatureConfig, ctx: RunContext, extra_bytes_per_point: int = 0
) -> Points:
    """Features of random pixels of generated images (seeds of purpose "fit").

    Every image gives the same number of distinct pixels, drawn from the context's seed and the image's index, so the
    points do not depend on the micro-batch. `extra_bytes_per_point` is what the method will need beside the points; it
    counts against `memory_mib`. Position is taken out of the points where `config.mirrored` says so.

    Raises:
        CapabilityError, ConfigError, ContractError: see `select_layers`.
        ConfigError: the points would need more than `memory_mib`.
        DataError: a feature is NaN or infinite.
    """
    info = generator.info
    layers = select_layers(info, config)
    specs = [info.feature(name) for name in layers]
    size = map_size(info, config.resolution)
    per_image = min(config.pixels_per_image or size[0] * size[1], size[0] * size[1])
    num_images = ctx.limit(config.num_images, SMOKE_SAMPLES)
    count, dim = num_images * per_image, sum(spec.channels for spec in specs)
    x = _buffer(count, dim, config, ctx, extra_bytes_per_point)
    pixel = torch.empty(count, dtype=torch.int64)
    row, varied = 0, False
    axes = mirrored_axes(info, config)
    means = PlaceMeans(dim, x.device, config.position_grid) if axes else None
    batches = list(ctx.batches("fit", config.num_images))

    def read(number: int) -> tuple[Tensor, ...]:
        """Points, their pixels, whether they vary, and the means of places, of a batch."""
        seeds, first = batches[number], number * ctx.batch_size
        batch = generator.sample(seeds, features=layers)
        chosen = torch.stack([_pixels(ctx.seed, first + i, per_image, size) for i in range(len(seeds))])
        found = features_at(batch.features, layers, chosen.to(generator.device), size)  # [N, P, D]
        differ = torch.tensor(per_image == 1 or _varies(found))
        found = found.flatten(0, 1)
        _check_finite(found, specs)
        pooled = () if means is None else (means.pooled(batch.features, layers),)
        return found.to(x.dtype).to(x.device), chosen.flatten(), differ, *pooled

    with frozen(generator):
        parts = ctx.team.map(read, range(len(batches)))
        planned = -(-config.num_images // ctx.batch_size)
        for number in ctx.track(range(len(batches)), "reading features", planned):
            found, chosen, differ, *pooled = next(parts)
            varied = varied or bool(differ)
            for places in pooled:
                assert means is not None
                means.add(places, number * ctx.batch_size)
            x[row : row + len(found)] = found
            pixel[row : row + len(found)] = chosen
            row += len(found)
    if not varied:
        raise DataError(
            f"the feature maps {', '.join(layers)} hold one vector for all pixels of an image: there are no clusters",
            "the generator's weights are damaged, all zero, or were never trained; or choose other layers",
        )
    image = torch.arange(num_images).repeat_interleave(per_image)
    position = None if means is None else position_directions(means.halves(), axes, config.position_rank)
    if position is not None:
        project_out(x, position)
    return Points(x=x, image=image, pixel=pixel, size=size, layers=layers, position=position)


def mirrored_axes(info: GeneratorInfo, config: FeatureConfig) -> str:
    """Axes by which position is taken out of the features: "", "x", "y" or "xy"."""
    return info.mirrored if config.mirrored == "auto" else config.mirrored.replace("none", "")


def map_size(info: GeneratorInfo, resolution: int) -> tuple[int, int]:
    """Size at which pixels are read: the image's own, its longer side at most `resolution`."""
    return shrunk_size(info.height, info.width, resolution)


def features_at(maps: Mapping[str, Tensor], layers: Iterable[str], pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """Feature vectors of chosen pixels, without making the upsampled maps.

    Args:
        maps: name -> [N, C, h, w].
        layers: which ones, in the order of the result's columns.
        pixels: [N, P] int64, flat positions in a map of `size`.
        size: (height, width).

    Returns:
        [N, P, D] float32, equal up to rounding to sampling `upsample(map, size)`.
    """
    height, width = size
    y = (pixels // width).float() * (2 / max(height - 1, 1)) - 1
    x = (pixels % width).float() * (2 / max(width - 1, 1)) - 1
    positions = torch.stack([x, y], dim=-1).unsqueeze(2)  # [N, P, 1, 2]
    found = [
        F.grid_sample(maps[name].float(), positions, mode="bilinear", padding_mode="border", align_corners=True)
        for name in layers
    ]
    return torch.cat(found, dim=1).squeeze(3).transpose(1, 2)


def upsample(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """[N, C, h, w] -> [N, C, *size], bilinear, corners aligned, as in the published code."""
    if maps.shape[2:] == size:
        return maps
    return F.interpolate(maps, size, mode="bilinear", align_corners=True)


def linear_scores(
    maps: Mapping[str, Tensor], layers: Sequence[str], weight: Tensor, bias: Tensor, size: tuple[int, int]
) -> Tensor:
    """Scores of linear classifiers on every pixel's features.

    Upsampling is linear too, so each layer's share is computed at its own resolution and then upsampled: the same
    numbers for a fraction of the work.

    Args:
        maps: name -> [N, C, h, w] float32.
        layers: names in the order of the weight's columns.
        weight: [K, D].
        bias: [K].
        size: of the scores.

    Returns:
        [N, K, *size] float32.
    """
    parts = torch.split(weight, [maps[name].shape[1] for name in layers], dim=1)
    total = bias.view(1, -1, 1, 1)
    for name, part in zip(layers, parts, strict=True):
        total = total + upsample(F.conv2d(maps[name].float(), part[:, :, None, None]), size)
    return total


# ---- inside ------------------------------------------------------------------------------------------------------


def _buffer(count: int, dim: int, config: FeatureConfig, ctx: RunContext, extra: int) -> Tensor:
    dtype = DTYPES[config.dtype]
    on_disk = config.storage == "disk"
    per_point = extra + (0 if on_disk else dim * dtype.itemsize)
    if count * per_point > config.memory_mib << 20:
        fitting = (config.memory_mib << 20) // (per_point * max(config.num_images, 1))
        remedies = [f"lower pixels_per_image to {fitting}"] if fitting else []
        remedies += ["raise memory_mib"] + ([] if on_disk else ["use storage=disk"])
        raise ConfigError(
            f"{count:,} points of {dim} features need {count * per_point / 2**20:,.0f} MiB, "
            f"memory_mib allows {config.memory_mib}",
            ", or ".join(remedies),
        )
    if not on_disk:
        return torch.empty(count, dim, dtype=dtype, device=ctx.device)
    ctx.folder.mkdir(parents=True, exist_ok=True)
    return torch.from_file(str(points_file(ctx)), shared=True, size=count * dim, dtype=dtype).view(count, dim)


def points_file(ctx: RunContext) -> Path:
    """Where `storage=disk` keeps the points while a fit runs; each process has its own copy."""
    name = POINTS_FILE if ctx.team.first else f"{ctx.team.rank}-{POINTS_FILE}"
    return ctx.folder / name


def _pixels(seed: int, image: int, count: int, size: tuple[int, int]) -> Tensor:
    total = size[0] * size[1]
    if count == total:
        return torch.arange(total)
    order = torch.randperm(total, generator=torch.Generator().manual_seed(child_seed(seed, "pixels", image)))
    return order[:count].sort().values


def _varies(found: Tensor) -> bool:
    """Whether the pixels of some image differ in their features; [N, P, D]."""
    return bool((found - found[:, :1]).abs().max() > ROUNDING * found.abs().max())


def _check_finite(found: Tensor, specs: Sequence[FeatureSpec]) -> None:
    if bool(torch.isfinite(found).all()):
        return
    bad = next(
        spec.name
        for spec, part in zip(specs, torch.split(found, [s.channels for s in specs], dim=1), strict=True)
        if not bool(torch.isfinite(part).all())
    )
    raise DataError(f"feature map '{bad}' holds NaN or infinity", "the generator's weights are damaged or overflow")
