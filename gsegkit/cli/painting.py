"""The command train-painter: pictures from masks, learned from the pairs of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gsegkit.cli import early
from gsegkit.cli import options as c
from gsegkit.cli.options import console


def train_painter(
    run_folder: c.RunFolder,
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where the painter goes.")],
    painter: Annotated[str, typer.Option("--painter", metavar="NAME", help="Painter.")] = "class-adaptive",
    classes: c.NamesOfRun = None,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    update: c.Update = False,
    device: c.Device = None,
    option: c.Options = None,
    quiet: c.Quiet = False,
) -> None:
    """Train a painter on the pairs of a run: pictures from masks. Repeat the command to resume."""
    (options,) = c.only(option, "painter")
    early.check_there(run_folder, early.RUN_REMEDY)
    early.check_names(classes)
    early.check_part("painter", painter, options)
    from gsegkit import api

    api.train_painter(
        run_folder, out, painter=painter, classes=classes, options=options, seed=seed, update=update,
        device=device or "auto", session=c.session(quiet),
    )  # fmt: skip
    console.print(f"painter in {out}; what it paints: {out / 'figures' / 'painted.png'}", soft_wrap=True)
