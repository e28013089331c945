"""TABLE.json: the paper's numbers and ours, and how they were made. Imports no torch."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, StrictBool, StrictFloat, StrictInt, StrictStr

from gsegkit.errors import ArtifactError, ConfigError
from gsegkit.records.files import Record
from gsegkit.reproducing.recipes import Recipe, Row
from gsegkit.storage import atomic_write_json

Verdict = Literal["within", "below", "above", "not comparable"]
ROUNDING = 1e-9  # of differences between printed decimals


class Number(Record):
    """A number of the paper and ours.

    Attributes:
        metric: of the evaluator.
        paper, ours, difference: in the row's unit; ours None = undefined.
        tolerance: most absolute difference that is "within".
        verdict: "above" is as suspicious as "below".
    """

    metric: StrictStr
    paper: StrictFloat | StrictInt
    ours: StrictFloat | StrictInt | None
    difference: StrictFloat | StrictInt | None
    tolerance: StrictFloat | StrictInt
    verdict: Verdict


class RowResult(Record):
    """One row.

    Attributes:
        key: hash of what it depends on; the same key is not measured again.
        status: "failed" rows have a message and are measured again.
        counts: name of data -> images.
        weights: name of weights -> sha256 of the file.
        notes: of readers and evaluator, and why numbers are not comparable.
    """

    key: StrictStr
    status: Literal["done", "failed"]
    unit: StrictStr = "share"
    numbers: tuple[Number, ...] = ()
    counts: dict[str, int | None] = Field(default_factory=dict)
    weights: dict[str, str] = Field(default_factory=dict)
    seconds: StrictFloat = 0.0
    message: StrictStr = ""
    notes: tuple[StrictStr, ...] = ()
    differs: tuple[StrictStr, ...] = ()


class TableResult(Record):
    """The file. What the command, the code and the machine were is that of the last call that measured something."""

    format: Literal[1] = 1
    table: StrictStr
    paper: StrictStr
    title: StrictStr
    command: StrictStr = ""
    commit: StrictStr | None = None
    seed: StrictInt = 0
    device: StrictStr = ""
    smoke: StrictBool = False
    environment: dict[str, str] = Field(default_factory=dict)
    rows: dict[str, RowResult] = Field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Atomically."""
        atomic_write_json(path, self.model_dump(mode="json"))


def earlier(path: Path, recipe: Recipe) -> TableResult:
    """What an earlier call left, or an empty result.

    Raises:
        ConfigError: the file is something else's.
    """
    empty = TableResult(table=recipe.name, paper=recipe.paper.title, title=recipe.table.title)
    if not path.exists():
        return empty
    try:
        found = TableResult.read(path)
    except ArtifactError as error:
        raise ConfigError(
            f"'{path}' is not a result of gsegkit reproduce: {error.message}", "give another --out"
        ) from None
    if found.table != recipe.name:
        raise ConfigError(f"'{path}' is the result of table '{found.table}'", "give another --out")
    return found


def judge(row: Row, tolerances: dict[str, float], metrics: dict[str, Any], why: str) -> tuple[Number, ...]:
    """The row's numbers beside ours.

    Args:
        row: with the printed values.
        tolerances: of the table.
        metrics: of ours, as shares.
        why: the numbers are not comparable; "" = they are.

    Raises:
        ConfigError: a metric that was not measured.
    """
    numbers = []
    for metric, printed in row.paper.items():
        if metric not in metrics:
            raise ConfigError(f"'{metric}' was not measured", f"it measures {', '.join(sorted(metrics))}")
        tolerance = row.tolerance.get(metric, tolerances.get(metric, 0.0))
        ours = None if metrics[metric] is None else metrics[metric] * (100 if row.unit == "percent" else 1)
        difference = None if ours is None else round(ours - printed, 9)
        verdict: Verdict = "not comparable" if why or difference is None else _verdict(difference, tolerance)
        numbers.append(
            Number(metric=metric, paper=printed, ours=ours, difference=difference, tolerance=tolerance, verdict=verdict)
        )
    return tuple(numbers)


def commit() -> str | None:
    """The commit of a checkout; None for an installed package."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() or None


def _verdict(difference: float, tolerance: float) -> Verdict:
    if abs(difference) <= tolerance + ROUNDING:
        return "within"
    return "above" if difference > 0 else "below"
