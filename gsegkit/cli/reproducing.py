"""The command reproduce: a paper's table on this machine, the paper's numbers beside ours."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gsegkit.cli import options as c
from gsegkit.cli.options import console, print_json
from gsegkit.cli.terminal import make_table
from gsegkit.errors import ConfigError, plural
from gsegkit.progress import number
from gsegkit.reproducing.given import Given
from gsegkit.reproducing.recipes import EXACT, Recipe, find_recipe, read_recipes

if TYPE_CHECKING:
    from gsegkit.api.reproducing import Reproduced
    from gsegkit.reproducing.planned import Planned
    from gsegkit.reproducing.result import RowResult

FAILED = 2  # exit code when a row failed


def reproduce(
    table: Annotated[str | None, typer.Argument(metavar="TABLE", help="A table, such as directions-1.")] = None,
    list_tables: Annotated[bool, typer.Option("--list", help="Print the tables and what is missing here.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Look at weights, data and options, print plan and cost, and end.")
    ] = False,
    rows: Annotated[
        str | None, typer.Option("--rows", metavar="A,B,...", help="These rows only; * stands for anything.")
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            "--data", metavar="ROOT", help="Folder with data sets below it, or NAME=FOLDER; repeat as needed."
        ),
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option("--weights", metavar="FILE", help="A file, a folder of files, or NAME=FILE; repeat as needed."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FOLDER", help="Runs and results. Default: runs/reproduce-PAPER."),
    ] = None,
    smoke: Annotated[bool, typer.Option("--smoke", help="Limit every loop to 3 steps; not comparable.")] = False,
    other_data: Annotated[
        bool, typer.Option("--other-data", help="Go on with another number of images; not comparable.")
    ] = False,
    recipes: Annotated[
        Path | None, typer.Option("--recipes", metavar="FOLDER", help="Recipes of your own instead of the papers'.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    device: c.Device = None,
    as_json: c.AsJson = False,
    quiet: c.Quiet = False,
) -> None:
    """Measure a table of a paper, the paper's numbers beside ours. Repeat the command to resume."""
    if list_tables:
        if table is not None:
            raise ConfigError("--list prints all tables", f"gsegkit reproduce {table} --dry-run prints one")
        _list(read_recipes(recipes), data or [], weights or [], as_json)
        return
    if table is None:
        raise ConfigError("which table?", "gsegkit reproduce --list prints them")
    recipe = find_recipe(table, recipes)
    chosen = None if rows is None else [name.strip() for name in rows.split(",")]
    recipe.table.chosen(None if chosen is None else tuple(chosen))
    Given.of(data or [], weights or [], [recipe.paper])
    from gsegkit import api

    command = shlex.join(["gsegkit", *sys.argv[1:]])
    done = api.reproduce(
        table, data=data or [], weights=weights or [], rows=chosen, out=out, dry_run=dry_run, smoke=smoke,
        other_data=other_data, recipes=recipes, seed=seed, device=device or "auto", command=command,
        session=c.session(quiet),
    )  # fmt: skip
    if as_json:
        print_json(_as_json(done))
    elif dry_run:
        _print_plan(done)
    else:
        _print_result(done)
    mine = {planned.row.name for planned in done.work.ready}
    if not dry_run and any(one.status == "failed" for name, one in done.result.rows.items() if name in mine):
        raise typer.Exit(FAILED)


# ---- what is printed ---------------------------------------------------------------------------------------------


def _list(recipes: dict[str, Recipe], data: list[str], weights: list[str], as_json: bool) -> None:
    given = Given.of(data, weights, [recipe.paper for recipe in recipes.values()])
    lines = [_line(recipe, given) for recipe in recipes.values()]
    if as_json:
        print_json(lines)
        return
    table = make_table("", "table", "shows", "rows", "missing here")
    for line in lines:
        missing = "; ".join(line["missing"]) or "nothing"
        counts = f"{line['measured']} of {line['rows']}" + (f", {line['exact']} exact" if line["exact"] else "")
        table.add_row(line["table"], line["title"], counts, missing if line["measured"] else "—")
    console.print(table)
    console.print("rows: that can be measured, of all; exact ones need no trained weights")
    console.print("next: gsegkit reproduce TABLE --dry-run", soft_wrap=True)


def _line(recipe: Recipe, given: Given) -> dict[str, Any]:
    """A table, and which files and folders it still needs."""
    paper, measured = recipe.paper, [row for row in recipe.table.rows if row.runs_here]
    files = dict.fromkeys(name for row in measured for name in recipe.weights_of(row))
    folders = dict.fromkeys(name for row in measured if row.how != "counts" for name in recipe.data_of(row))
    missing = [paper.weights[name].title for name in files if given.file_of(name, paper.weights[name]) is None]
    missing += [paper.data[name].title for name in folders if given.folder_of(name, paper.data[name].folders) is None]
    exact = sum(row.how in EXACT for row in measured)
    return {
        "table": recipe.name, "title": recipe.table.title, "paper": paper.title, "rows": len(recipe.table.rows),
        "measured": len(measured), "exact": exact, "missing": list(dict.fromkeys(missing)),
    }  # fmt: skip


def _print_plan(done: Reproduced) -> None:
    recipe, work = done.work.recipe, done.work
    console.print(f"{recipe.paper.title}: {recipe.table.title}", soft_wrap=True)
    table = make_table("", "row", "method", "the paper", "by", "state")
    for planned in work.rows:
        table.add_row(planned.row.name, planned.row.method, _printed(planned), _by(planned), _state(planned))
    console.print(table)
    for text in dict.fromkeys(text for planned in work.rows for text in planned.missing if planned.state == "missing"):
        console.print(f"missing: {text}", soft_wrap=True)
    opened = {name: one for planned in work.rows for name, one in planned.data.items()}
    for name, one in opened.items():
        for note in one.notes[:1]:
            console.print(f"data {name}: {note}", soft_wrap=True)
        if one.other:
            console.print(f"note: {one.other}: not comparable", soft_wrap=True)
    differs = dict.fromkeys((*recipe.table.differs, *(text for planned in work.rows for text in planned.row.differs)))
    for text in (*differs, *recipe.table.notes):
        console.print(f"note: {text}", soft_wrap=True)
    for state in ("ready", "missing"):
        for run in work.runs(state):
            cost = recipe.paper.runs[run].cost
            on = f" on {cost.gpu}" if cost.gpu else ""
            hours = f"about {cost.gpu_hours:g} hours{on}, {cost.disk_gb:g} GB of disk ({cost.basis})"
            console.print(f"run {run}: {hours}", soft_wrap=True)
    console.print(f"{plural(len(work.ready), 'row')} can be measured here", soft_wrap=True)


def _print_result(done: Reproduced) -> None:
    table = make_table("", "row", "metric", "the paper", "ours", "difference", "tolerance", "verdict")
    for planned in done.work.rows:
        found = done.result.rows.get(planned.row.name)
        if planned.state == "ready" and found is not None:
            for one in found.numbers:
                ours = "undefined" if one.ours is None else number(one.ours)
                difference = "" if one.difference is None else f"{one.difference:+.4g}"
                table.add_row(
                    planned.row.name, one.metric, f"{one.paper:g}", ours, difference, f"{one.tolerance:g}", one.verdict
                )
        elif planned.row.paper:
            table.add_row(planned.row.name, "", _printed(planned), "—", "", "", _state(planned))
    console.print(table)
    for planned in done.work.rows:
        for text in planned.missing if planned.state == "missing" else ():
            console.print(f"row {planned.row.name} needs {text}", soft_wrap=True)
    for name, found in done.result.rows.items():
        if found.status == "failed":
            console.print(f"row {name} failed: {found.message}", soft_wrap=True)
    console.print(f"result: {done.file}", soft_wrap=True)


def _printed(planned: Planned) -> str:
    row = planned.row
    texts = [f"{name} {value:g}" for name, value in row.paper.items()]
    return ", ".join([*texts, *(f"{name} {value}" for name, value in row.printed.items())])


def _by(planned: Planned) -> str:
    return ", ".join(planned.row.used_runs) or (planned.row.component or planned.row.how)


def _state(planned: Planned) -> str:
    if planned.state == "lacking":
        return f"cannot be measured: {planned.row.lacks}"
    return {"ready": "ready", "missing": "missing", "quoted": "quoted"}[planned.state]


def _as_json(done: Reproduced) -> dict[str, Any]:
    rows: dict[str, RowResult] = dict(done.result.rows)
    plan = [
        {
            "row": one.row.name, "method": one.row.method, "state": one.state, "missing": list(one.missing),
            "paper": one.row.paper, "printed": one.row.printed, "runs": list(one.row.used_runs),
            "data": {
                name: {"folder": str(opened.folder), "images": opened.count, "other": opened.other}
                for name, opened in one.data.items()
            },
            "result": rows[one.row.name].model_dump(mode="json") if one.row.name in rows else None,
        }
        for one in done.work.rows
    ]  # fmt: skip
    cost = done.work.cost()
    return {
        "table": done.work.recipe.name, "file": str(done.file) if done.file else None, "rows": plan,
        "gpu_hours": cost.gpu_hours, "disk_gb": cost.disk_gb,
    }  # fmt: skip
