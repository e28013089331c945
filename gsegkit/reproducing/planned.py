"""What can be done here: each row of a table with what it needs, looked at before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from gsegkit.config import build_config
from gsegkit.engine.choices import Problem, choose
from gsegkit.engine.plan import Plan
from gsegkit.engine.preflight import check
from gsegkit.errors import DataError, GsegkitError, NoMasksError, plural
from gsegkit.interfaces import DatasetReader
from gsegkit.plugins import Registry
from gsegkit.reproducing.given import Given, check_weights, missing_weights
from gsegkit.reproducing.recipes import Cost, Data, Recipe, Row

State = Literal["ready", "missing", "quoted", "lacking"]


@dataclass(frozen=True)
class Opened:
    """A data set as it lies on this machine.

    Attributes:
        name: of the recipe's data.
        folder: of it.
        count: images of the split; None = not counted.
        notes: what its reader recognised, a sentence each.
        other: why it is not the paper's; "" = it is, as far as counting tells.
    """

    name: str
    folder: Path
    count: int | None
    notes: tuple[str, ...] = ()
    other: str = ""


@dataclass(frozen=True)
class Planned:
    """A row and what it needs.

    Attributes:
        row: of the table.
        state: "ready"; something is "missing" here; another method's row, only "quoted"; or "lacking": nobody has it.
        missing: what is, a sentence each: the file, from where, how to give it.
        data, weights: by the recipe's names, what is here; weights with their sha256.
    """

    row: Row
    state: State
    missing: tuple[str, ...] = ()
    data: Mapping[str, Opened] = field(default_factory=dict)
    weights: Mapping[str, tuple[Path, str]] = field(default_factory=dict)

    @property
    def other(self) -> tuple[str, ...]:
        """Why its data are not the paper's; () = they are."""
        return tuple(opened.other for opened in self.data.values() if opened.other)


@dataclass(frozen=True)
class Work:
    """A recipe with what the user has, before anything is computed.

    Attributes:
        recipe: of the table.
        rows: chosen ones, in the table's order.
    """

    recipe: Recipe
    rows: tuple[Planned, ...]

    @property
    def ready(self) -> tuple[Planned, ...]:
        """Rows that can be measured here."""
        return tuple(planned for planned in self.rows if planned.state == "ready")

    def runs(self, state: State = "ready") -> tuple[str, ...]:
        """Runs of the rows in this state, each once."""
        return tuple(dict.fromkeys(run for one in self.rows if one.state == state for run in one.row.used_runs))

    def cost(self) -> Cost:
        """Of all runs that are ready together."""
        costs = [self.recipe.paper.runs[run].cost for run in self.runs()]
        return Cost(disk_gb=sum(c.disk_gb for c in costs), gpu_hours=sum(c.gpu_hours for c in costs))


def plan_table(recipe: Recipe, rows: Sequence[Row], given: Given, registry: Registry) -> Work:
    """Look at everything that rows need: weights and their sha256, data and their layout, parts and their options.

    Raises:
        GsegkitError: weights or data that are here and wrong, or a recipe whose parts are not installed.
    """
    opened: dict[str, Opened | str] = {}
    hashed: dict[str, tuple[Path, str] | str] = {}
    planned = tuple(_planned(recipe, row, given, registry, opened, hashed) for row in rows)
    return Work(recipe, planned)


def run_plan_of(
    recipe: Recipe, run: str, *, weights: str | None = None, images: Path | None = None, **fields: Any
) -> Plan:
    """The plan of a run, with what the user has: folder of the imported weights, folder of the photographs.

    Args:
        recipe: of the table.
        run: of its paper.
        weights: for the generator's option `weights`; None = none.
        images: photographs to train the generator on.
        fields: of the plan: seed, device, smoke.
    """
    wanted = recipe.paper.runs[run]
    base = dict(wanted.plan)
    assigned = [] if weights is None else [f"gen.weights={weights}"]
    if images is not None:
        data = recipe.paper.data[wanted.images]
        base |= {"images": str(images), "data_reader": {"name": data.reader, "options": data.options}}
    return Plan.from_options(base, assigned, **fields)


# ---- inside ------------------------------------------------------------------------------------------------------


def _planned(
    recipe: Recipe, row: Row, given: Given, registry: Registry, opened: dict[str, Opened | str],
    hashed: dict[str, tuple[Path, str] | str],
) -> Planned:  # fmt: skip
    if row.how == "quoted":
        return Planned(row, "quoted")
    if row.how == "lacking":
        return Planned(row, "lacking", (row.lacks,))
    for name in recipe.data_of(row):
        if name not in opened:
            opened[name] = _open(name, recipe.paper.data[name], given, registry, plain=row.how == "shipped")
    for name in recipe.weights_of(row):
        if name not in hashed:
            weights = recipe.paper.weights[name]
            path = given.file_of(name, weights)
            hashed[name] = (
                missing_weights(name, weights) if path is None else (path, check_weights(path, name, weights))
            )
    data = {name: found for name in recipe.data_of(row) if isinstance(found := opened[name], Opened)}
    files = {name: one for name in recipe.weights_of(row) if isinstance(one := hashed[name], tuple)}
    told = [opened[name] for name in recipe.data_of(row)] + [hashed[name] for name in recipe.weights_of(row)]
    missing = () if row.how == "counts" else tuple(text for text in told if isinstance(text, str))
    _check_parts(recipe, row, registry, {name: one.folder for name, one in data.items()})
    return Planned(row, "missing" if missing else "ready", missing, data, files)


def _open(name: str, data: Data, given: Given, registry: Registry, plain: bool) -> Opened | str:
    """A data set, or what to say when it is not here."""
    folder = given.folder_of(name, data.folders)
    if folder is None:
        return f"{data.title} ({data.source}): --data ROOT with {data.folders[0]} in it, or {name}=FOLDER"
    if plain:
        return Opened(name, folder, None)
    reader: DatasetReader = registry.build("dataset", data.reader, data.options)
    try:
        dataset = reader.labelled(folder) if data.masks else reader.images(folder)
    except NoMasksError as error:
        return f"masks of {data.title}: {error}"
    except DataError as error:
        raise DataError(f"data '{name}': {error.message}", error.hint) from None
    count, other = len(dataset), ""
    if data.images is not None and count != data.images:
        other = f"{data.title} has {plural(count, 'image')} here, and {data.images:,} in the paper"
    return Opened(name, folder, count, tuple(getattr(dataset, "notes", ())), other)


def _check_parts(recipe: Recipe, row: Row, registry: Registry, folders: Mapping[str, Path]) -> None:
    """GsegkitError when a part is not installed, has no such option, or does not fit the others."""
    for run in row.used_runs:
        images = recipe.paper.runs[run].images
        plan = run_plan_of(recipe, run, images=folders.get(images))
        choices = choose(plan, registry)
        waiting = bool(images) and images not in folders  # for photographs: all else can be looked at
        problems = [p for p in check(choices) if not (waiting and "photographs" in p.message)]
        if problems:
            raise GsegkitError(f"row '{row.name}', run '{run}': {_line(problems)}", problems[0].hint)
    if row.how in ("segmenter", "ensemble", "named", "shipped", "pairs", "generator"):
        kind = "generator-evaluator" if row.how == "generator" else "evaluator"
        options = row.eval if row.how == "generator" else {**recipe.table.eval, **row.eval}
        build_config(registry.find(kind, row.evaluator).config_class(), options, "eval")


def _line(problems: Sequence[Problem]) -> str:
    return "; ".join(problem.message for problem in problems)
