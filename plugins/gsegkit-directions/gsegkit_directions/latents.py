"""A generator's edit space: how far its latents spread, what a direction of length one is in it, and shifting."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from gsegkit.context import RunContext
from gsegkit.errors import ContractError, DataError
from gsegkit.interfaces import Generator

SPREAD_SAMPLES = 1024  # identities 0 .. 1023 of purpose "fit"; the fits' own start after them


class EditSpace(NamedTuple):
    """Geometry of a generator's edit space.

    Attributes:
        shape: of one latent; (D,), or (L, D) with one row a layer.
        spread: mean Euclidean distance of a latent from the mean latent, over all its numbers.
        shared: one direction for all layers.
        unit_over_first: norm 1 along the latent's first axis, as in the released code, instead of over everything.
    """

    shape: tuple[int, ...]
    spread: float
    shared: bool = True
    unit_over_first: bool = False

    @property
    def free_shape(self) -> tuple[int, ...]:
        """Shape of the numbers that a direction is made from."""
        return self.shape[-1:] if self.shared else self.shape

    def unit(self, free: Tensor) -> Tensor:
        """Unit directions from free numbers, [K, *free_shape] -> [K, *shape]; differentiable."""
        normed = self.normed(free)
        lead = (1,) * (len(self.shape) + 1 - free.ndim)
        return normed.reshape(len(free), *lead, *free.shape[1:]).expand(len(free), *self.shape)

    def normed(self, free: Tensor) -> Tensor:
        """Free numbers scaled such that their direction has norm 1; [K, *free_shape], differentiable."""
        if self.unit_over_first:
            along_layers: Tensor = free / free.norm(dim=1, keepdim=True)
            return along_layers
        flat = free.flatten(1)
        copies = math.prod(self.shape) // flat.shape[1]  # layers that share the numbers
        normed: Tensor = flat / (flat.norm(dim=1, keepdim=True) * math.sqrt(copies))
        return normed.view_as(free)

    def length(self, unit: str) -> float:
        """How long a shift of 1 is in the unit "spread" or "absolute"."""
        return self.spread if unit == "spread" else 1.0


def measure_latents(generator: Generator, ctx: RunContext) -> Tensor:
    """Latents to measure the edit space by, [1024, *shape] float32.

    Raises:
        DataError: non-finite, or all the same.
    """
    count = ctx.limit(SPREAD_SAMPLES, 64)
    rows = [generator.latents(seeds) for seeds in torch.split(ctx.seeds("fit", count), 256)]
    latents = torch.cat(rows).detach()
    if not bool(torch.isfinite(latents).all()):
        raise DataError("the generator's latents hold NaN or infinity", "its weights are damaged")
    if not bool((latents != latents[:1]).any()):
        raise DataError("the generator's latents are all the same", "a direction in them is meaningless")
    return latents


def spread_of(latents: Tensor) -> float:
    """Mean distance from the mean: [N, *shape] -> a number; about sqrt(D) for a standard normal."""
    flat = latents.flatten(1)
    return float((flat - flat.mean(dim=0)).norm(dim=1).mean())


def check_shape(latents: Tensor, shape: tuple[int, ...]) -> None:
    """ContractError when a batch's latents are not of the shape that a direction was found for."""
    if tuple(latents.shape[1:]) != shape:
        raise ContractError(
            f"the direction belongs to latents of shape {list(shape)}, the batch has {list(latents.shape[1:])}",
            "use the generator, and its edit space, that the extractor was fitted to",
        )
