"""The command `gsegkit directions score`. Light: torch is imported when it runs."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from gsegkit.cli.options import AsJson, Options, Quiet, console, print_json, session
from gsegkit.cli.terminal import make_table
from gsegkit.config import build_config, parse_assignments
from gsegkit.errors import ConfigError
from gsegkit_directions.config import ColourMapsConfig

directions = typer.Typer(name="directions", help="Latent directions of a generator.", no_args_is_help=True)


@directions.callback()
def _group() -> None:
    """Latent directions of a generator."""


@directions.command()
def score(
    gen: Annotated[str, typer.Argument(metavar="GEN", help="Generator, by name.")],
    learned: Annotated[
        list[Path] | None,
        typer.Option(
            "--learned", metavar="RUN", help="Also rank the light and dark directions of a run; repeat as needed."
        ),
    ] = None,
    top: Annotated[int, typer.Option("--top", min=1, help="Number of rows of the table.")] = 10,
    save: Annotated[
        Path | None, typer.Option("--save", metavar="FILE", help="Write the best direction, for extractor.direction.")
    ] = None,
    sheet: Annotated[
        Path | None,
        typer.Option("--sheet", metavar="PNG", help="Draw the effect of the best directions, one row each."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the images and of the random candidates.")] = 0,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1 ...")] = "auto",
    option: Options = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Rank random, coordinate and principal directions by Voynov's two colour maps, without gradients.

    Options: -o gen.NAME=VALUE for the generator, -o extractor.NAME=VALUE for those of the extractor colour-maps.
    """
    parts = parse_assignments(option or [])
    unknown = sorted(set(parts) - {"gen", "extractor"})
    if unknown:
        raise ConfigError(f"option '{unknown[0]}.…': this command has no such part", "parts: gen, extractor")
    config = build_config(ColourMapsConfig, parts.get("extractor", {}), "extractor")
    talk = session(quiet)
    from gsegkit.api import load
    from gsegkit_directions.ranking import score_generator

    with tempfile.TemporaryDirectory(prefix="gsegkit-score-") as folder:
        ctx = talk.context(Path(folder) / "score", device, seed)
        generator = talk.registry.build("generator", gen, parts.get("gen", {})).to(ctx.device)
        fitted = {run.name: load(run, "extractor", session=talk) for run in learned or []}
        rows = score_generator(generator, config, ctx, learned=fitted, top=top, save=save, sheet=sheet)
    if as_json:
        print_json(rows)
        return
    table = make_table("", "", "direction", "split", "residual", "change")
    for number, row in enumerate(rows, 1):
        table.add_row(str(number), row["name"], *(f"{row[key]:.4f}" for key in ("split", "residual", "change")))
    console.print(table)
    console.print(_words(rows), highlight=False, soft_wrap=True)
    for path in (save, sheet):
        if path is not None:
            console.print(f"wrote {path}", highlight=False, soft_wrap=True)


def _words(rows: list[dict[str, Any]]) -> str:
    best = rows[0]["name"]
    return (
        f"best: {best}. split: error that the second colour map removes, relative to what both leave (high = object "
        "and background change independently); residual: what they leave (the published score, low = good); "
        "change: of the images"
    )
