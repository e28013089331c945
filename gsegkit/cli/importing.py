"""The command import."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gsegkit.cli.early import check_part, check_there
from gsegkit.cli.options import AsJson, Options, console, only, print_json


def import_file(
    file: Annotated[Path, typer.Argument(help="Checkpoint from other software (.pkl, .pt, .pth ...) or its folder.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FOLDER", help="Where the result goes; beside FILE by default.")
    ] = None,
    look: Annotated[bool, typer.Option("--look", help="Only print what the file is.")] = False,
    reader: Annotated[
        str, typer.Option("--reader", metavar="NAME", help="Checkpoint reader to use if several recognise the file.")
    ] = "",
    option: Options = None,
    as_json: AsJson = False,
) -> None:
    """Convert weights of other software to safetensors, once, executing nothing of the file. -o reader.option=value."""
    (options,) = only(option, "reader")
    check_there(file)
    if reader:
        check_part("checkpoint-reader", reader, options)
    from gsegkit import api
    from gsegkit.parts import CARD_FILE
    from gsegkit.storage import read_json

    if look:
        found = api.look_at_checkpoint(file, reader=reader, options=options)
        if as_json:
            print_json({**found.card, found.kind: found.component, "layout": found.layout, "notes": found.notes})
            return
        typer.echo(f"{found.component}: {found.layout}, {found.summary} ({found.source.get('container', 'file')})")
        _tell(found.notes, found.licence)
        return
    folder = api.import_checkpoint(file, out, reader=reader, options=options)
    card = read_json(folder / CARD_FILE)
    if as_json:
        print_json({**card, "folder": str(folder)})
        return
    about = ", ".join(text for text in (card["layout"], card.get("summary")) if text)
    console.print(f"{about}: imported to {folder}", markup=False, highlight=False, soft_wrap=True)
    _tell(card["notes"], card["licence"])
    then = f"gsegkit paint {folder} --serve"
    if "generator" in card:
        then = f"gsegkit check --gen {card['generator']} -o gen.weights={folder} --extractor klish --seg unet"
    console.print(f"next: {then}", markup=False, highlight=False, soft_wrap=True)


def _tell(notes: tuple[str, ...] | list[str], licence: str) -> None:
    for text in (*(f"note: {note}" for note in notes), f"licence: {licence}"):
        console.print(text, markup=False, highlight=False, soft_wrap=True)
