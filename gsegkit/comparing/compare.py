"""A comparison from beginning to end: read, estimate, measure within the budget, score, draw."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gsegkit.comparing import material as folders
from gsegkit.comparing.budget import Cost, Deadline, fitting
from gsegkit.comparing.material import Material
from gsegkit.comparing.measure import OUTCOME_FILE, Outcome, cost_of, kept_outcome, measured
from gsegkit.comparing.methods import LeftOut, Method, baselines, runs
from gsegkit.comparing.page import write_page
from gsegkit.comparing.scores import Row, rows_of
from gsegkit.comparing.validated import CRITERIA, RESULT, SORTED_BY
from gsegkit.comparing.verdict import parts_sentence, sentence
from gsegkit.context import RunContext
from gsegkit.engine.claim import check_own
from gsegkit.errors import ConfigError, DataError, GsegkitError, InterruptedRunError, StorageError, and_more, plural
from gsegkit.exports.places import check_apart
from gsegkit.interfaces import DatasetReader
from gsegkit.plugins import Registry
from gsegkit.progress import duration
from gsegkit.refining import automatic
from gsegkit.rundir import WORK_FILE, RunFolder, stage_key
from gsegkit.storage import atomic_write_json, read_json

JSON_FILE = "comparison.json"
VERB = "compare"
METHODS = "methods"  # folder of what each method left
WITNESSES = 3  # families of methods; of fewer, what they have in common says little
PLAIN = re.compile(r"[a-z0-9][a-z0-9-]{0,40}")  # names that become folders as they are


@dataclass(frozen=True)
class Wanted:
    """What is to be compared.

    Attributes:
        methods: names of baselines; None = all that are installed.
        runs: folders of runs.
        budget: seconds.
        labelled: photographs whose labels may be used.
        most: photographs.
        update: replace a comparison of other photographs, or one that a smaller budget made on fewer of them.
    """

    methods: Sequence[str] | None
    runs: Sequence[Path]
    budget: float
    labelled: int
    most: int
    update: bool = False


@dataclass(frozen=True)
class Comparison:
    """What came out.

    Attributes:
        folder: of everything that was kept.
        page: to look at.
        rows: methods, alone and refined, the best first.
        sentence: what to take.
        parts: the same for parts; "" where no method has any.
        left_out: what was not compared, and why.
        notes: what else is worth knowing.
        annotated: whether the numbers are against masks.
    """

    folder: Path
    page: Path
    rows: tuple[Row, ...]
    sentence: str
    parts: str
    left_out: tuple[LeftOut, ...]
    notes: tuple[str, ...]
    annotated: bool

    def to_json(self) -> dict[str, Any]:
        """All but the pictures."""
        return {
            "sentence": self.sentence, "parts": self.parts, "annotated": self.annotated, "notes": list(self.notes),
            "rows": [row.to_json() for row in self.rows], "left_out": [vars(one) for one in self.left_out],
            "sorted_by": "foreground" if self.annotated else SORTED_BY, "page": str(self.page),
            "criteria": {name: vars(one) for name, one in CRITERIA.items()}, "criteria_measured_in": RESULT,
        }  # fmt: skip


@dataclass(frozen=True)
class Compared:
    """What was measured.

    Attributes:
        material: the photographs.
        outcomes: every method's answers.
        rows: methods, alone and refined, the best first.
        left_out: what was not compared, and why.
    """

    material: Material
    outcomes: tuple[Outcome, ...]
    rows: tuple[Row, ...]
    left_out: tuple[LeftOut, ...]


def compare(data: Path, reader: DatasetReader, registry: Registry, ctx: RunContext, wanted: Wanted) -> Comparison:
    """Compare methods on a folder; the context's folder keeps every method that was finished.

    Raises:
        GsegkitError: of folder, runs, methods or budget: nothing is left half done.
        InterruptedRunError: stopped; the same command continues.
    """
    found = comparison_of(data, reader, registry, ctx, wanted)
    return _told(found.rows, found.material, found.outcomes, found.left_out, ctx)


def comparison_of(
    data: Path, reader: DatasetReader, registry: Registry, ctx: RunContext, wanted: Wanted, *, masks: bool = True
) -> Compared:
    """Measure methods on a folder, as `compare` does; `masks`: look at the folder's masks, if it has any."""
    deadline = Deadline(ctx.stop, wanted.budget)
    ours = runs(wanted.runs, registry)
    baselines(registry, wanted.methods, wanted.labelled)  # unknown names, before anything is read
    check_apart(ctx.folder, data, "folder of photographs")
    check_own(ctx.folder, (WORK_FILE,), "a comparison")
    found = folders.read(data, reader, ctx, labelled=wanted.labelled, most=wanted.most, masks=masks)
    others, left_out = baselines(registry, wanted.methods, len(found.few))
    with RunFolder(ctx.folder).locked():
        count = _claim(ctx.folder, found, wanted.update)
        work = _Work(registry, ctx, deadline, list(left_out))
        outcomes, used = work.all([*ours, *others], found, count)
        return Compared(used, tuple(outcomes), tuple(rows_of(outcomes, used)), tuple(work.left_out))


def folder_of(method: Method, folder: Path) -> Path:
    """Where the comparison in `folder` keeps what it measured of a method."""
    plain = method.name.replace(" ", "-")
    return folder / METHODS / (plain if PLAIN.fullmatch(plain) else stage_key(method.name))


def _claim(folder: Path, found: Material, update: bool) -> int | None:
    """Record whose comparison the folder holds; the number of photographs that an earlier call settled on."""
    stored: Any = {}
    if (folder / WORK_FILE).is_file():
        stored = read_json(folder / WORK_FILE)
        if not isinstance(stored, dict) or stored.get("verb") != VERB:
            raise DataError(f"folder '{folder}' is not empty and not a comparison", "choose another --out")
        anything = (folder / JSON_FILE).exists() or any((folder / METHODS).glob(f"*/{OUTCOME_FILE}"))
        if stored.get("photographs") != found.identity and anything and not update:
            raise ConfigError(
                f"'{folder}' holds a comparison of other photographs, or of other labels",
                "choose another --out, or add --update to replace it",
            )
    count = stored.get("count") if stored.get("photographs") == found.identity and not update else None
    if not isinstance(count, int) or isinstance(count, bool) or not folders.FEWEST <= count <= len(found):
        count = None
    _record(folder, found, count)
    return count


def _record(folder: Path, found: Material, count: int | None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write_json(folder / WORK_FILE, {"verb": VERB, "photographs": found.identity, "count": count})


@dataclass
class _Work:
    """Everything that is measured, within the time."""

    registry: Registry
    ctx: RunContext
    deadline: Deadline
    left_out: list[LeftOut]
    late: list[str] = field(default_factory=list)  # methods that the budget was over for

    def all(self, methods: Sequence[Method], found: Material, count: int | None) -> tuple[list[Outcome], Material]:
        """Every method that fits into the budget, on as many photographs as fit."""
        if not methods:
            self._nothing()
        used = found.drawn(count, self.ctx.seed) if count is not None else found
        done = {m.name: kept for m in methods if (kept := self._kept(m, used)) is not None}
        if done:
            self.ctx.info(f"already done: {', '.join(done)}")
        costs = self._costs([method for method in methods if method.name not in done], used)
        fits, names = fitting(costs, len(used), self.deadline.left, len(used) if done else count)
        if fits < len(used):
            used = used.drawn(fits, self.ctx.seed)
        _record(self.ctx.folder, found, len(used) if len(used) < len(found) else None)
        for name in [name for name in costs if name not in names]:
            why = f"it would take about {duration(costs[name].of(len(used)))}, and the budget has less"
            self.left_out.append(LeftOut(name, why))
        if costs:
            about = sum(costs[name].of(len(used)) for name in names)
            self.ctx.info(
                f"{plural(len(names), 'method')} on {plural(len(used), 'photograph')}: about {duration(about)}, "
                f"budget left {duration(max(self.deadline.left, 0.0))}"
            )
        by_name = {method.name: method for method in methods}
        for place, name in enumerate(names, 1):
            self.ctx.info(f"{place} of {len(names)}: {name}")
            if (outcome := self._measured(by_name[name], used)) is not None:
                done[name] = outcome
        if not done:
            self._nothing()
        return [done[method.name] for method in methods if method.name in done], used

    def _nothing(self) -> None:
        if self.late:
            raise ConfigError(
                f"the budget is too small: no method was finished before it was over ({and_more(self.late, 3)})",
                "give more with --budget",
            )
        raise DataError(
            f"no method could be compared: {and_more([f'{one.name}: {one.why}' for one in self.left_out], 3)}",
            "pip install gsegkit-baselines, give runs with --runs, or a larger --budget",
        )

    def _costs(self, methods: Sequence[Method], used: Material) -> dict[str, Cost]:
        """What each takes; those that fail on a few photographs are left out."""
        costs = {}
        for method in methods:
            ctx = replace(self._context(method), stop=self.deadline)
            try:
                costs[method.name] = cost_of(method, used, self.registry, ctx, self.ctx.seed)
            except InterruptedRunError:
                self._unless_stopped(method, "a first look at a few photographs took the rest of the budget")
            except StorageError:
                raise
            except Exception as error:  # a method's fault is told, and the others go on
                self._failed(method, error)
            (ctx.folder / "checkpoint.safetensors").unlink(missing_ok=True)  # of the look, not of the work
        return costs

    def _measured(self, method: Method, used: Material) -> Outcome | None:
        ctx = replace(self._context(method), stop=self.deadline)
        try:
            return measured(method, used, self.registry, ctx, self._key(method, used))
        except InterruptedRunError:
            self._unless_stopped(method, "the budget was over before it ended; the same command continues")
        except StorageError:
            raise
        except Exception as error:  # as above
            self._failed(method, error)
        return None

    def _unless_stopped(self, method: Method, why: str) -> None:
        """The time was over: the method is left out. The user stopped: everything ends."""
        self.ctx.check_stop()
        self.late.append(method.name)
        self.left_out.append(LeftOut(method.name, why))

    def _failed(self, method: Method, error: Exception) -> None:
        lines = str(error.message if isinstance(error, GsegkitError) else error).splitlines() or [""]
        kind = "" if isinstance(error, GsegkitError) else f"{type(error).__name__}: "
        self.left_out.append(LeftOut(method.name, f"{kind}{lines[0]}"))
        self.ctx.warn(f"{method.name} is left out: {kind}{lines[0]}")

    def _kept(self, method: Method, used: Material) -> Outcome | None:
        return kept_outcome(method, self._context(method).folder, self._key(method, used), used)

    def _key(self, method: Method, used: Material) -> str:
        return stage_key(used.identity, method.identity, automatic(self.registry), self.ctx.seed)

    def _context(self, method: Method) -> RunContext:
        return replace(self.ctx, folder=folder_of(method, self.ctx.folder))


def _told(
    rows: Sequence[Row], used: Material, outcomes: Sequence[Outcome], left_out: Sequence[LeftOut], ctx: RunContext
) -> Comparison:
    """Write page and JSON."""
    notes = [*used.notes]
    if not used.masks and len({outcome.method.family for outcome in outcomes}) < WITNESSES:
        notes.append("fewer than three kinds of methods were compared: what they have in common says little")
    said, parts = sentence(rows), parts_sentence(rows)
    page = write_page(ctx.folder, used, rows, left_out, [said, *([parts] if parts else [])], notes)
    found = Comparison(
        ctx.folder, page, tuple(rows), said, parts, tuple(left_out), tuple(notes), bool(used.masks)
    )  # fmt: skip
    facts = {"photographs": len(used), "labelled": len(used.few), "classes": list(used.classes),
             "written": time.strftime("%Y-%m-%d %H:%M:%S")}  # fmt: skip
    atomic_write_json(ctx.folder / JSON_FILE, {**facts, **found.to_json()})
    return found
