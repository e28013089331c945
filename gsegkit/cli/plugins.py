"""Commands for plugin authors: new-plugin, test-plugin."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from gsegkit.cli.options import AsJson, console, print_json
from gsegkit.cli.terminal import make_table
from gsegkit.errors import UnknownPluginError
from gsegkit.plugins import KIND_ALIASES, Entry, installed


def new_plugin(
    kind: Annotated[str, typer.Argument(help="generator, extractor, refiner, segmenter, evaluator ...")],
    name: Annotated[str, typer.Argument(help="Name on the command line, e.g. my-method.")],
    folder: Annotated[Path | None, typer.Option("--out", metavar="FOLDER", help="Where to write it.")] = None,
) -> None:
    """Write an installable plugin with a working trivial implementation and its tests."""
    from gsegkit.scaffold import new_plugin as write

    kind = KIND_ALIASES.get(kind, kind)
    made = write(kind, name, folder or Path(f"gsegkit-{name}"))
    console.print(f"plugin in {made}")
    console.print(f"next: pip install -e {made} && gsegkit test-plugin {name}", soft_wrap=True)


def check_plugin(
    name: Annotated[str, typer.Argument(help="A component, a distribution, or NAME@DIST.")],
    kind: Annotated[str | None, typer.Option("--kind", help="Needed if several kinds use the name.")] = None,
    as_json: AsJson = False,
) -> None:
    """Run the conformance checks over a plugin's components."""
    from gsegkit.testing import run_checks

    failed = 0
    rows = []
    for entry in _entries(name, kind):
        results = run_checks(entry)
        failed += sum(result.status == "failed" for result in results)
        rows += [(entry, result) for result in results]
    if as_json:
        print_json([{"component": entry.full_name, **vars(result)} for entry, result in rows])
    else:
        table = make_table("", "component", "check", "result", "")
        colours = {"passed": "green", "failed": "red"}
        for entry, result in rows:
            colour = colours.get(result.status, "yellow")
            table.add_row(entry.component.name, result.check, Text(result.status, colour), result.message)
        console.print(table)
        console.print(f"{len(rows) - failed} of {len(rows)} checks without failure")
    if failed:
        raise typer.Exit(1)


def _entries(name: str, kind: str | None) -> list[Entry]:
    registry = installed()
    if kind is not None:
        return [registry.find(kind, name)]
    short, _, dist = name.partition("@")
    found = [
        entry
        for entry in registry.entries
        if (entry.component.name == short and dist in ("", entry.dist)) or entry.dist == name
    ]
    if not found:
        broken = [failure for failure in registry.failures if failure.dist == name]
        hint = f"it failed to load: {broken[0].reason}" if broken else "gsegkit list shows what is installed"
        raise UnknownPluginError(f"no component or distribution '{name}'", hint)
    return found
