"""The command of masks that people paint: annotate. `paint` opens what it makes."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from gsegkit.cli import early
from gsegkit.cli import options as c
from gsegkit.cli.options import console


def annotate(
    run_folder: c.RunFolder,
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where pictures and masks go.")],
    samples: Annotated[
        int, typer.Option("--samples", min=1, help="Pictures to annotate, those of earlier calls included.")
    ] = 10,
    classes: c.NamesOfRun = None,
    no_draft: Annotated[bool, typer.Option("--no-draft", help="Masks begin empty, not with the run's own.")] = False,
    device: c.Device = None,
    quiet: c.Quiet = False,
) -> None:
    """Make a folder of pictures and first masks for you to correct. Repeat it with more --samples to add pictures."""
    early.check_there(run_folder, early.RUN_REMEDY)
    early.check_names(classes)
    from gsegkit import api

    api.annotate(
        run_folder, out, num_samples=samples, classes=classes, draft=not no_draft, device=device or "auto",
        session=c.session(quiet),
    )  # fmt: skip
    console.print(f"pictures and masks in {out}", soft_wrap=True)
    console.print(f"next: {shlex.join(['gsegkit', 'paint', str(out), '--serve'])}", soft_wrap=True)
