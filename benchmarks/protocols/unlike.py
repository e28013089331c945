"""Masks that no generator makes, painted: two nuclei in a cell, a square cell, a face ... and what fails."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from benchmarks.protocols.common import Lab
from benchmarks.protocols.photographs import our_run
from gsegkit import api
from gsegkit.classes.colours import run_palette
from gsegkit.images import grid, to_pixels, write_png
from gsegkit.interfaces import Segmenter
from gsegkit.painting import Painter
from gsegkit.rundir import stage_key
from gsegkit.seeds import sample_seeds

STYLES = 4  # pictures of each mask
SIDE = 64  # of the grid on which the masks are defined; they are stretched to the painter's size
PLASMA, RED, CELL, NUCLEUS = "plasma", "red cell", "cytoplasm", "nucleus"

Where = Callable[[Tensor, Tensor], Tensor]


def disc(y: float, x: float, radius: float, wide: float = 1.0) -> Where:
    """An ellipse around (y, x), `wide` times as wide as high."""
    return lambda rows, columns: ((rows - y) ** 2 + ((columns - x) / wide) ** 2) <= radius**2


def box(top: float, left: float, bottom: float, right: float) -> Where:
    """A rectangle."""
    return lambda rows, columns: (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)


def smile(rows: Tensor, columns: Tensor) -> Tensor:
    """The lower half of a ring."""
    apart = ((rows - 34) ** 2 + (columns - 32) ** 2).sqrt()
    return (apart > 11) & (apart < 16) & (rows > 37)


#: Name of a mask -> what is drawn over what, first to last.
MASKS: Mapping[str, tuple[tuple[str, Where], ...]] = {
    "an ordinary cell": (
        (RED, disc(8, 10, 10)), (RED, disc(55, 52, 11)), (CELL, disc(32, 32, 18)), (NUCLEUS, disc(31, 30, 10)),
    ),
    "two nuclei": ((CELL, disc(32, 32, 20)), (NUCLEUS, disc(32, 23, 7)), (NUCLEUS, disc(32, 42, 7))),
    "a square cell": ((CELL, box(14, 14, 50, 50)), (NUCLEUS, box(24, 24, 40, 40))),
    "a hole": ((CELL, disc(32, 32, 21)), (NUCLEUS, disc(32, 32, 14)), (PLASMA, disc(32, 32, 7))),
    "half a cell": ((CELL, disc(32, 32, 20)), (NUCLEUS, disc(32, 32, 10)), (PLASMA, box(0, 32, SIDE, SIDE))),
    "nothing but nucleus": ((NUCLEUS, box(0, 0, SIDE, SIDE)),),
    "nothing but plasma": (),
    "a face of nucleus": ((NUCLEUS, disc(24, 24, 4)), (NUCLEUS, disc(24, 40, 4)), (NUCLEUS, smile)),
}  # fmt: skip


def draw(
    lab: Lab,
    weights: str,
    names: str,
    painter: Mapping[str, Any],
    scorer_steps: int = 800,
    file: str = "unlike.png",
) -> dict[str, Any]:
    """Draw docs/figures/painters/FILE, and score each row by a segmenter that took no part in the training.

    Args:
        lab: see `Lab`; its first seed makes the run and trains the painter.
        weights: of the zoo.
        names: that ship with them, with the classes of `MASKS`.
        painter: options of `class-adaptive`.
        scorer_steps: of the scoring segmenter.
        file: name of the picture.
    """
    seed, classes = lab.seeds[0], "" if lab.tiny else names
    run = our_run(lab, [f"gen.weights={weights}"], seed, classes=classes)
    options = {**painter, "steps": 3} if lab.tiny else dict(painter)
    folder = lab.work / "painters" / stage_key(run.name, options, seed)
    trained = api.train_painter(run, folder, options=options, seed=seed, device=str(lab.device))
    steps = 3 if lab.tiny else scorer_steps
    scorer = api.train(run, "fpn", lab.work / "scorers" / run.name, options={"steps": steps}, seed=12345, update=True)
    drawn = {name: mask(trained, parts) for name, parts in MASKS.items()}
    palette = run_palette(run, trained.classes)
    tiles, found = [], {}
    for name, one in drawn.items():
        pictures = painted(trained, one)
        tiles += [palette[one.long()].permute(2, 0, 1), *pictures]
        found[name] = agreement(scorer.eval(), one, pictures)
    path = lab.figures("painters") / file
    write_png(path, grid(torch.stack(tiles), 2 * (1 + STYLES)))
    return {"file": path.name, "agreement": found, "bytes": path.stat().st_size}


def mask(painter: Painter, parts: tuple[tuple[str, Where], ...]) -> Tensor:
    """[H, W] uint8 of the painter's size; classes that it does not have (a tiny run's) are its last."""
    height, width = painter.train_size
    rows = ((torch.arange(height) + 0.5) * SIDE / height)[:, None]
    columns = ((torch.arange(width) + 0.5) * SIDE / width)[None]
    found = torch.full((height, width), _number(painter, PLASMA), dtype=torch.uint8)
    for name, where in parts:
        found[where(rows, columns).expand(height, width)] = _number(painter, name)
    return found


def painted(painter: Painter, one: Tensor) -> Tensor:
    """`STYLES` pictures of a mask: [STYLES, 3, H, W] uint8."""
    z = painter.latents(sample_seeds(0, "preview", 0, STYLES))
    return to_pixels(painter.paint(one.expand(STYLES, -1, -1).contiguous(), z)).cpu()


def agreement(scorer: Segmenter, one: Tensor, pictures: Tensor) -> float:
    """Share of the pixels in which the segmenter finds what was to be painted."""
    return round(float((scorer.predict(pictures).cpu() == one).float().mean()), 3)


def _number(painter: Painter, name: str) -> int:
    return painter.classes.index(name) if name in painter.classes else len(painter.classes) - 1
