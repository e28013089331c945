"""Commands that work: check, run, synthesize, train, train-generator, evaluate, predict, export, report."""

from __future__ import annotations

import sys
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from gsegkit.cli import early, launching
from gsegkit.cli import options as c
from gsegkit.cli.launching import Ended
from gsegkit.cli.options import console, print_json
from gsegkit.cli.terminal import print_metrics, show_message
from gsegkit.engine.next_steps import in_a_line, next_commands
from gsegkit.engine.plan import PAIR_FORMATS
from gsegkit.engine.preflight import check_learns_from_pairs
from gsegkit.errors import ConfigError, plural
from gsegkit.exports.formats import (
    DATASET_FORMATS,
    DEFAULT_PREDICTIONS,
    MODEL_FORMATS,
    PHOTO_DTYPES,
    PREDICTION_FORMATS,
    model_path,
)
from gsegkit.plugins import installed

if TYPE_CHECKING:
    from gsegkit.api import Session
    from gsegkit.engine.plan import Plan

EXPORT_HELP = f"Of segmenter or painter: {', '.join(MODEL_FORMATS)}; of the pairs: {', '.join(DATASET_FORMATS)}."


def run(
    context: typer.Context,
    gen: c.Gen = None,
    extractor: c.Extractor = None,
    seg: c.Seg = None,
    refine: c.RefinePairs = None,
    no_refine: c.NoRefinePairs = False,
    classes: c.ClassesOrName = None,
    target: c.Target = None,
    evaluator: c.Eval = None,
    images: c.Images = None,
    photos: c.Photos = None,
    data: c.Data = None,
    out: c.Out = None,
    samples: c.Samples = None,
    format: c.PairFormat = None,
    rounds: c.Rounds = None,
    train_generator: c.TrainGenerator = None,
    seed: c.Seed = None,
    device: c.Device = None,
    option: c.Options = None,
    config: c.ConfigFile = None,
    smoke: c.Smoke = None,
    update: c.Update = False,
    launcher: c.LauncherName = None,
    workers: c.Workers = None,
    piece: c.PieceText = None,
    as_json: c.AsJson = False,
    quiet: c.Quiet = False,
) -> None:
    """Generator to segmenter: masks, pairs, training, report. Repeat the command to resume."""
    of_launcher, option = launching.launcher_options(option)
    launching.check_workers(launcher, workers, of_launcher)
    with c.team_session(quiet) as make_session:
        plan = c.read_plan(
            config, option, gen=gen, extractor=extractor, seg=seg, refine=refine, no_refine=no_refine, classes=classes,
            target=target, eval=evaluator, images=images, photos=photos, data=data, num_samples=samples, rounds=rounds,
            format=format, train_generator=train_generator, seed=seed, device=device, smoke=smoke,
        )  # fmt: skip
        early.check_plan(plan, out)
        if launcher is not None:
            found = launching.launch(context, plan, launcher, workers, of_launcher, option)
        else:
            found = _run_here(plan, out, piece, update, make_session())
    if found is None:
        return
    if as_json:
        print_json(found.to_json())
        return
    if found.metrics is not None:
        print_metrics(console, found.metrics)
    else:
        console.print("no ground truth was given (--data FOLDER), so nothing was scored")
    if quiet and found.problem:  # else it was told while the run went on
        show_message(console, found.problem, "warning")
    console.print(in_a_line(found.found), soft_wrap=True)
    console.print(f"report: {found.page}", soft_wrap=True)
    for lead, command in zip_longest(["next:"], next_commands(found.folder, found.found), fillvalue="     "):
        console.print(lead, command, soft_wrap=True)


def _run_here(plan: Plan, out: Path | None, piece: str | None, update: bool, session: Session) -> Ended | None:
    """Carry out a plan in this process; None where another one tells what came of it."""
    from gsegkit import api
    from gsegkit.api.runs import run_piece
    from gsegkit.engine.pieces import Piece

    command = launching.as_typed(sys.argv[1:])
    if piece is not None and (part := Piece.of_text(piece, plan)) is not None:
        run_piece(plan, part, out or plan.default_folder(), update=update, command=command, session=session)
        return None
    result = api.run_plan(plan, out, update=update, command=command, session=session)
    return Ended.of_result(result) if session.team.first and piece is None else None


def check(
    gen: c.Gen = None,
    extractor: c.Extractor = None,
    seg: c.Seg = None,
    refine: c.RefinePairs = None,
    no_refine: c.NoRefinePairs = False,
    classes: c.ClassesOrName = None,
    target: c.Target = None,
    evaluator: c.Eval = None,
    images: c.Images = None,
    photos: c.Photos = None,
    data: c.Data = None,
    out: c.Out = None,
    train_generator: c.TrainGenerator = None,
    device: c.Device = None,
    option: c.Options = None,
    config: c.ConfigFile = None,
    as_json: c.AsJson = False,
) -> None:
    """Check everything before anything is computed, and print ALL problems."""
    from gsegkit.engine.choices import choose
    from gsegkit.engine.preflight import check as check_light

    plan = c.read_plan(
        config, option, gen=gen, extractor=extractor, seg=seg, refine=refine, no_refine=no_refine, classes=classes,
        target=target, eval=evaluator, images=images, photos=photos, data=data,
        train_generator=train_generator, device=device,
    )  # fmt: skip
    folder = out or plan.default_folder()
    choices = choose(plan, installed())
    problems = check_light(choices, folder)
    if not problems:
        from gsegkit.engine.probe import probe

        problems = probe(choices, folder)
    if as_json:
        print_json([vars(problem) for problem in problems])
    else:
        for problem in problems:
            console.print(Text(f"{problem.where}:", "red"), problem.message, soft_wrap=True)
            if problem.hint:
                console.print(f"    try: {problem.hint}", soft_wrap=True)
        if not problems:
            console.print("no problem found")
    if problems:
        raise typer.Exit(2)


def synthesize(
    run_folder: c.RunFolder,
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where the pairs go.")],
    samples: Annotated[int, typer.Option("--samples", min=1, help="Number of generated candidates.")] = 10_000,
    classes: c.Classes = None,
    refine: c.Refine = None,
    worker: Annotated[
        str, typer.Option("--worker", metavar="K/N", help="Make every N-th shard, starting with K.")
    ] = "0/1",
    format: c.PairFormat = None,
    update: c.Update = False,
    device: c.Device = None,
    quiet: c.Quiet = False,
) -> None:
    """Make more (image, mask) pairs with the generator and extractor of a run."""
    early.check_there(run_folder, early.RUN_REMEDY)
    early.check_there(classes)
    early.check_refiners(refine)
    early.check_formats([format] if format is not None else [], PAIR_FORMATS)
    share = _worker(worker)
    from gsegkit import api

    made = api.synthesize(
        run_folder,
        out,
        samples,
        classes=classes,
        refine=refine or None,
        worker=share,
        format=format,
        update=update,
        device=device or "auto",
        session=c.session(quiet),
    )
    if made is None:
        console.print(f"this worker's shards are in {out}; other workers have not finished")
    else:
        counts = ", ".join(f"{name} {count}" for name, count in made.counts.items())
        console.print(f"{plural(len(made), 'pair')} in {out} ({counts})", soft_wrap=True)


def train(
    data: Annotated[
        Path, typer.Option("--data", metavar="FOLDER", help="A run folder, a folder of pairs, or an annotated folder.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where the segmenter goes.")],
    seg: Annotated[str, typer.Option("--seg", metavar="NAME", help="Segmenter.")] = "unet",
    classes: c.Classes = None,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    update: c.Update = False,
    device: c.Device = None,
    option: c.Options = None,
    quiet: c.Quiet = False,
) -> None:
    """Train a segmenter on existing pairs. Repeat the command to resume."""
    options, reader = c.only(option, "seg", "data_reader")
    early.check_there(data)
    early.check_there(classes)
    early.check_part("segmenter", seg, options)
    check_learns_from_pairs(installed().find("segmenter", seg))
    early.check_reader(reader)
    from gsegkit import api

    session = c.session(quiet)
    api.train(
        data, seg, out, classes=classes, options=options, reader_options=reader, seed=seed, update=update,
        device=device or "auto", session=session,
    )  # fmt: skip
    console.print(f"segmenter in {out}; next: gsegkit predict {out} PHOTOS --out FOLDER")


def train_generator(
    name: Annotated[str, typer.Argument(help="A trainable generator.")],
    data: Annotated[Path, typer.Option("--data", metavar="FOLDER", help="Photographs.")],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where the weights go.")],
    hours: Annotated[
        float | None, typer.Option("--hours", help="End the training after this time; with more it continues.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    update: c.Update = False,
    device: c.Device = None,
    option: c.Options = None,
    quiet: c.Quiet = False,
) -> None:
    """Train a generator on an image folder. Repeat the command to resume."""
    options, reader = c.only(option, "gen", "data_reader")
    early.check_part("generator", name, options, trainable=True)
    early.check_reader(reader)
    early.check_there(data)
    from gsegkit import api

    api.train_generator(
        name, data, out, options=options, reader_options=reader, hours=hours, seed=seed, update=update,
        device=device or "auto", session=c.session(quiet),
    )  # fmt: skip
    console.print(f"generator in {out}; use it with -o gen.weights={out}", soft_wrap=True)


def evaluate(
    run_folder: c.RunFolder,
    data: Annotated[Path, typer.Option("--data", metavar="FOLDER", help="Annotated photographs.")],
    match: Annotated[
        str | None, typer.Option("--match", help="greedy, hungarian, names, index or classes.yaml (of gsegkit match)")
    ] = None,
    evaluator: Annotated[str, typer.Option("--eval", metavar="NAME", help="Evaluator.")] = "masks",
    classes: c.NamesOfRun = None,
    refine: c.RefinePhotos = None,
    no_refine: c.NoRefine = False,
    device: c.Device = None,
    option: c.Options = None,
    as_json: c.AsJson = False,
    quiet: c.Quiet = False,
) -> None:
    """Score the segmenter of a run on annotated photographs."""
    with c.team_session(quiet) as make_session:
        options, reader, of_refiners = c.only(option, "eval", "data_reader", "refine")
        if match is not None:
            options["match"] = match
        early.check_there(run_folder, early.RUN_REMEDY)
        early.check_names(classes)
        early.check_there(data)
        early.check_part("evaluator", evaluator, options)
        early.check_reader(reader)
        early.check_refiners(refine)
        from gsegkit import api

        report = api.evaluate(
            run_folder, data, evaluator=evaluator, options=options, reader_options=reader, classes=classes,
            refine=c.refiners(refine, no_refine, of_refiners), device=device or "auto", session=make_session(),
        )  # fmt: skip
        if as_json:
            print_json(report.to_json())
        else:
            print_metrics(console, report.to_json())


def evaluate_generator(
    generator: Annotated[str, typer.Argument(metavar="GEN", help="A generator, a run folder, or trained weights.")],
    data: Annotated[Path, typer.Option("--data", metavar="FOLDER", help="Photographs, with or without masks.")],
    evaluator: Annotated[str, typer.Option("--eval", metavar="NAME", help="Generator evaluator.")] = "frechet",
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    device: c.Device = None,
    option: c.Options = None,
    as_json: c.AsJson = False,
    quiet: c.Quiet = False,
) -> None:
    """Compare a generator's images, and its bare layers, with photographs. Uses no labels."""
    gen, options, reader = c.only(option, "gen", "eval", "data_reader")
    if not Path(generator).exists():
        early.check_part("generator", generator, gen)
    early.check_there(data)
    early.check_part("generator-evaluator", evaluator, options)
    early.check_reader(reader)
    from gsegkit import api

    report = api.evaluate_generator(
        generator, data, evaluator=evaluator, generator_options=gen, options=options, reader_options=reader, seed=seed,
        device=device or "auto", session=c.session(quiet),
    )  # fmt: skip
    if as_json:
        print_json(report.to_json())
    else:
        print_metrics(console, report.to_json())


def predict(
    run_folder: c.RunFolder,
    inputs: Annotated[list[str], typer.Argument(metavar="PHOTOS", help="Files, folders, quoted globs; videos too.")],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where masks and overlays go.")],
    format: Annotated[
        list[str] | None, typer.Option("--format", help=f"{', '.join(PREDICTION_FORMATS)}; repeat as needed.")
    ] = None,
    refine: c.RefinePhotos = None,
    no_refine: c.NoRefine = False,
    parts: Annotated[bool, typer.Option("--parts", help="Add clusters without names up to a few parts.")] = False,
    classes: c.NamesOfRun = None,
    scaling: Annotated[
        str | None, typer.Option("--scaling", help="Of images with more than 8 bits. Default: as in training.")
    ] = None,
    frames: Annotated[
        str, typer.Option("--frames", metavar="images|video", help="What the frames of a video become.")
    ] = "images",
    device: c.Device = None,
    option: c.Options = None,
    quiet: c.Quiet = False,
) -> None:
    """Segment photographs: label PNG and overlay PNG by default."""
    with c.team_session(quiet) as make_session:
        formats = tuple(format or DEFAULT_PREDICTIONS)
        (of_refiners,) = c.only(option, "refine")
        early.check_there(run_folder, early.RUN_REMEDY)
        early.check_names(classes)
        early.check_formats(formats, PREDICTION_FORMATS)
        early.check_photographs(inputs)
        early.check_refiners(refine)
        from gsegkit import api

        refiners = c.refiners(refine, no_refine, of_refiners)
        summary = api.predict(
            run_folder, inputs, out, formats=formats, refine=refiners, parts=parts, classes=classes, scaling=scaling,
            frames=frames, device=device or "auto", session=make_session(),
        )  # fmt: skip
        console.print(str(summary), soft_wrap=True)


def export(
    run_folder: c.RunFolder,
    out: Annotated[Path, typer.Option("--out", metavar="PATH", help="File or folder to make.")],
    format: Annotated[str, typer.Option("--format", help=EXPORT_HELP)] = "onnx",
    dtype: Annotated[
        str, typer.Option("--dtype", help="Photographs of an exported segmenter: uint8 (0 .. 255) or float32 (0 .. 1).")
    ] = "uint8",
    classes: c.NamesOfRun = None,
    update: c.Update = False,
    quiet: c.Quiet = False,
) -> None:
    """Export the segmenter or the pairs of a run, or a painter, for other tools."""
    early.check_there(run_folder, early.RUN_REMEDY)
    early.check_names(classes)
    early.check_formats([format], [*MODEL_FORMATS, *DATASET_FORMATS])
    early.check_formats([dtype], PHOTO_DTYPES)
    if format in MODEL_FORMATS:
        model_path(out, format)
    from gsegkit import api

    summary = api.export(run_folder, out, format, dtype=dtype, classes=classes, update=update, session=c.session(quiet))
    console.print(str(summary), soft_wrap=True)


def report(run_folder: c.RunFolder) -> None:
    """Draw the report of a run again from the files in its folder."""
    early.check_there(run_folder, early.RUN_REMEDY)
    from gsegkit.report import render_report

    console.print(f"report: {render_report(run_folder)}", soft_wrap=True)


def _worker(text: str) -> tuple[int, int]:
    index, slash, count = text.partition("/")
    if not (slash and index.isdigit() and count.isdigit() and int(index) < int(count)):
        raise ConfigError(f"--worker '{text}' does not have the form K/N with K below N", "for example --worker 0/4")
    return int(index), int(count)
