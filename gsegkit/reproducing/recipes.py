"""Recipes: tables of papers as data. A folder for each paper, in it paper.toml and a file for each table; no torch."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, StrictBool, StrictInt, StrictStr, model_validator

from gsegkit.errors import ArtifactError, ConfigError
from gsegkit.records.files import Record, read_value
from gsegkit.records.text import UnreadableError

PAPER_FILE = "paper.toml"
INSTALLED = Path(__file__).parent / "papers"  # in a wheel; pyproject.toml puts them there
CHECKOUT = Path(__file__).parents[2] / "benchmarks" / "recipes" / "papers"  # where they are written
Name = Annotated[str, Field(strict=True, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,80}$")]  # no path
How = Literal[
    "segmenter", "ensemble", "named", "cosine", "generator", "pairs",
    "counts", "layers", "options", "shipped",
    "quoted", "lacking",
]  # fmt: skip
EXACT: tuple[How, ...] = ("counts", "layers", "options", "shipped")  # need no trained weights


class Strict(Record):
    """Part of a recipe: a key that is unknown is an error."""

    model_config = ConfigDict(extra="forbid")


class Weights(Strict):
    """A file that the user brings; it is never fetched.

    Attributes:
        title: for people.
        file: its published name, which files are recognised by; "N" stands for a number that differs.
        source: from where, by name.
        sha256: that it must have; "" = no public code states it, and the result records what was found.
        licence: as far as it is known.
    """

    title: StrictStr
    file: StrictStr
    source: StrictStr
    sha256: str = Field("", strict=True, pattern="^([0-9a-f]{64})?$")
    licence: StrictStr


class Data(Strict):
    """A split of a data set as a paper uses it.

    Attributes:
        title: for people.
        reader: that reads it.
        options: of the reader, with the paper's split, crop and size.
        images: that the split has; None = not known, or not counted.
        masks: whether masks are needed.
        folders: names of its folder below a common root, where people usually have it.
        source: archives, by name.
    """

    title: StrictStr
    reader: Name
    options: dict[str, Any] = Field(default_factory=dict)
    images: StrictInt | None = None
    masks: StrictBool = True
    folders: tuple[StrictStr, ...]
    source: StrictStr


class Cost(Strict):
    """What a run takes.

    Attributes:
        gpu_hours: on `gpu`.
        basis: who says so: the paper, a measurement, or an estimate from the network's size.
    """

    disk_gb: float = Field(0, ge=0)
    gpu_hours: float = Field(0, ge=0)
    gpu: StrictStr = ""
    basis: Literal["paper", "measured", "estimate"] = "estimate"


class Run(Strict):
    """What rows share: a plan, as `gsegkit run --config` takes it, with the paper's options.

    Attributes:
        plan: without folders and weights, which the user has.
        weights: of the generator, one of the paper's; "" = it is trained, or random.
        images: data that the generator is trained on, one of the paper's; "" = none.
        differs: from the published code, or from the paper.
    """

    plan: dict[str, Any]
    weights: str = Field("", strict=True)
    images: str = Field("", strict=True)
    cost: Cost = Cost()
    differs: tuple[StrictStr, ...] = ()


class Paper(Strict):
    """paper.toml: what the tables of one paper share."""

    title: StrictStr
    code: StrictStr
    weights: dict[Name, Weights] = Field(default_factory=dict)
    data: dict[Name, Data] = Field(default_factory=dict)
    runs: dict[Name, Run] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _known(self) -> Self:
        for name, run in self.runs.items():
            for what, used, known in (("weights", run.weights, self.weights), ("data", run.images, self.data)):
                if used and used not in known:
                    raise ValueError(f"run '{name}' uses {what} '{used}', which are not described")
        return self


class Row(Strict):
    """A row of a table, or one of its cells.

    Attributes:
        name: unique in the table.
        method: as the paper calls it.
        how: what measures it. Of "quoted" rows only the number is kept: they are other people's methods.
        run, runs: of the paper; several for an ensemble.
        data: that it is scored on, or photographs for `how = "generator"`.
        match: of `how = "named"`: data whose labels name the clusters, and `match_images` of them.
        evaluator, eval: name and options.
        eval_weights: weights for the evaluator's option `weights`.
        labeller, labeller_options: of `how = "pairs"`: weights of a network, as an ONNX file, whose masks of the run's
            first `num_images` pictures are taken for the truth, and options of `onnx-mask`.
        component, options: of `how = "layers"` a generator without weights; of "options" a part and its profile.
        folders: of `how = "shipped"`, predictions and truth below the data's folder.
        paper: metric of ours -> the printed value.
        printed: what the row prints besides and nothing here measures.
        tolerance: metric -> most absolute difference, instead of the table's.
        unit: "share", or "percent": ours is multiplied by 100.
        lacks: of `how = "lacking"`, what nobody has, or what is not written yet.
        incomparable: why a difference says nothing; "" = it does.
    """

    name: Name
    method: StrictStr
    how: How = "segmenter"
    run: str = Field("", strict=True)
    runs: tuple[StrictStr, ...] = ()
    data: str = Field("", strict=True)
    match: str = Field("", strict=True)
    match_images: StrictInt = 100
    evaluator: Name = "masks"
    eval: dict[str, Any] = Field(default_factory=dict)
    eval_weights: str = Field("", strict=True)
    labeller: str = Field("", strict=True)
    labeller_options: dict[str, Any] = Field(default_factory=dict)
    num_images: StrictInt = 1000
    component: str = Field("", strict=True)
    options: dict[str, Any] = Field(default_factory=dict)
    folders: tuple[StrictStr, ...] = ()
    paper: dict[str, float] = Field(default_factory=dict)
    printed: dict[str, float | StrictStr] = Field(default_factory=dict)
    tolerance: dict[str, float] = Field(default_factory=dict)
    unit: Literal["share", "percent", "number"] = "share"
    lacks: str = Field("", strict=True)
    incomparable: str = Field("", strict=True)
    differs: tuple[StrictStr, ...] = ()

    @model_validator(mode="after")
    def _whole(self) -> Self:
        needed = {
            "segmenter": (self.run, self.data), "named": (self.run, self.data, self.match), "cosine": (self.run,),
            "ensemble": (self.runs, self.data), "generator": (self.run, self.data),
            "pairs": (self.run, self.labeller), "counts": (self.data,),
            "layers": (self.component,), "options": (self.component, self.options),
            "shipped": (self.data, len(self.folders) == 2), "quoted": (), "lacking": (self.lacks,),
        }  # fmt: skip
        if not all(needed[self.how]) or not (self.paper or self.printed):
            raise ValueError(f"row '{self.name}' is not whole: '{self.how}' needs more than it says")
        return self

    @property
    def used_runs(self) -> tuple[str, ...]:
        """Runs that must be finished before it is scored."""
        return self.runs or ((self.run,) if self.run else ())

    @property
    def runs_here(self) -> bool:
        """Whether anything is measured for it."""
        return self.how not in ("quoted", "lacking")


class Table(Strict):
    """A table of a paper.

    Attributes:
        name: as the command line takes it; from the names of folder and file.
        title: what it shows.
        eval: options of the evaluator, for all rows; a row's own come after.
        tolerance: metric -> most absolute difference between our number and the paper's, in the row's unit.
        differs: from the published code, for all rows.
        notes: what a reader must know, such as printing errors.
    """

    name: Name
    title: StrictStr
    eval: dict[str, Any] = Field(default_factory=dict)
    tolerance: dict[str, float] = Field(default_factory=dict)
    differs: tuple[StrictStr, ...] = ()
    notes: tuple[StrictStr, ...] = ()
    rows: tuple[Row, ...] = Field(alias="row", min_length=1)

    @model_validator(mode="after")
    def _judged(self) -> Self:
        names = [row.name for row in self.rows]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"row '{min(twice)}' is there twice")
        for row in self.rows:
            for metric in row.paper if row.runs_here else ():
                if metric not in row.tolerance and metric not in self.tolerance:
                    raise ValueError(f"row '{row.name}': '{metric}' has no tolerance")
        return self

    def chosen(self, patterns: tuple[str, ...] | None) -> tuple[Row, ...]:
        """Rows by name, `*` stands for anything; None = all.

        Raises:
            ConfigError: a pattern that fits none.
        """
        for pattern in patterns or ():
            if not any(fnmatchcase(row.name, pattern) for row in self.rows):
                known = ", ".join(row.name for row in self.rows)
                raise ConfigError(f"table '{self.name}' has no row '{pattern}'", f"rows: {known}")
        return tuple(row for row in self.rows if patterns is None or any(fnmatchcase(row.name, p) for p in patterns))


class Recipe(Strict):
    """A table, and what its paper says for all of them."""

    paper: Paper
    table: Table
    group: Name

    @model_validator(mode="after")
    def _known(self) -> Self:
        for row in self.table.rows:
            used = (
                ("run", row.used_runs, set(self.paper.runs)),
                ("data", (row.data, row.match), set(self.paper.data)),
                ("weights", (row.eval_weights,), set(self.paper.weights)),
            )
            for what, names, known in used:
                if missing := [name for name in names if name and name not in known]:
                    raise ValueError(f"row '{row.name}': there is no {what} '{missing[0]}' in {PAPER_FILE}")
        return self

    @property
    def name(self) -> str:
        """As the command line takes it."""
        return self.table.name

    def data_of(self, row: Row) -> tuple[str, ...]:
        """Names of all the data that a row needs; of counts they may be missing, readers know the published ones."""
        images = tuple(self.paper.runs[run].images for run in row.used_runs)
        return tuple(dict.fromkeys(name for name in (row.data, row.match, *images) if name))

    def weights_of(self, row: Row) -> tuple[str, ...]:
        """Names of all the weights that a row needs."""
        of_runs = tuple(self.paper.runs[run].weights for run in row.used_runs)
        return tuple(dict.fromkeys(name for name in (*of_runs, row.eval_weights, row.labeller) if name))


def recipes_folder() -> Path:
    """Where the papers' recipes lie: inside the installed package, in a checkout in benchmarks/recipes/papers."""
    return INSTALLED if INSTALLED.is_dir() else CHECKOUT


def read_recipes(folder: Path | None = None) -> dict[str, Recipe]:
    """All tables by name, `PAPER-TABLE`, sorted.

    Args:
        folder: of folders with paper.toml and tables; None = the papers' that come with gsegkit.

    Raises:
        ConfigError: there is no recipe.
        ArtifactError: a file that is no recipe.
    """
    folder = recipes_folder() if folder is None else folder
    found: dict[str, Recipe] = {}
    for paper_file in sorted(folder.glob(f"*/{PAPER_FILE}")):
        group = paper_file.parent.name
        paper = Paper.parse(_toml(paper_file), paper_file)
        for path in sorted(paper_file.parent.glob("table-*.toml")):
            name = f"{group}-{path.stem.removeprefix('table-')}"
            table = Table.parse({"name": name, **_toml(path)}, path)
            found[name] = Recipe.parse({"paper": paper, "table": table, "group": group}, path)
    if not found:
        raise ConfigError(f"there is no recipe in '{folder}'", f"a recipe is PAPER/{PAPER_FILE} and PAPER/table-*.toml")
    return found


def find_recipe(name: str, folder: Path | None = None) -> Recipe:
    """One table.

    Raises:
        ConfigError: there is none of this name.
        ArtifactError: see `read_recipes`.
    """
    known = read_recipes(folder)
    if name not in known:
        raise ConfigError(f"there is no recipe of a table '{name}'", f"tables: {', '.join(known)}")
    return known[name]


def _toml(path: Path) -> dict[str, Any]:
    try:
        value = read_value(path)
    except (OSError, UnreadableError) as error:
        raise ArtifactError(f"recipe '{path}' cannot be read: {error}", "correct the file") from None
    return value if isinstance(value, dict) else {"": value}
