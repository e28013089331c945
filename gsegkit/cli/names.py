"""Commands that name the clusters of an extractor: name, match."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from gsegkit.classes.class_map import FILE_NAME, ClassMap, train_command, use_command
from gsegkit.cli import early
from gsegkit.cli import options as c
from gsegkit.cli.options import console, print_json
from gsegkit.cli.terminal import make_table
from gsegkit.errors import ConfigError

if TYPE_CHECKING:
    from gsegkit.classes.page import View


def name(
    run_folder: c.RunFolder,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE.html", help="Where to write the page; default RUN/names/index.html."),
    ] = None,
    num_images: Annotated[int, typer.Option("--num-images", min=1, help="Generated images to show.")] = 12,
    images: Annotated[
        Path | None,
        typer.Option("--images", metavar="FOLDER", help="Photographs on the page; default: the run's own, or samples."),
    ] = None,
    max_clusters: Annotated[
        int, typer.Option("--max-clusters", min=2, help="Largest number of clusters on the page.")
    ] = 30,
    show_list: Annotated[bool, typer.Option("--list", help="Print the clusters of a cut and draw a sheet.")] = False,
    cut: Annotated[int | None, typer.Option("--cut", help="Number of clusters; default: that of the run.")] = None,
    classes: Annotated[
        list[str] | None,
        typer.Option(
            "--class", metavar="NAME[#rrggbb]=ID,ID", help="A class, in mask order; ID may be * for all others."
        ),
    ] = None,
    ignore: Annotated[str, typer.Option("--ignore", metavar="ID,ID", help="Clusters whose pixels become 255.")] = "",
    save: Annotated[
        Path | None,
        typer.Option("--save", metavar="FILE.yaml", help="Write the class names to this file, without a page."),
    ] = None,
    device: c.Device = None,
    as_json: c.AsJson = False,
    quiet: c.Quiet = False,
) -> None:
    """Name the clusters of a run's extractor: on a page, or with --class; --list shows them."""
    early.check_there(run_folder, early.RUN_REMEDY)
    early.check_there(images)
    from gsegkit import api

    session = c.session(quiet)
    if save is not None:
        if show_list:
            raise ConfigError("--list and --save were given together", "list first, then save")
        named = api.name(run_folder, classes or (), cut=cut, ignore=ignore, save=save, session=session)
        _show_saved(run_folder, save, named, as_json)
        return
    if classes or ignore:
        raise ConfigError("--class and --ignore need a file to write", "add --save classes.yaml")
    if show_list:
        shown = api.list_clusters(
            run_folder, cut, num_images=min(num_images, 8), device=device or "auto", session=session
        )
        _show_clusters(run_folder, *shown, as_json)
        return
    if cut is not None:
        raise ConfigError("--cut was given without --list or --save", "the page has all cuts")
    page = api.name_page(
        run_folder, out, num_images=num_images, max_clusters=max_clusters, images=images, device=device or "auto",
        session=session,
    )  # fmt: skip
    if as_json:
        print_json({"page": str(page)})
        return
    console.print(f"page: {page}", soft_wrap=True)
    console.print("open it in a browser, name the clusters, save classes.yaml; then")
    _show_next(run_folder)


def _show_next(run_folder: Path, names: str = FILE_NAME) -> None:
    console.print(f"next: {use_command(str(run_folder), names)}", soft_wrap=True)
    console.print(f"or train on the names: {train_command(str(run_folder), names)}", soft_wrap=True)


def _show_saved(run_folder: Path, save: Path, named: ClassMap, as_json: bool) -> None:
    if as_json:
        print_json({"file": str(save), **named.model_dump(mode="json")})
        return
    console.print(f"{save}: {named.summary()}", soft_wrap=True)
    _show_next(run_folder, str(save))


def _show_clusters(run_folder: Path, view: View, sheet: Path, as_json: bool) -> None:
    rows = dict(zip(view.ids, view.shares, strict=True))
    if as_json:
        facts = {"clusters": [{"id": i, "share": s} for i, s in rows.items()], "facts": dict(view.facts)}
        print_json({"cut": view.k, **facts, "sheet": str(sheet)})
        return
    table = make_table("", "cluster", "share")
    for cluster, share in rows.items():
        table.add_row(str(cluster), f"{share:.1%}")
    console.print(table)
    if joined := ", ".join(map(str, view.joined)):
        console.print(f"with fewer clusters, the first to become one: {joined}")
    console.print(f"sheet: {sheet}", soft_wrap=True)
    command = f"gsegkit name {run_folder} --cut {view.k} --class NAME=ID,ID ... --save classes.yaml"
    console.print(f"next: {command}", soft_wrap=True)


def match(
    run_folder: c.RunFolder,
    data: Annotated[Path, typer.Option("--data", metavar="FOLDER", help="Annotated photographs.")],
    num_images: Annotated[int, typer.Option("--num-images", min=1, help="Use at most this many photographs.")] = 20,
    cut: Annotated[int | None, typer.Option("--cut", help="Match a cut coarser than that of the run.")] = None,
    save: Annotated[
        Path | None,
        typer.Option(
            "--save", metavar="FILE.yaml", help="Write the class names to this file; see --match of evaluate."
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed that chooses the images.")] = 0,
    device: c.Device = None,
    option: c.Options = None,
    as_json: c.AsJson = False,
    quiet: c.Quiet = False,
) -> None:
    """Name the clusters of a run by the labels of a few annotated photographs. This uses labels."""
    (reader,) = c.only(option, "data_reader")
    early.check_there(run_folder, early.RUN_REMEDY)
    early.check_there(data)
    early.check_reader(reader)
    from gsegkit import api

    found = api.match(
        run_folder, data, num_images=num_images, cut=cut, save=save, seed=seed, reader_options=reader,
        device=device or "auto", session=c.session(quiet),
    )  # fmt: skip
    if as_json:
        print_json({**vars(found), "file": str(save) if save is not None else None})
        return
    count = len(found.labels_used)
    console.print(
        Text("labels were used:", "bold yellow"),
        f"{count} annotated images of '{data}' decided this matching; a score on them means nothing",
        soft_wrap=True,
    )
    table = make_table("", "class", "clusters")
    for true_class, clusters in found.classes.items():
        table.add_row(true_class, ", ".join(map(str, clusters)))
    for true_class in found.unmatched:
        table.add_row(true_class, "none")
    console.print(table)
    if save is not None:
        console.print(f"class names, with the images that were used: {save}", soft_wrap=True)
        command = f"gsegkit evaluate {run_folder} --data {data} --match {save}"
        if cut is not None:  # the segmenter may know finer clusters than the file names
            command = f"gsegkit evaluate {run_folder} --data {data} --classes {save}"
        console.print(f"next: {command} (scores leave those images out)", soft_wrap=True)
