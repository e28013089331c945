"""Candidate directions of a generator's edit space that nobody has to pick: random, coordinate, principal."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gsegkit.errors import ConfigError
from gsegkit_directions.latents import EditSpace


class Candidate(NamedTuple):
    """A named unit direction, [*latent_shape] float32."""

    name: str
    direction: Tensor


def candidates(
    latents: Tensor, space: EditSpace, *, num_random: int, num_coordinates: int, num_pca: int, seed: int
) -> list[Candidate]:
    """Unit directions to rank.

    Principal components are those of the latents: in a normally distributed z they are as good as random ones, in a
    mapped space such as StyleGAN's W they are where the latents vary most. Latents with one row a layer get directions
    that all layers share.

    Args:
        latents: [N, *latent_shape] float32 to measure the components by.
        space: the edit space.
        num_random: normally distributed directions.
        num_coordinates: at most so many along one number each, the first ones.
        num_pca: at most so many principal components, the strongest ones.
        seed: of the random ones.

    Raises:
        ConfigError: no candidate is asked for.
    """
    size = _numel(space.free_shape)
    found: list[tuple[str, Tensor]] = []
    if num_random:
        random = torch.Generator().manual_seed(seed)
        draws = torch.randn(num_random, size, generator=random)
        found += [(f"random-{i}", row) for i, row in enumerate(draws)]
    if num_coordinates:
        found += [(f"coordinate-{i}", row) for i, row in enumerate(torch.eye(size)[:num_coordinates])]
    if num_pca:
        found += [(f"pca-{i}", row) for i, row in enumerate(_components(latents, space)[:num_pca])]
    if not found:
        raise ConfigError("there are no directions to rank", "ask for random, coordinate or pca candidates")
    rows = torch.stack([row for _, row in found]).view(len(found), *space.free_shape)
    units = space.unit(rows.to(latents.device))
    return [Candidate(name, unit) for (name, _), unit in zip(found, units, strict=True)]


def _components(latents: Tensor, space: EditSpace) -> Tensor:
    """Principal axes of the latents, strongest first, [K, D]; of all layers together when they share directions."""
    flat = latents.reshape(-1, _numel(space.free_shape)).double().cpu()
    centred = flat - flat.mean(dim=0)
    _, axes = torch.linalg.eigh(centred.T @ centred)
    axes = axes.T.flip(0).float()
    largest = axes.gather(1, axes.abs().argmax(dim=1, keepdim=True))  # an axis has no sign of its own: fix it
    signed: Tensor = axes * largest.sign()
    return signed


def _numel(shape: tuple[int, ...]) -> int:
    return torch.Size(shape).numel()
