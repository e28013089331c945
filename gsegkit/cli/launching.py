"""`gsegkit run --launcher`: the command without the launcher's options, handed to a launcher. Imports no torch."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from gsegkit.cli import options as c
from gsegkit.config import build_config, parse_assignments
from gsegkit.distributed.launched import launched
from gsegkit.engine.plan import Plan
from gsegkit.errors import ConfigError
from gsegkit.launching import Launcher, Request
from gsegkit.plugins import installed
from gsegkit.records.files import read_json
from gsegkit.rundir import SCORES_FILE, RunFolder

if TYPE_CHECKING:
    from gsegkit.api.runs import Result

PART = "launcher"
OWN = ("launcher", "workers", "as_json", "out", "option", "piece")  # not handed on, or in a form of their own
MAX_WORKERS = 65_536


def launcher_options(assignments: Iterable[str] | None) -> tuple[dict[str, Any], list[str]]:
    """Options of the launcher, and the assignments that are others'."""
    own = [text for text in assignments or () if text.partition(".")[0].strip() == PART]
    return parse_assignments(own).get(PART, {}), [text for text in assignments or () if text not in own]


def check_workers(launcher: str | None, workers: int | None, options: dict[str, Any]) -> None:
    """ConfigError for options of a launcher without one, a number that is none, or one launcher inside another."""
    if launcher is None:
        if workers is not None or options:
            given = "--workers" if workers is not None else f"-o {PART}.{next(iter(options))}"
            raise ConfigError(f"{given} was given without a launcher", "add --launcher local, or omit it")
        return
    if workers is not None and not 1 <= workers <= MAX_WORKERS:
        raise ConfigError(f"--workers {workers} is no number of processes", f"give 1 to {MAX_WORKERS}")
    if (place := launched(os.environ)) is not None:
        raise ConfigError(
            f"--launcher starts processes, and another launcher has started {place.size} with this command",
            "omit --launcher, or start the command by itself",
        )


def launch(
    context: typer.Context, plan: Plan, name: str, workers: int | None, options: dict[str, Any], others: list[str]
) -> Ended | None:
    """Carry out `gsegkit run` through a launcher.

    Args:
        context: of the command.
        plan: what it means, checked.
        name: of the launcher.
        workers: number of processes; None = the launcher decides.
        options: the launcher's.
        others: the assignments that are handed on.

    Returns:
        What the run left; None when it has not ended, as after a dry run.

    Raises:
        typer.Exit: a job failed, and has said why.
    """
    entry = installed().find(PART, name)
    config = build_config(entry.config_class(), options, PART)
    folder: Path = context.params["out"] or plan.default_folder()
    out = folder.absolute()
    arguments = ["run", *_again(context), "--out", str(out)]
    for text in others:
        arguments += ["-o", text]
    request = Request(tuple(arguments), out, Path.cwd(), workers, plan.device, plan.rounds)
    launcher: Launcher = entry.build(config)
    status = launcher.launch(request, lambda line: c.console.print(line, soft_wrap=True), c.stop_signal())
    if status:
        raise typer.Exit(status)
    return Ended.of_folder(folder)


@dataclass(frozen=True)
class Ended:
    """What a finished run left, as it is printed."""

    folder: str
    page: str
    found: Mapping[str, Any]
    metrics: Mapping[str, Any] | None
    learned: Mapping[str, Any] | None

    @staticmethod
    def of_result(result: Result) -> Ended:
        """Of a run of this process."""
        metrics = result.report.to_json() if result.report is not None else None
        learned = result.learned.to_json() if result.learned is not None else None
        return Ended(str(result.folder), str(result.page), dict(result.found), metrics, learned)

    @staticmethod
    def of_folder(folder: Path) -> Ended | None:
        """Of a run of other processes; None when it has not ended, as after a dry run."""
        status = RunFolder(folder).read_status()
        if status.get("status") != "done":
            return None
        scores = folder / "report" / SCORES_FILE
        metrics = read_json(scores) if scores.exists() else None
        page = folder / "report" / "index.html"
        return Ended(str(folder), str(page), status.get("found") or {}, metrics, status.get("learned"))

    @property
    def problem(self) -> str:
        """What kept the segmenter from learning; empty = nothing."""
        return str(self.learned["problem"] or "") if self.learned is not None else ""

    def to_json(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return asdict(self)


def as_typed(words: Sequence[str]) -> str:
    """The command of a run without the piece that a launcher added."""
    words = list(words)
    if "--piece" in words:
        del words[(at := words.index("--piece")) : at + 2]
    return shlex.join(["gsegkit", *words])


def _again(context: typer.Context) -> list[str]:
    """The options of a command as they were given, but for those of the launcher."""
    words: list[str] = []
    for parameter in context.command.params:
        value = context.params.get(parameter.name or "")
        if parameter.name in OWN or value is None or value is False or value == ():
            continue
        for each in value if isinstance(value, list | tuple) else [value]:
            words += [parameter.opts[0]] if each is True else [parameter.opts[0], str(each)]
    return words
