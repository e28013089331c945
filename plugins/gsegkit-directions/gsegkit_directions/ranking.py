"""What `gsegkit directions score` does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from gsegkit.context import RunContext
from gsegkit.errors import CapabilityError
from gsegkit.images import grid, png_bytes, to_pixels
from gsegkit.interfaces import Generator, MaskExtractor
from gsegkit.records.ours import PNG_MARK, check_own_file, marked_png
from gsegkit.seeds import child_seed
from gsegkit.storage import atomic_write
from gsegkit.taps import frozen
from gsegkit_directions.candidates import Candidate, candidates
from gsegkit_directions.colour_maps import FILE_KEY, rank, shift, write_direction
from gsegkit_directions.config import ColourMapsConfig
from gsegkit_directions.directions import NAMES, Directions
from gsegkit_directions.figures import SHOWN
from gsegkit_directions.latents import EditSpace, check_shape, measure_latents, spread_of


def score_generator(
    generator: Generator,
    config: ColourMapsConfig,
    ctx: RunContext,
    *,
    learned: Mapping[str, MaskExtractor] = MappingProxyType({}),
    top: int = 10,
    save: Path | None = None,
    sheet: Path | None = None,
) -> list[dict[str, Any]]:
    """Rank a generator's directions; the best `top`, each with name, split, residual and change.

    Args:
        generator: on the context's device.
        config: candidates, shift and solver.
        ctx: of a folder that may be thrown away; its seed is that of the images and the random candidates.
        learned: name of a run -> its extractor `directions`; their two directions are ranked too.
        top: rows to return.
        save: file for the best direction.
        sheet: what the best ones do, as one image: the originals, then a row for each.

    Raises:
        CapabilityError: a run of `learned` has another extractor.
        ConfigError: `save` or `sheet` is a file that no earlier call wrote.
    """
    for path, mark in ((save, FILE_KEY.encode()), (sheet, PNG_MARK)):
        if path is not None:
            check_own_file(path, mark)
    with frozen(generator):
        latents = measure_latents(generator, ctx)
        shape = generator.info.latent_shape
        space = EditSpace(shape, spread_of(latents), len(shape) > 1)
        among = candidates(
            latents, space, num_random=config.num_random, num_coordinates=config.num_coordinates,
            num_pca=config.num_pca, seed=child_seed(ctx.seed, "candidates"),
        )  # fmt: skip
        among = [*_learned(learned, latents), *among]
        rows = rank(generator, among, space, config, ctx)[:top]
        found = {row["name"]: torch.tensor(row.pop("direction"), device=ctx.device) for row in rows}
        if save is not None:
            write_direction(save, found[rows[0]["name"]], rows[0]["name"])
        if sheet is not None:
            eps = config.mask_shift * space.length(config.shift_unit)
            atomic_write(sheet, marked_png(png_bytes(_sheet(generator, list(found.values()), eps, ctx))))

    return rows


def _learned(extractors: Mapping[str, MaskExtractor], latents: Tensor) -> list[Candidate]:
    found = []
    for run, part in extractors.items():
        if not isinstance(part, Directions):
            raise CapabilityError(
                f"the extractor of '{run}' is {type(part).__name__}, not directions", "give a run of directions"
            )
        check_shape(latents, part.space.shape)
        rows = part.directions.to(latents.device)
        found += [Candidate(f"{name} of {run}", row) for name, row in zip(NAMES, rows, strict=True)]
    return found


def _sheet(generator: Generator, directions: list[Tensor], eps: float, ctx: RunContext) -> Tensor:
    batch = generator.sample(ctx.seeds("preview", SHOWN))
    rows = [batch.images, *(shift(generator, batch, direction, eps) for direction in directions)]
    return grid(to_pixels(torch.cat(rows)).cpu(), SHOWN)
