"""The command compare: which method to take on a folder of photographs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gsegkit.cli import early
from gsegkit.cli import options as c
from gsegkit.cli.options import console, print_json
from gsegkit.cli.terminal import make_table
from gsegkit.errors import ConfigError

if TYPE_CHECKING:
    from gsegkit.comparing.compare import Comparison

SHOWN = 8  # rows on the terminal


def compare(
    data: Annotated[Path, typer.Option("--data", metavar="FOLDER", help="Photographs, with masks or without.")],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where page and results go.")],
    methods: Annotated[
        str | None, typer.Option("--methods", metavar="A,B,...", help="These baselines only. Default: all installed.")
    ] = None,
    runs: Annotated[
        list[Path] | None, typer.Option("--runs", metavar="RUN", help="A finished run; repeat as needed.")
    ] = None,
    budget: Annotated[str, typer.Option("--budget", help="Time: 90s, 10m, 1h. What does not fit is left out.")] = "10m",
    labelled: Annotated[
        int, typer.Option("--labelled", min=0, help="Most photographs whose labels may be used; they are not scored.")
    ] = 20,
    photographs: Annotated[
        int, typer.Option("--photographs", min=1, help="Most photographs; of more, as many are drawn.")
    ] = 200,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    update: Annotated[
        bool, typer.Option("--update", help="Replace a comparison of other photographs, or of fewer of them.")
    ] = False,
    device: c.Device = None,
    option: c.Options = None,
    as_json: c.AsJson = False,
    quiet: c.Quiet = False,
) -> None:
    """Say which method to take on your photographs. Repeat the command to continue."""
    (reader,) = c.only(option, "data_reader")
    names = method_names(methods)
    early.check_there(data)
    for run in runs or ():
        early.check_there(run, early.RUN_REMEDY)
    for name in names or ():
        early.check_part("segmenter", name)
    early.check_reader(reader)
    from gsegkit import api

    found = api.compare(
        data, out, methods=names, runs=runs or (), budget=budget, labelled=labelled, photographs=photographs,
        reader_options=reader, seed=seed, update=update, device=device or "auto", session=c.session(quiet),
    )  # fmt: skip
    if as_json:
        print_json(found.to_json())
    else:
        _print(found)


def method_names(methods: str | None) -> list[str] | None:
    """The names in --methods; None = none given. ConfigError for an empty one."""
    if methods is None:
        return None
    names = [name.strip() for name in methods.split(",")]
    if not all(names):
        raise ConfigError(f"--methods '{methods}' holds an empty name", "separate names with single commas")
    return names


def _print(found: Comparison) -> None:
    from gsegkit.comparing.validated import CRITERIA, SORTED_BY

    columns = ("foreground IoU", "below .5", "parts, mIoU") if found.annotated else (SORTED_BY,)
    table = make_table("", "method", *columns, "seconds an image", "labels consumed")
    for row in found.rows[:SHOWN]:
        numbers = (row.foreground, row.below_half, row.miou) if found.annotated else (row.criteria.get(SORTED_BY),)
        texts = ["—" if value is None else f"{value:.3f}" for value in numbers]
        table.add_row(row.name, *texts, f"{row.seconds:.3f}", row.labels)
    console.print(table)
    if len(found.rows) > SHOWN:
        console.print(f"and {len(found.rows) - SHOWN} more on the page")
    for one in found.left_out:
        console.print(f"left out: {one.name} ({one.why})", soft_wrap=True)
    for note in found.notes:
        console.print(f"note: {note}", soft_wrap=True)
    if not found.annotated:
        with_runs = any(row.ours for row in found.rows)
        worth = ", ".join(f"{name} {one.worth(with_runs):.2f}" for name, one in CRITERIA.items())
        console.print(f"rank correlation of each criterion with the true IoU: {worth}", soft_wrap=True)
    for text in (found.sentence, found.parts):
        if text:
            console.print(text, soft_wrap=True)
    console.print(f"page: {found.page}", soft_wrap=True)
