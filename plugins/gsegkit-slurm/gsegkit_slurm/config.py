"""Options of the launcher `slurm`. Imports neither torch nor submitit."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from gsegkit.launching.config import LauncherConfig

TIME = re.compile(r"(?:(?P<days>\d{1,4})-)?(?P<numbers>\d{1,6}(?::\d{1,2}){0,2})")
MEMORY = r"^\d{1,9}[KMGT]?B?$"
#: What a value of sbatch may hold: nothing that a shell or sbatch itself reads as more than a character.
VALUE = re.compile(r"[A-Za-z0-9_.,:@%+=/*&|()\[\]<>! -]{1,200}")
NAME = re.compile(r"[a-z][a-z-]{0,40}")
#: Options of sbatch that the launcher sets itself, or that would take its place.
TAKEN = (
    "account", "array", "chdir", "constraint", "cpus-per-task", "dependency", "error", "gpus-per-node", "input",
    "job-name", "kill-on-invalid-dep", "mem", "nodes", "ntasks", "ntasks-per-node", "no-requeue", "open-mode", "output",
    "parsable", "partition", "qos", "requeue", "signal", "test-only", "time", "wait", "wrap",
)  # fmt: skip


def seconds(time: str | int) -> int:
    """A time limit as sbatch writes it, in seconds.

    Args:
        time: minutes, or minutes:seconds, hours:minutes:seconds, days-hours, days-hours:minutes and so on.

    Example:
        >>> seconds(90), seconds("1:30:00"), seconds("2-12")
        (5400, 5400, 216000)
    """
    match = TIME.fullmatch(str(time))
    if match is None:
        raise ValueError("should be minutes, or as sbatch writes it: 90, 1:30:00, 2-12:00:00")
    numbers = [int(number) for number in match["numbers"].split(":")]
    if match["days"] is not None:
        hours, minutes, rest = [*numbers, 0, 0][:3]
        return ((int(match["days"]) * 24 + hours) * 60 + minutes) * 60 + rest
    hours, minutes, rest = {1: [0, *numbers, 0], 2: [0, *numbers], 3: numbers}[len(numbers)]
    return (hours * 60 + minutes) * 60 + rest


def _a_time(value: str | int) -> str | int:
    if seconds(value) < 1:
        raise ValueError("should be more than nothing")
    return value


def _a_value(value: str) -> str:
    if not VALUE.fullmatch(value):
        raise ValueError("should be one line of letters, digits and _.,:@%+=/*&|()[]<>!- without quotes")
    return value


def _a_line(value: str) -> str:
    if not value.isprintable() or not value.strip():
        raise ValueError("each should be one line of shell, without control characters")
    return value


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Value = Annotated[str, AfterValidator(_a_value)]
Line = Annotated[str, Field(max_length=2000), AfterValidator(_a_line)]


class SlurmConfig(LauncherConfig):
    """Options of the launcher `slurm`. They are those of sbatch, for each job of the run.

    Whatever else sbatch takes is given as `launcher.sbatch.NAME`; see `TAKEN` for what the launcher sets itself.
    """

    cluster: Literal["slurm", "local"] = Field("slurm", description="local = processes of this machine, to try it out")
    partition: Value | None = Field(None, description="of the cluster; None = its default")
    account: Value | None = Field(None, description="who pays; None = your default")
    qos: Value | None = Field(None, description="quality of service; None = your default")
    constraint: Value | None = Field(None, description="features that a node must have, as a100")
    time: Annotated[str | int, AfterValidator(_a_time)] = Field(
        240, description="limit of a job: minutes, or 4:00:00; a job that reaches it saves and goes on in the queue"
    )
    requeues: int = Field(100, ge=0, le=10_000, description="how often a job that reached its time limit goes on")
    signal_delay: int = Field(
        120, ge=10, le=3600, description="seconds before the limit at which a job is told to save and end"
    )
    nodes: int | None = Field(
        None, ge=1, le=65_536, description="of a job of several processes; None = as many as hold a GPU for each, or 1"
    )
    gpus_per_node: int = Field(0, ge=0, le=1024, description="GPUs of a node; a process takes one")
    cpus_per_task: int | None = Field(
        None, ge=1, le=4096, description="cores of a process; None = the cluster's default"
    )
    mem: Annotated[str, Field(pattern=MEMORY)] | None = Field(
        None, description="memory of a node, as 64G; None = the cluster's default"
    )
    array: int | None = Field(
        None,
        ge=0,
        le=100_000,
        description="jobs of one process that make the pairs; None = as many as workers; 0 = none: one job does all",
    )
    setup: Annotated[tuple[Line, ...], BeforeValidator(_listed)] = Field(
        (), max_length=100, description='lines of shell before the job\'s command, as "module load cuda"'
    )
    sbatch: dict[str, bool | int | Value] = Field(
        default_factory=dict, description="other options of sbatch, as launcher.sbatch.reservation=NAME"
    )
    dry_run: bool = Field(False, description="only write and show the scripts; needs no SLURM")

    @model_validator(mode="before")
    @classmethod
    def _gather_sbatch(cls, values: Any) -> Any:
        """`{"sbatch.reservation": "x"}`, as the command line gives it -> `{"sbatch": {"reservation": "x"}}`."""
        if not isinstance(values, dict) or not isinstance(values.get("sbatch", {}), dict):
            return values
        prefix = "sbatch."
        deeper = {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}
        kept = {name: value for name, value in values.items() if not name.startswith(prefix)}
        return {**kept, "sbatch": {**values.get("sbatch", {}), **deeper}} if deeper else kept

    @model_validator(mode="after")
    def _check_time(self) -> SlurmConfig:
        if self.seconds < 2 * self.signal_delay:
            raise ValueError(
                f"time is {self.seconds} s, which is too little for a signal_delay of {self.signal_delay} s: "
                "a job would save and end as soon as it begins"
            )
        return self

    @model_validator(mode="after")
    def _check_sbatch(self) -> SlurmConfig:
        for name in self.sbatch:
            if not NAME.fullmatch(name):
                raise ValueError(f"sbatch.{name[:40]!r} is no name of an option of sbatch: write it without --")
            if name in TAKEN:
                own = name.replace("-", "_")
                remedy = f"give launcher.{own}" if own in type(self).model_fields else "leave it out"
                raise ValueError(f"sbatch.{name} is set by the launcher itself; {remedy}")
        return self

    @property
    def seconds(self) -> int:
        """The time limit of a job."""
        return seconds(self.time)
