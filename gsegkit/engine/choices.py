"""The parts of a plan, chosen once: entry, config, identity and licence of each. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from gsegkit.config import Available, Config, build_config, current_names
from gsegkit.engine.plan import PART_KINDS, PHOTO_REFINER, PartSpec, Plan
from gsegkit.errors import GsegkitError, UnknownPluginError
from gsegkit.plugins import Entry, Registry


@dataclass(frozen=True)
class Problem:
    """One thing that keeps a run from starting: where it is, what it is, and the remedy."""

    where: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" + (f" ({self.hint})" if self.hint else "")


class PreflightError(GsegkitError):
    """One or more problems were found before anything was computed."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        first = problems[0]
        if len(problems) == 1:
            super().__init__(first.message, first.hint)
        else:
            super().__init__("; ".join(str(problem) for problem in problems))


@dataclass(frozen=True)
class Choice:
    """One part of a plan: the component that the registry found, and its validated options.

    Attributes:
        where: part of the plan, e.g. `"gen"` or `"refine.area"`.
        kind: component kind.
        name: its name in the plan, perhaps `name@distribution`.
        entry: the installed component.
        config: its options, with automatic choices written out.
        recorded: the same options as an earlier run of the folder stored them; None = nothing else is stored.
    """

    where: str
    kind: str
    name: str
    entry: Entry
    config: Config
    recorded: Mapping[str, Any] | None = None

    @property
    def spec(self) -> PartSpec:
        """The part as a plan stores it: every option written out, or as it was recorded before."""
        options = self.config.model_dump(mode="json") if self.recorded is None else dict(self.recorded)
        return PartSpec(name=self.name, options=options)

    @property
    def identity(self) -> list[Any]:
        """What a result depends on: component, version, options."""
        return [self.entry.full_name, self.entry.version, self.spec.options]

    @property
    def licence(self) -> list[str]:
        """[component, licence of its code]."""
        return [self.entry.full_name, self.entry.component.licence]

    def build(self) -> Any:
        """A new part."""
        return self.entry.build(self.config)

    def as_recorded(self, stored: Any, available: Available) -> Choice:
        """The same part, stored as `stored` is where that means the same; else `self`.

        So an option that was renamed, added or chosen automatically since then changes no stage key.
        """
        if not isinstance(stored, Mapping) or stored.get("name") != self.name or stored == self.spec.model_dump():
            return self
        cls, options = type(self.config), stored.get("options", {})
        try:
            meant = build_config(cls, current_names(cls, options), self.where).resolved(available)
        except GsegkitError:  # options of another version: a difference, which whoever claims the folder reports
            return self
        return replace(self, recorded=options) if meant == self.config else self


@dataclass(frozen=True)
class Choices:
    """A plan and its parts. A part that cannot be chosen is a problem; asking for it raises.

    Attributes:
        plan: with every option of every part written out, so that later defaults cannot change it.
        parts: part of the plan -> its choice.
        refiners: in the order they run.
        problems: of the parts that could not be chosen.
    """

    plan: Plan
    parts: Mapping[str, Choice]
    refiners: tuple[Choice, ...] = ()
    problems: tuple[Problem, ...] = ()

    def __getitem__(self, where: str) -> Choice:
        """The part called `where` in the plan.

        Raises:
            PreflightError: it could not be chosen.
        """
        if where not in self.parts:
            raise PreflightError([p for p in self.problems if p.where == where] or [Problem(where, "was not chosen")])
        return self.parts[where]

    def find(self, kind: str, name: str) -> Entry:
        """The installed component behind a chosen part; nobody asks the registry again.

        Raises:
            UnknownPluginError: no part of the plan is this component.
        """
        for choice in self.every:
            if (choice.kind, choice.name) == (kind, name):
                return choice.entry
        raise UnknownPluginError(f"the plan uses no {kind} '{name}'", "name one of its parts")

    @cached_property
    def every(self) -> tuple[Choice, ...]:
        """All parts, the refiners last."""
        return (*self.parts.values(), *self.refiners)

    def as_recorded(self, record: Mapping[str, Any], available: Available) -> Choices:
        """The same choices, each stored as in `record` (a config.json) where that means the same."""
        parts = {where: part.as_recorded(record.get(where), available) for where, part in self.parts.items()}
        stored = record.get("refine") or ()
        refiners = self.refiners
        if len(stored) == len(refiners):
            refiners = tuple(part.as_recorded(old, available) for part, old in zip(refiners, stored, strict=True))
        return _with_parts(self.plan, parts, refiners, self.problems)

    def with_plan(self, **changes: Any) -> Choices:
        """The same parts in a plan whose other fields are changed."""
        return replace(self, plan=self.plan.model_copy(update=changes))

    def build_refiners(self) -> list[tuple[str, Any]]:
        """New refiners as (name, refiner); one that is used twice gets a number.

        Raises:
            PreflightError: one of them could not be chosen.
        """
        lost = [problem for problem in self.problems if problem.where.startswith("refine.")]
        if lost:
            raise PreflightError(lost)
        named: list[tuple[str, Any]] = []
        for choice in self.refiners:
            count = sum(name.partition("#")[0] == choice.name for name, _ in named)
            named.append((choice.name if count == 0 else f"{choice.name}#{count + 1}", choice.build()))
        return named


def choose(plan: Plan, registry: Registry) -> Choices:
    """Find every part of a plan and validate its options: once, for everything that follows."""
    chosen = Chosen(registry)
    chosen.add(plan)
    if plan.refine is None:
        plan = plan.model_copy(update={"refine": chosen.suggested_refiners()})
        chosen.add(plan, only="refine.")
    refiners = tuple(choice for choice in chosen.found if choice.where.startswith("refine."))
    parts = {choice.where: choice for choice in chosen.found if choice not in refiners}
    return _with_parts(plan, parts, refiners, tuple(chosen.problems))


class Chosen:
    """The parts that were chosen so far, and the problems of those that could not be."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.found: list[Choice] = []
        self.problems: list[Problem] = []

    def add(self, plan: Plan, only: str = "") -> None:
        """Choose the plan's parts; those only whose place begins with `only`."""
        for where, kind, spec in plan.parts():
            if where.startswith(only):
                self._add(where, kind, spec)

    def suggested_refiners(self) -> tuple[PartSpec, ...]:
        """What the extractor suggests, of what is installed."""
        there = self.registry.available("refiner")
        extractors = [choice.config for choice in self.found if choice.where == "extractor"]
        suggested = [named for config in extractors for named in config.suggested_refiners().items()]
        return tuple(PartSpec(name=name, options=dict(options)) for name, options in suggested if name in there)

    def _add(self, where: str, kind: str, spec: PartSpec) -> None:
        hint = None
        try:
            entry = self.registry.find(kind, spec.name)
            hint = f"gsegkit show {kind} {spec.name} lists the options"
            config = build_config(entry.config_class(), spec.options, where).resolved(self.registry.available)
        except GsegkitError as error:
            self.problems.append(Problem(where, error.message, hint or error.hint))
        else:
            self.found.append(Choice(where, kind, spec.name, entry, config))


def _with_parts(
    plan: Plan, parts: Mapping[str, Choice], refiners: tuple[Choice, ...], problems: tuple[Problem, ...]
) -> Choices:
    update: dict[str, Any] = {where: choice.spec for where, choice in parts.items() if where in PART_KINDS}
    if PHOTO_REFINER in parts and plan.selftrain is not None:
        update["selftrain"] = plan.selftrain.model_copy(update={"refine": parts[PHOTO_REFINER].spec})
    if len(refiners) == len(plan.refine or ()):
        update["refine"] = tuple(choice.spec for choice in refiners)
    return Choices(plan.model_copy(update=update), parts, refiners, problems)
