"""The command `gsegkit import`. Light: torch is imported when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def add_import_command(app: Any) -> None:
    """Add `gsegkit import FILE` to the command line."""
    app.command("import")(import_file)


def import_file(
    file: Annotated[Path, typer.Argument(help="Checkpoint: NVIDIA .pkl, rosinality .pt, genforce .pth ...")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FOLDER", help="Where the result goes; beside FILE by default.")
    ] = None,
    look: Annotated[bool, typer.Option("--look", help="Say what the file is, and write nothing.")] = False,
) -> None:
    """Convert a StyleGAN or PGGAN checkpoint to safetensors, once, executing nothing of it."""
    from gsegkit.storage import read_json
    from gsegkit_stylegan.readers.importer import CARD_FILE, import_checkpoint, sniff

    if look:
        typer.echo(sniff(file))
        return
    folder = import_checkpoint(file, out)
    card = read_json(folder / CARD_FILE)
    typer.echo(f"{card['layout']}, {card['arch']['resolution']} px: imported to {folder}", err=True)
    for note in card["notes"]:
        typer.echo(f"note: {note}", err=True)
    typer.echo(f"next: gsegkit check --gen {card['generator']} -o gen.weights={folder}", err=True)
