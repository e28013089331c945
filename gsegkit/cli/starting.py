"""The command start: from a bare folder of photographs to a segmenter."""

from __future__ import annotations

import shlex
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gsegkit.cli import early
from gsegkit.cli import options as c
from gsegkit.cli.options import console, print_json
from gsegkit.cli.terminal import make_table
from gsegkit.progress import duration
from gsegkit.starting.experience import FEWEST
from gsegkit.starting.wanted import COMPARE, RUN, Wanted, options_of

if TYPE_CHECKING:
    from gsegkit.api.starting import Started


def start(
    photos: Annotated[Path, typer.Argument(metavar="PHOTOS", help="Folder of photographs of one kind of thing.")],
    hours: Annotated[float, typer.Option("--hours", help="Time for everything.")] = 2.0,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FOLDER", help="Where everything goes. Default: runs/start-NAME.")
    ] = None,
    look: Annotated[bool, typer.Option("--look", help="Say what the folder holds, and end.")] = False,
    gen: Annotated[str, typer.Option("--gen", metavar="NAME", help="Trainable generator.")] = "stylegan2",
    extractor: Annotated[str, typer.Option("--extractor", metavar="NAME", help="Mask extractor.")] = "klish",
    seg: Annotated[str, typer.Option("--seg", metavar="NAME", help="Segmenter of the run.")] = "unet",
    target: Annotated[
        str, typer.Option("--target", help="Classes of the run: parts (a few), foreground, or clusters.")
    ] = "parts",
    fewest: Annotated[int, typer.Option("--fewest", min=2, help="Train no generator on fewer photographs.")] = FEWEST,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    update: c.Update = False,
    device: c.Device = None,
    option: c.Options = None,
    as_json: c.AsJson = False,
    quiet: c.Quiet = False,
) -> None:
    """From a folder of photographs to a segmenter, within the time. Repeat the command to resume."""
    early.check_there(photos)
    options = options_of(option or [])
    Wanted(hours=hours)
    early.check_part("generator", gen, options.get("gen", {}), trainable=True)
    early.check_part("extractor", extractor, options.get("extractor", {}))
    early.check_part("segmenter", seg, options.get("seg", {}))
    from gsegkit import api
    from gsegkit.looking.words import sentences

    if look:
        found = api.look(photos, session=c.session(quiet))
        if as_json:
            print_json({**found.model_dump(mode="json"), "framed": found.framed, "sentences": sentences(found)})
        else:
            for sentence in sentences(found):
                console.print(sentence, soft_wrap=True)
        return
    made = api.start(
        photos, out, hours=hours, gen=gen, extractor=extractor, seg=seg, target=target, fewest=fewest,
        options=option or [], seed=seed, update=update, device=device or "auto", session=c.session(quiet),
    )  # fmt: skip
    if as_json:
        print_json({"folder": str(made.folder), **made.record.model_dump(mode="json")})
    else:
        _print(made)


def _print(made: Started) -> None:
    from gsegkit.comparing.page import PAGE_FILE

    table = make_table("", "step", "", "time")
    for folder, done in made.record.done.items():
        table.add_row(folder, done.status, duration(done.seconds))
    table.add_row("together", "", duration(made.record.spent))
    console.print(table)
    compared = made.record.done.get(COMPARE)
    if compared is not None and compared.status == "done":
        console.print(compared.note, soft_wrap=True)
        console.print(f"page: {made.folder / COMPARE / PAGE_FILE}", soft_wrap=True)
    for lead, command in zip_longest(["next:"], _next(made), fillvalue="     "):
        console.print(lead, command, soft_wrap=True)


def _next(made: Started) -> list[str]:
    """Masks of the best segmenter; and a person's own choice."""
    masks, choice = str(made.folder / "masks"), str(made.folder / "choice")
    words = [["gsegkit", "predict", str(one), str(made.photographs), "--out", masks] for one in made.segmenters[:1]]
    runs = ["--runs", str(made.folder / RUN)] if made.record.is_done(RUN) else []
    return [shlex.join(one) for one in [*words, ["gsegkit", "choose", str(made.photographs), *runs, "--out", choice]]]
