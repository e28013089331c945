"""The command `gsegkit unpack`. Light: it imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gsegkit.cli.options import AsJson, Quiet, console, print_json, stop_signal
from gsegkit.cli.terminal import make_progress


def unpack(
    tables: Annotated[Path, typer.Argument(metavar="TABLES", help="Parquet or Arrow file, or a folder of them.")],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where images and masks go.")],
    image: Annotated[str, typer.Option("--image", metavar="COLUMN", help="Column of the images.")] = "",
    mask: Annotated[str, typer.Option("--mask", metavar="COLUMN", help="Column of the masks.")] = "",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Save a data set's tables, as Hugging Face keeps them, as images and masks that every reader takes."""
    from gsegkit_datasets import tables as library

    done = library.unpack(
        tables, out, image=image, mask=mask, progress=make_progress(console, quiet), stop=stop_signal()
    )
    if as_json:
        print_json({"folder": str(done.folder), "images": done.images, "masks": done.masks, "columns": done.columns})
        return
    for split, count in done.images.items():
        masks = f", {done.masks[split]:,} masks" if split in done.masks else ""
        console.print(f"{out / split}: {count:,} images{masks}", markup=False, highlight=False, soft_wrap=True)
    split, other = next(iter(done.images)), next(reversed(done.images))
    then = f"gsegkit evaluate RUN --data {out / other}" if done.masks else f"gsegkit start {out / split}"
    console.print(f"next: {then}", markup=False, highlight=False, soft_wrap=True)
