"""A paper's table on the user's machine: every row by the ordinary verbs, the paper's number beside ours."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gsegkit.api.arguments import checked
from gsegkit.api.importing import import_checkpoint
from gsegkit.api.names import match
from gsegkit.api.pair_scores import evaluate_pairs
from gsegkit.api.results import evaluate, evaluate_generator, load
from gsegkit.api.runs import run_plan
from gsegkit.api.session import Session
from gsegkit.engine.claim import check_own
from gsegkit.engine.devices import pick_device
from gsegkit.engine.environment import environment
from gsegkit.engine.sources import open_labelled
from gsegkit.errors import ConfigError, GsegkitError, InterruptedRunError
from gsegkit.interfaces import Evaluator, MaskExtractor, Segmenter
from gsegkit.parts import CARD_FILE
from gsegkit.reproducing.exact import layer_facts, profile_values, published_count, score_shipped
from gsegkit.reproducing.given import Given
from gsegkit.reproducing.planned import Planned, Work, plan_table, run_plan_of
from gsegkit.reproducing.recipes import Data, Recipe, find_recipe, read_recipes
from gsegkit.reproducing.result import RowResult, TableResult, commit, earlier, judge
from gsegkit.rundir import RunFolder, stage_key
from gsegkit.storage import read_json
from gsegkit.training.ensemble import Ensemble

SMOKE = "a smoke run: every loop was limited to a few steps"
CLASSES = "classes.yaml"  # names of a run's clusters by a few labels, for rows that are scored under names


@dataclass(frozen=True)
class Reproduced:
    """What `reproduce` left.

    Attributes:
        work: each row with what it needs, and what of it is here.
        result: the paper's numbers and ours; of a dry run what earlier calls measured.
        file: the result's; None = nothing was measured.
    """

    work: Work
    result: TableResult
    file: Path | None


def default_folder(recipe: Recipe, smoke: bool) -> Path:
    """Where a paper's runs, weights and results go when nobody says; its tables share their runs."""
    return Path("runs") / f"reproduce-{recipe.group}{'-smoke' if smoke else ''}"


@checked
def reproduce(
    table: str,
    *,
    data: Sequence[str] = (),
    weights: Sequence[str] = (),
    rows: Sequence[str] | None = None,
    out: str | Path | None = None,
    dry_run: bool = False,
    smoke: bool = False,
    other_data: bool = False,
    recipes: str | Path | None = None,
    seed: int = 0,
    device: str = "auto",
    command: str = "",
    session: Session | None = None,
) -> Reproduced:
    """Measure a table of a paper, row by row. Call it again to resume: what was measured is kept.

    Nothing is fetched. Rows whose weights or data are not given are left out and say what they need.

    Args:
        table: a recipe, such as "directions-1"; `gsegkit reproduce --list` prints them.
        data: folders with data sets under their usual names, or "NAME=FOLDER".
        weights: files under their published names or folders of them, or "NAME=FILE".
        rows: names, `*` stands for anything; None = all.
        out: folder for runs, imported weights and results; None = `default_folder`.
        dry_run: look at weights, data and parts, and compute nothing.
        smoke: limit every loop to a few steps; no number is comparable then.
        other_data: go on with data whose number of images is not the paper's; no number is comparable then.
        recipes: folder of recipes of your own; None = those of the papers.
        seed: of every run.
        device: where to compute.
        command: what the user typed, for the result.
        session: see `run`.

    Raises:
        ConfigError: an unknown table or row, weights that are not the published ones, or nothing to measure.
        DataError: data of another version, or not unpacked to the end.
        InterruptedRunError: stopped; what was measured is kept.
    """
    session = session or Session.default()
    own = None if recipes is None else Path(recipes)
    recipe = find_recipe(table, own)
    chosen = recipe.table.chosen(None if rows is None else tuple(rows))
    given = Given.of(data, weights, [recipe.paper])
    work = plan_table(recipe, chosen, given, session.registry)
    folder = default_folder(recipe, smoke) if out is None else Path(out)
    tables = tuple(f"{name}.json" for name, one in read_recipes(own).items() if one.group == recipe.group)
    check_own(folder, tables, "the results of gsegkit reproduce")
    file = folder / f"{recipe.name}.json"
    found = earlier(file, recipe)
    if dry_run:
        return Reproduced(work, found, file if file.exists() else None)
    _check_any(work)
    if not (smoke or other_data):
        _check_data(work)
    facts = {"command": command, "commit": commit(), "seed": seed, "device": str(pick_device(device)), "smoke": smoke}
    doing = Doing(recipe, folder, seed, device, smoke, session)
    with RunFolder(folder).locked():
        for planned in work.ready:
            key = doing.key(planned)
            old = found.rows.get(planned.row.name)
            if old is not None and old.key == key and old.status == "done":
                continue
            measured = doing.measure(planned, key)
            now = {**facts, "environment": environment(), "rows": {**found.rows, planned.row.name: measured}}
            found = found.model_copy(update=now)
            found.write(file)
    return Reproduced(work, found, file)


@dataclass
class Doing:
    """A table while it is measured."""

    recipe: Recipe
    folder: Path
    seed: int
    device: str
    smoke: bool
    session: Session

    def key(self, planned: Planned) -> str:
        """Hash of what a row depends on: recipe, weights, data, seed, version of gsegkit."""
        paper, row = self.recipe.paper, planned.row
        runs = [paper.runs[run].model_dump() for run in row.used_runs]
        data = [paper.data[name].model_dump() for name in self.recipe.data_of(row)]
        here = [(str(one.folder.resolve()), one.count) for one in planned.data.values()]
        hashes = [sha256 for _, sha256 in planned.weights.values()]
        table = (self.recipe.table.eval, self.recipe.table.tolerance)
        version = environment()["gsegkit"]
        return stage_key(row.model_dump(), runs, data, here, hashes, table, self.seed, self.smoke, version)

    def measure(self, planned: Planned, key: str) -> RowResult:
        """One row; one that fails says why, and the others go on."""
        row, began = planned.row, time.monotonic()
        runs = [self.recipe.paper.runs[run] for run in row.used_runs]
        facts: dict[str, Any] = {
            "key": key, "unit": row.unit,
            "counts": {name: one.count for name, one in planned.data.items()},
            "weights": {name: sha256 for name, (_, sha256) in planned.weights.items()},
            "differs": (*self.recipe.table.differs, *row.differs, *(text for run in runs for text in run.differs)),
        }  # fmt: skip
        try:
            metrics, notes = self.metrics(planned)
            why = (
                *((SMOKE,) if self.smoke else ()),
                *planned.other,
                *((row.incomparable,) if row.incomparable else ()),
            )
            numbers = judge(row, self.recipe.table.tolerance, metrics, why[0] if why else "")
        except InterruptedRunError:
            raise
        except GsegkitError as error:
            return RowResult(status="failed", message=str(error), **facts)
        seconds = round(time.monotonic() - began, 2)
        return RowResult(status="done", numbers=numbers, seconds=seconds, notes=(*why, *notes), **facts)

    def metrics(self, planned: Planned) -> tuple[dict[str, float | None], tuple[str, ...]]:
        """What is measured for a row, by the ordinary verbs, and notes."""
        row, paper, registry = planned.row, self.recipe.paper, self.session.registry
        if row.how == "counts":
            counted = planned.data[row.data].count if row.data in planned.data else None
            return {"images": published_count(paper.data[row.data], registry) if counted is None else counted}, ()
        if row.how == "layers":
            return dict(layer_facts(row, registry)), ()
        if row.how == "options":
            return dict(profile_values(row, registry)), ()
        options = {**self.recipe.table.eval, **row.eval}
        ctx = self.session.context(self.folder, self.device, self.seed)
        if row.how == "shipped":
            scorer: Evaluator = registry.build("evaluator", row.evaluator, options)
            report = score_shipped(row, planned.data[row.data].folder, scorer, ctx)
            return dict(report.metrics), report.notes
        if row.how == "generator":
            return self._generator(planned)
        runs = [self._run(run, planned) for run in row.used_runs]
        if row.how == "cosine":
            extractor: MaskExtractor = load(runs[0], "extractor", session=self.session)
            return {"cosine": float(extractor.facts()["cosine"])}, ()
        if row.how == "pairs":
            report = evaluate_pairs(
                runs[0], planned.weights[row.labeller][0], num_images=row.num_images, evaluator=row.evaluator,
                options=options, by_options=row.labeller_options, seed=self.seed, device=self.device,
                session=self.session,
            )  # fmt: skip
            return dict(report.metrics), report.notes
        reader, folder = _reader(paper.data[row.data]), planned.data[row.data].folder
        if row.how == "ensemble":
            parts: list[Segmenter] = [load(run, session=self.session, device=self.device) for run in runs]
            scorer = registry.build("evaluator", row.evaluator, options)
            dataset = open_labelled(folder, registry, reader, parts[0].scaling)
            report = scorer.evaluate(Ensemble(parts), dataset, ctx)
            return dict(report.metrics), (*dataset.notes, *report.notes)
        if row.how == "named":
            names = runs[0] / f"{row.match}-{CLASSES}"
            if not names.exists():
                match(
                    runs[0], planned.data[row.match].folder, num_images=row.match_images, save=names, seed=self.seed,
                    reader_options=_reader(paper.data[row.match]), device=self.device, session=self.session,
                )  # fmt: skip
            options["match"] = str(names)
        report = evaluate(
            runs[0], folder, evaluator=row.evaluator, options=options, reader_options=reader, refine=(),
            device=self.device, session=self.session,
        )  # fmt: skip
        of_classes = {f"{name}.{key}": value for name, own in report.per_class.items() for key, value in own.items()}
        return {**report.metrics, **of_classes}, report.notes

    def _generator(self, planned: Planned) -> tuple[dict[str, float | None], tuple[str, ...]]:
        """A generator's distance to photographs."""
        row, paper = planned.row, self.recipe.paper
        plan = run_plan_of(self.recipe, row.run)
        need = paper.runs[row.run].weights
        own = {**plan.gen.options, **({"weights": str(self._imported(need, plan.gen.name, planned))} if need else {})}
        options = dict(row.eval)
        if row.eval_weights:
            options["weights"] = str(planned.weights[row.eval_weights][0])
        report = evaluate_generator(
            plan.gen.name, planned.data[row.data].folder, evaluator=row.evaluator, generator_options=own,
            options=options, reader_options=_reader(paper.data[row.data]), seed=self.seed, device=self.device,
            session=self.session,
        )  # fmt: skip
        return dict(report.metrics), report.notes

    def _run(self, name: str, planned: Planned) -> Path:
        """A run's folder, finished: the same run of another row, or of an earlier call, is not done again."""
        wanted = self.recipe.paper.runs[name]
        component = run_plan_of(self.recipe, name).gen.name
        weights = str(self._imported(wanted.weights, component, planned)) if wanted.weights else None
        images = planned.data[wanted.images].folder if wanted.images else None
        plan = run_plan_of(
            self.recipe, name, weights=weights, images=images, seed=self.seed, device=self.device,
            smoke=self.smoke or None,
        )  # fmt: skip
        return run_plan(plan, self.folder / "runs" / name, session=self.session).folder

    def _imported(self, name: str, component: str, planned: Planned) -> Path:
        """The folder of imported weights, of the generator that the row needs.

        Raises:
            ConfigError: the file holds another generator.
        """
        path, _ = planned.weights[name]
        folder = import_checkpoint(path, self.folder / "weights" / name, session=self.session)
        found = read_json(folder / CARD_FILE).get("generator")
        if found != component:
            raise ConfigError(
                f"'{path}' holds a generator '{found}', and the row needs '{component}'", "check the file"
            )
        return folder


# ---- inside ------------------------------------------------------------------------------------------------------


def _reader(data: Data) -> dict[str, Any]:
    """A reader and its options, as the verbs take them."""
    return {"name": data.reader, **data.options}


def _check_any(work: Work) -> None:
    """ConfigError when no row can be measured here, with what the first one needs."""
    if work.ready:
        return
    told = [(one.row.name, text) for one in work.rows for text in one.missing]
    if not told:
        raise ConfigError(
            "these rows are other people's methods: the paper's numbers are quoted, nothing is run", "see --list"
        )
    raise ConfigError(
        f"no row of '{work.recipe.name}' can be measured here: row '{told[0][0]}' needs {told[0][1]}",
        f"gsegkit reproduce {work.recipe.name} --dry-run shows what every row needs",
    )


def _check_data(work: Work) -> None:
    """ConfigError for data of another version."""
    for planned in work.ready:
        for text in planned.other:
            raise ConfigError(
                f"row '{planned.row.name}': {text}",
                "unpack the published archives to the end, or say --other-data: the numbers are not comparable then",
            )
