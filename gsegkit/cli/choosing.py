"""The command choose: a person chooses by looking, and a segmenter learns from the choice."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from gsegkit.cli import early
from gsegkit.cli import options as c
from gsegkit.cli.comparing import method_names
from gsegkit.cli.options import console, print_json
from gsegkit.errors import ConfigError


def choose(
    photographs: Annotated[Path, typer.Argument(metavar="PHOTOS", help="Folder of photographs.")],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where page and segmenter go.")],
    choice: Annotated[
        Path | None, typer.Option("--choice", metavar="FILE.json", help="What the page saved: train from it.")
    ] = None,
    methods: Annotated[
        str | None, typer.Option("--methods", metavar="A,B,...", help="These baselines only. Default: all installed.")
    ] = None,
    runs: Annotated[
        list[Path] | None, typer.Option("--runs", metavar="RUN", help="A finished run; repeat as needed.")
    ] = None,
    budget: Annotated[str, typer.Option("--budget", help="Time for the methods: 90s, 10m, 1h.")] = "10m",
    seg: Annotated[str, typer.Option("--seg", metavar="NAME", help="Segmenter that learns from the choice.")] = "unet",
    side: Annotated[
        int, typer.Option("--side", min=16, max=2048, help="Longer side in pixels that it learns at.")
    ] = 128,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    device: c.Device = None,
    option: c.Options = None,
    as_json: c.AsJson = False,
    quiet: c.Quiet = False,
) -> None:
    """Choose between methods by looking; with --choice, train a segmenter from it. Uses no labels."""
    options, reader = c.only(option, "seg", "data_reader")
    names = method_names(methods)
    early.check_there(photographs)
    early.check_there(choice, "save it from the page that gsegkit choose makes")
    for run in runs or ():
        early.check_there(run, early.RUN_REMEDY)
    for name in names or ():
        early.check_part("segmenter", name)
    early.check_part("segmenter", seg, options)
    early.check_reader(reader)
    if options and choice is None:
        raise ConfigError("options of the segmenter were given without --choice", "choose first")
    from gsegkit import api
    from gsegkit.api.choosing import choose_command

    session, where = c.session(quiet), device or "auto"
    if choice is None:
        page = api.choose(
            photographs, out, methods=names, runs=runs or (), budget=budget, reader_options=reader, seed=seed,
            device=where, session=session,
        )  # fmt: skip
        if as_json:
            print_json({"page": str(page)})
            return
        console.print(f"page: {page}", soft_wrap=True)
        console.print("open it in a browser, click the best answers, save choice.json; then")
        command = choose_command(photographs, out, names, runs or (), seed)
        console.print(f"next: {command}", soft_wrap=True)
        return
    folder = api.train_choice(
        photographs, out, choice, seg=seg, side=side, options=options, methods=names, runs=runs or (),
        reader_options=reader, seed=seed, device=where, session=session,
    )  # fmt: skip
    if as_json:
        print_json({"segmenter": str(folder)})
        return
    command = shlex.join(["gsegkit", "predict", str(folder), str(photographs), "--out", "masks"])
    console.print(f"segmenter in {folder}; next: {command}", soft_wrap=True)
