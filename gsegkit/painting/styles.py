"""What a picture looks like beside its mask: a seed, a second one to mix in, seeds of regions."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

import torch
from torch import Tensor

from gsegkit.errors import ConfigError, DataError
from gsegkit.painting.painter import Painter

LARGEST_SEED = 0xFFFFFFFE  # the number above it says "as the picture" in a packed style
AS_PICTURE = 0xFFFFFFFF


@dataclass(frozen=True)
class Style:
    """One style.

    Attributes:
        seed: 0 .. LARGEST_SEED; the same seed is the same style everywhere.
        other: the seed that `mix` leads to.
        mix: 0 = `seed` alone, 1 = `other` alone.
        regions: a seed for each of the K classes, None = as the picture; () = all as the picture.

    Raises:
        ConfigError: a seed or `mix` lies outside its range.
    """

    seed: int
    other: int = 0
    mix: float = 0.0
    regions: tuple[int | None, ...] = ()

    def __post_init__(self) -> None:
        for seed in (self.seed, self.other, *(region for region in self.regions if region is not None)):
            if not 0 <= seed <= LARGEST_SEED:
                raise ConfigError(f"{seed} is no seed of a style", f"choose one of 0 .. {LARGEST_SEED:,}")
        if not 0 <= self.mix <= 1:  # NaN as well
            raise ConfigError(f"styles cannot be mixed by {self.mix}", "0 is the first seed alone, 1 the other")

    def pack(self, num_classes: int) -> bytes:
        """Little-endian uint32 seed, uint32 other, float32 mix, then a uint32 for each class."""
        regions = self.regions or (None,) * num_classes
        seeds = [AS_PICTURE if seed is None else seed for seed in regions]
        return struct.pack(f"<IIf{num_classes}I", self.seed, self.other, self.mix, *seeds)

    @classmethod
    def unpack(cls, data: bytes, num_classes: int) -> Style:
        """What `pack` made.

        Raises:
            DataError: another length.
            ConfigError: numbers out of range.
        """
        if len(data) != packed_size(num_classes):
            raise DataError(
                f"a style of {len(data)} bytes, but {packed_size(num_classes)} belong to {num_classes} classes",
                "send seed, other seed, mix, and a seed for each class",
            )
        seed, other, mix, *regions = struct.unpack(f"<IIf{num_classes}I", data)
        own = tuple(None if region == AS_PICTURE else region for region in regions)
        return cls(seed, other, mix, own if any(region is not None for region in own) else ())


def packed_size(num_classes: int) -> int:
    """Bytes of a packed style."""
    return 12 + 4 * num_classes


def latents_of(painter: Painter, style: Style) -> Tensor:
    """The latents that `painter.paint` takes for one picture.

    Two seeds are mixed on a quarter of a circle, so that the numbers stay standard normal all the way. A region with a
    seed of its own has that seed's latent, unmixed.

    Returns:
        [1, latent_dim] float32, or [1, 1 + K, latent_dim] where a region has a seed of its own.

    Raises:
        ConfigError: regions have seeds, but the painter has no styles by region, or another number of classes.
    """
    if style.regions and not painter.region_styles:
        raise ConfigError("this painter has one style for the whole picture", "give no seeds of regions")
    if style.regions and len(style.regions) != len(painter.classes):
        raise ConfigError(
            f"{len(style.regions)} regions have a style, but the painter has {len(painter.classes)} classes",
            "give one entry for each class, None for those that look as the picture",
        )
    own = [seed for seed in style.regions if seed is not None]
    first, second, *rows = painter.latents(torch.tensor([style.seed, style.other, *own]))
    turn = style.mix * math.pi / 2
    picture = first if style.mix == 0 else math.cos(turn) * first + math.sin(turn) * second
    if not style.regions:
        return picture[None]
    rest = iter(rows)
    return torch.stack([picture, *(picture if seed is None else next(rest) for seed in style.regions)])[None]
