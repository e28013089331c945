"""Options that several commands share, and what stands between a command and the library."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gsegkit.classes.class_map import names_something_shipped
from gsegkit.cli.early import check_refiners
from gsegkit.cli.terminal import make_console, make_progress
from gsegkit.config import parse_assignments
from gsegkit.distributed.launched import MAX_PROCESSES, launched
from gsegkit.engine.plan import DEVICES, PAIR_FORMATS, Plan, device_name, renew
from gsegkit.errors import ConfigError, GsegkitError
from gsegkit.plugins import SHORT_KINDS, installed
from gsegkit.refining import chosen
from gsegkit.rundir import CONFIG_FILE

if TYPE_CHECKING:
    from gsegkit.api import Session

console = make_console()  # people read stderr, programs read stdout

Options = Annotated[
    list[str] | None,
    typer.Option("-o", "--option", metavar="PART.OPTION=VALUE", help="Set an option of a part; repeat as needed."),
]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.")]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="Options file: .toml, .json, .yaml, or a run's config.")
]


def _part(option: str, kind: str, help: str) -> Any:
    """An option that names a component; the shell completes it from what is installed."""

    def names(incomplete: str) -> list[str]:
        found = [entry.component.name for entry in installed().of_kind(kind)]
        return [name for name in found if name.startswith(incomplete)]

    return typer.Option(option, metavar="NAME", help=help, autocompletion=names)


def _device(name: str | None) -> str | None:
    """A device's name; whether this machine has it only torch knows."""
    try:
        return name if name is None else device_name(name)
    except ValueError as error:
        raise ConfigError(str(error)) from None


Gen = Annotated[str | None, _part("--gen", "generator", "Generator, by name.")]
Extractor = Annotated[str | None, _part("--extractor", "extractor", "Mask extractor.")]
RefinePhotos = Annotated[
    list[str] | None,
    _part("--refine", "refiner", "Refiner of the predictions; repeat, order counts. Default: colours, if installed."),
]
NoRefine = Annotated[bool, typer.Option("--no-refine", help="No refiner acts: the segmenter alone.")]
Refine = Annotated[list[str] | None, _part("--refine", "refiner", "Refiner; repeat, order counts.")]
RefinePairs = Annotated[
    list[str] | None,
    _part("--refine", "refiner", "Refiner of the pairs; repeat, order counts. Default: what the extractor suggests."),
]
NoRefinePairs = Annotated[bool, typer.Option("--no-refine", help="No refiner: the extractor's masks as they are.")]
Classes = Annotated[
    Path | None,
    typer.Option("--classes", metavar="FILE", help="Names for the extractor's clusters; see gsegkit name."),
]
ClassesOrName = Annotated[
    Path | None,
    typer.Option(
        "--classes",
        metavar="FILE",
        help="Names for the extractor's clusters, see gsegkit name; or names that ship with weights: blood-cells.",
    ),
]
NamesOfRun = Annotated[
    Path | None,
    typer.Option(
        "--classes",
        metavar="FILE",
        help="Add clusters up to named classes: classes.yaml, or names that ship with weights. Nothing is trained.",
    ),
]
Target = Annotated[
    str | None, typer.Option("--target", help="Classes when nobody named any: clusters, parts (a few), or foreground.")
]
Seg = Annotated[str | None, _part("--seg", "segmenter", "Segmenter.")]
Eval = Annotated[str | None, _part("--eval", "evaluator", "Evaluator.")]
Samples = Annotated[int | None, typer.Option("--samples", help="Number of generated candidates.")]
PairFormat = Annotated[
    str | None, typer.Option("--format", help=f"Files of the pairs: {' or '.join(PAIR_FORMATS)} (tar files of PNGs).")
]
Rounds = Annotated[int | None, typer.Option("--rounds", help="Number of alternating rounds.")]
PlannedWorkers = Annotated[
    int | None,
    typer.Option("--workers", min=1, max=MAX_PROCESSES, metavar="N", help="Predict for N processes too."),
]
PerMachine = Annotated[
    int | None, typer.Option("--per-machine", min=1, help="Of them on one machine; default: all, or one for each GPU.")
]
Bandwidth = Annotated[
    float | None, typer.Option("--bandwidth", min=1e-3, max=1e6, metavar="GB/S", help="Between two of them.")
]
Latency = Annotated[
    float | None, typer.Option("--latency", min=0, max=1e7, metavar="MICROSECONDS", help="Of one message.")
]
Speed = Annotated[
    float | None,
    typer.Option("--speed", min=1e-3, max=1e6, help="Of each process; 20 = as fast as 20 of the one measured here."),
]
Images = Annotated[Path | None, typer.Option("--images", metavar="FOLDER", help="Photographs without masks.")]
Photos = Annotated[
    Path | None, typer.Option("--photos", metavar="FOLDER", help="Photographs without masks to self-train on.")
]
Data = Annotated[Path | None, typer.Option("--data", metavar="FOLDER", help="Annotated photographs to score on.")]
Out = Annotated[Path | None, typer.Option("--out", metavar="FOLDER", help="Where the result goes.")]
Seed = Annotated[int | None, typer.Option("--seed", help="Seed of every random number.")]
Device = Annotated[str | None, typer.Option("--device", help=f"{DEVICES}.", callback=_device)]
TrainGenerator = Annotated[
    bool | None, typer.Option("--train-generator", help="Train the generator on --images first.", show_default=False)
]
Smoke = Annotated[bool | None, typer.Option("--smoke", help="Limit every loop to 3 steps.", show_default=False)]
LauncherName = Annotated[
    str | None,
    _part("--launcher", "launcher", "Who starts the processes; without it: this process alone, or torchrun."),
]
Workers = Annotated[
    int | None,
    typer.Option("--workers", help="Processes of the launcher. Default: all GPUs, or 1.", show_default=False),
]
PieceText = Annotated[
    str | None, typer.Option("--piece", metavar="PIECE", help="Do a piece of the run; launchers use it.", hidden=True)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON to standard output.")]
Update = Annotated[bool, typer.Option("--update", help="Make again what --out holds of other options or other data.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]


def read_plan(config: Path | None, options: list[str] | None, *, no_refine: bool, **fields: Any) -> Plan:
    """The plan that a command line means."""
    from gsegkit.config import read_options_file

    base = read_options_file(config) if config is not None else {}
    if config is not None and config.name == CONFIG_FILE:  # stored by a run, perhaps of an earlier version
        base = renew(base, installed().find)
    if no_refine and fields.get("refine"):
        raise ConfigError("--no-refine goes with no refiner", "omit --no-refine, or --refine")
    fields["refine"] = () if no_refine else fields.get("refine") or None
    if names_something_shipped(fields.get("classes")):
        from gsegkit.classes.shipped import with_shipped  # imports torch

        fields = with_shipped(fields, installed())
    return Plan.from_options(base, options or [], **fields)


def session(quiet: bool = False) -> Session:
    """Everything installed, with progress for people and a stop signal on Ctrl-C and SIGTERM.

    Raises:
        ConfigError: a launcher started several processes; see `team_session`.
    """
    from gsegkit.api import Session

    if (place := launched(os.environ)) is not None:
        raise ConfigError(
            f"this command uses one process, and {place.size} were started",
            "start it by itself; `gsegkit run` divides its work among processes",
        )
    return Session(installed(), make_progress(console, quiet), stop_signal())


@contextlib.contextmanager
def team_session(quiet: bool = False) -> Iterator[Callable[[], Session]]:
    """All processes that a launcher started (torchrun sets RANK, WORLD_SIZE ...) at one command; the first one speaks.

    What the block gets makes the session, which imports torch where it is not here yet. Everything that can fail in one
    process alone belongs inside, so that all end with its sentence.
    """
    place = launched(os.environ)
    if place is None:
        yield partial(session, quiet)
        return
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # who leaves last finds closed connections; that is no news
    with _silent(place.rank > 0):
        from gsegkit.api import Session
        from gsegkit.distributed.processes import join

        team = join(place)
        try:
            with team.at_work():
                stop = stop_signal(team.watch.stop)
                yield lambda: Session(installed(), make_progress(console, quiet), stop, team)
        except GsegkitError as error:
            if not team.speaks:
                raise typer.Exit(error.exit_code) from None
            raise


@contextlib.contextmanager
def _silent(wanted: bool) -> Iterator[None]:
    """Print nothing in the block; an error is printed by whoever gets it."""
    if not wanted:
        yield
        return
    with (
        open(os.devnull, "w", encoding="utf-8") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        yield


def stop_signal(stop: threading.Event | None = None) -> threading.Event:
    """An event that the first Ctrl-C or SIGTERM sets, so that a loop can save and leave; a second one ends at once."""
    stop = stop or threading.Event()

    def ask(number: int, frame: Any) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        console.print("stopping after this step; press again to stop immediately")
        stop.set()

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, ask)
        signal.signal(signal.SIGTERM, ask)
    return stop


def only(assignments: list[str] | None, *parts: str) -> list[dict[str, Any]]:
    """Options of the parts that a command has, one dictionary each."""
    found: dict[str, dict[str, Any]] = {part: {} for part in parts}
    for name, values in parse_assignments(assignments or []).items():
        part = SHORT_KINDS.get(name, name)
        if part not in found:
            raise ConfigError(f"option '{name}.{next(iter(values))}' does not belong here", f"write -o {parts[0]}.…")
        found[part].update(values)
    return list(found.values())


def refiners(names: list[str] | None, none: bool, options: dict[str, Any]) -> Any:
    """The refiners of photographs as the verbs take them; `options` are those of `-o refine.NAME.OPTION=VALUE`."""
    if none and (names or options):
        raise ConfigError("--no-refine goes with no refiner", "omit --no-refine, or --refine and -o refine.…")
    check_refiners(names)
    nested: dict[str, dict[str, Any]] = {}
    for path, value in options.items():
        name, dot, option = path.partition(".")
        if not dot:
            raise ConfigError(f"option 'refine.{path}' names no refiner's option", "write -o refine.NAME.OPTION=VALUE")
        nested.setdefault(name, {})[option] = value
    return () if none else chosen(names or None, nested, installed())


def print_json(value: Any) -> None:
    """Machine output: JSON on standard output."""
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")
