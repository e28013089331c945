"""The command evaluate-pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gsegkit.cli import early
from gsegkit.cli import options as c
from gsegkit.cli.options import console, print_json
from gsegkit.cli.terminal import print_metrics


def evaluate_pairs(
    pairs: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder, or a folder of gsegkit synthesize.")],
    by: Annotated[
        Path,
        typer.Option("--by", metavar="PATH", help="The other network: a run, an ONNX file, or a folder of its masks."),
    ],
    samples: Annotated[int, typer.Option("--samples", min=1, help="Score the first so many pairs.")] = 1000,
    evaluator: Annotated[str, typer.Option("--eval", metavar="NAME", help="Evaluator.")] = "masks",
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    device: c.Device = None,
    option: c.Options = None,
    as_json: c.AsJson = False,
    quiet: c.Quiet = False,
) -> None:
    """Score the masks of generated pairs against another network's masks of the same pictures."""
    options, of_file, reader = c.only(option, "eval", "by", "data_reader")
    early.check_there(pairs, early.RUN_REMEDY)
    early.check_there(by)
    early.check_part("evaluator", evaluator, options)
    early.check_reader(reader)
    from gsegkit import api

    report = api.evaluate_pairs(
        pairs, by, num_images=samples, evaluator=evaluator, options=options, by_options=of_file,
        reader_options=reader, seed=seed, device=device or "auto", session=c.session(quiet),
    )  # fmt: skip
    if as_json:
        print_json(report.to_json())
    else:
        print_metrics(console, report.to_json())
