"""The command `gsegkit layered cluster`. Light: torch is imported when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gsegkit.cli.options import AsJson, Options, Quiet, console, only, print_json, session
from gsegkit.cli.terminal import make_table

layered = typer.Typer(name="layered", help="What a layered GAN learned besides its masks.", no_args_is_help=True)


@layered.callback()
def _group() -> None:
    """What a layered GAN learned besides its masks."""


@layered.command()
def cluster(
    gen: Annotated[str, typer.Argument(metavar="GEN", help="A run folder, or the folder of a trained generator.")],
    photos: Annotated[Path, typer.Argument(metavar="PHOTOS", help="Folder of photographs.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="CSV to write: file, cluster, confidence.")],
    sheet: Annotated[
        Path | None,
        typer.Option("--sheet", metavar="PNG", help="Draw the most confident photographs, one row per cluster."),
    ] = None,
    by_folder: Annotated[
        bool, typer.Option("--by-folder", help="Use the photographs' folders as classes and print the NMI.")
    ] = False,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1 ...")] = "auto",
    option: Options = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Sort photographs by the private code that the network reads in them. No label is used, except for --by-folder."""
    (options,) = only(option, "data_reader")
    talk = session(quiet)
    from gsegkit.api import open_generator
    from gsegkit_layered.clustering import cluster_photographs

    ctx = talk.context(photos, device)
    generator = open_generator(gen, talk).to(ctx.device)
    images = talk.registry.build("dataset", "folder", options).images(photos)
    found = cluster_photographs(generator, images, photos, out, ctx, sheet=sheet, by_folder=by_folder)
    if as_json:
        print_json(found)
        return
    table = make_table("", "cluster", "photographs")
    for name, count in found["clusters"].items():
        table.add_row(str(name), str(count))
    console.print(table)
    if "nmi" in found:
        console.print(f"NMI with the folders: {found['nmi']:.3f} (arithmetic mean of the entropies)", highlight=False)
    for path in (out, sheet):
        if path is not None:
            console.print(f"wrote {path}", highlight=False, soft_wrap=True)
