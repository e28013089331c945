"""The command fit: a segmenter straight from photographs, without a generator."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gsegkit.cli import early
from gsegkit.cli import options as c
from gsegkit.cli.options import console


def fit(
    name: Annotated[str, typer.Argument(help="A segmenter that needs no pairs: otsu, colour-kmeans, few-labels ...")],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where the segmenter goes.")],
    data: Annotated[
        Path | None, typer.Option("--data", metavar="FOLDER", help="Photographs, with masks where labels are used.")
    ] = None,
    labels: Annotated[
        int | None,
        typer.Option("--labels", help="Most annotated photographs to learn from, or to name clusters by."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    update: c.Update = False,
    device: c.Device = None,
    option: c.Options = None,
    quiet: c.Quiet = False,
) -> None:
    """Make a segmenter straight from a folder of photographs, without a generator."""
    options, reader = c.only(option, "seg", "data_reader")
    early.check_part("segmenter", name, options)
    early.check_there(data)
    early.check_reader(reader)
    from gsegkit import api

    made = api.fit(
        name, data, out, labels=labels, options=options, reader_options=reader, seed=seed, update=update,
        device=device or "auto", session=c.session(quiet),
    )  # fmt: skip
    used = f" (labels consumed: {made.labels_consumed})" if made.labels_consumed else ""
    console.print(f"segmenter in {out}{used}; next: gsegkit predict {out} PHOTOS --out FOLDER", soft_wrap=True)
