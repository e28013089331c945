"""The commands of painters: pictures from masks, learned from the pairs of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gsegkit.cli import early
from gsegkit.cli import options as c
from gsegkit.cli.browser import browsing
from gsegkit.cli.options import console
from gsegkit.cli.terminal import print_metrics
from gsegkit.engine.preflight import check_learns_from_pairs
from gsegkit.errors import ConfigError
from gsegkit.plugins import installed


def train_painter(
    run_folder: c.RunFolder,
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where the painter goes.")],
    painter: Annotated[str, typer.Option("--painter", metavar="NAME", help="Painter.")] = "class-adaptive",
    classes: c.NamesOfRun = None,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    update: c.Update = False,
    device: c.Device = None,
    option: c.Options = None,
    quiet: c.Quiet = False,
) -> None:
    """Train a painter on the pairs of a run: pictures from masks. Repeat the command to resume."""
    (options,) = c.only(option, "painter")
    early.check_there(run_folder, early.RUN_REMEDY)
    early.check_names(classes)
    early.check_part("painter", painter, options)
    from gsegkit import api

    api.train_painter(
        run_folder, out, painter=painter, classes=classes, options=options, seed=seed, update=update,
        device=device or "auto", session=c.session(quiet),
    )  # fmt: skip
    console.print(f"painter in {out}; what it paints: {out / 'figures' / 'painted.png'}", soft_wrap=True)


def paint(
    painter: Annotated[
        Path, typer.Argument(metavar="PAINTER", help="Folder of train-painter or annotate; with --serve also a run.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FILE.html", help="Where the page goes. Default: painter.html or editor.html there."
        ),
    ] = None,
    serve: Annotated[
        bool, typer.Option("--serve", help="Write no file: serve the page to this machine, and paint here.")
    ] = False,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Where to serve. Default: a free one.")] = 0,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Only print the address to open.")] = False,
    classes: c.NamesOfRun = None,
    device: c.Device = None,
    option: c.Options = None,
    quiet: c.Quiet = False,
) -> None:
    """Make a page on which you paint masks: one file, opened in a browser; or serve it.

    Of a painter you see the picture that belongs to the mask. Of a folder of gsegkit annotate, or your own photographs
    with a classes.yaml, you paint the masks of its pictures, and --serve saves them there.
    """
    (options,) = c.only(option, "painter")
    early.check_there(painter, "give a folder made by gsegkit train-painter or annotate")
    early.check_names(classes)
    if serve:
        if out is not None:
            raise ConfigError("--serve writes no file", "omit --out, or --serve")
        _serve(painter, port, not no_browser, classes=classes, device=device or "auto", options=options)
        return
    if port or no_browser or device or options or classes:
        raise ConfigError(
            "--port, --no-browser, --classes, --device and -o are for pages that are served",
            "add --serve, or omit them",
        )
    from gsegkit import api

    page = api.paint_page(painter, out, session=c.session(quiet))
    console.print(f"open {page} in a browser", soft_wrap=True)


def _serve(painter: Path, port: int, browser: bool, **how: Any) -> None:
    """Serve until Ctrl-C; a session of `c.session` would wait for a step to end, and here is none."""
    from gsegkit import api

    with api.paint_server(painter, port=port, **how) as server, browsing(server.url if browser else ""):
        console.print(f"painting page: {server.url}", soft_wrap=True)
        console.print("the address is the key to it, for this machine alone; Ctrl-C ends it")
        server.serve()
    console.print("the painting page is closed")


def evaluate_painter(
    painter: Annotated[Path, typer.Argument(metavar="PAINTER", help="Folder of train-painter, or a run.")],
    run_folder: c.RunFolder,
    samples: Annotated[int, typer.Option("--samples", help="Masks to paint, which no pair of the run has.")] = 500,
    scorer: Annotated[
        Path | None,
        typer.Option("--scorer", metavar="FOLDER", help="Segmenter that scores. Default: one is trained, once."),
    ] = None,
    seg: Annotated[
        str | None, typer.Option("--seg", metavar="NAME", help="Segmenter to train. Default: fpn; not the run's own.")
    ] = None,
    classes: c.NamesOfRun = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FOLDER", help="Where scorer and numbers go. Default: PAINTER/evaluation."),
    ] = None,
    update: c.Update = False,
    device: c.Device = None,
    option: c.Options = None,
    as_json: c.AsJson = False,
    quiet: c.Quiet = False,
) -> None:
    """Score a painter on masks that it has not seen, by a segmenter that it did not learn through."""
    (options,) = c.only(option, "seg")
    early.check_there(painter, "give a folder made by gsegkit train-painter")
    early.check_there(run_folder, early.RUN_REMEDY)
    early.check_there(scorer, "give a folder made by gsegkit train, or omit --scorer")
    early.check_names(classes)
    if seg is not None:
        early.check_part("segmenter", seg, options)
        check_learns_from_pairs(installed().find("segmenter", seg))
    from gsegkit import api

    report = api.evaluate_painter(
        painter, run_folder, num_samples=samples, scorer=scorer, seg=seg, options=options, classes=classes, out=out,
        update=update, device=device or "auto", session=c.session(quiet),
    )  # fmt: skip
    if as_json:
        c.print_json(report.to_json())
    else:
        print_metrics(console, report.to_json())
