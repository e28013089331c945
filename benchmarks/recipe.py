"""Recipes: what is measured, how, on which data, and what should come out."""

from __future__ import annotations

import importlib
import inspect
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, model_validator

from benchmarks.paths import look_up
from gsegkit.errors import GsegkitError

ROOT = Path(__file__).parents[1]
RECIPES = ROOT / "benchmarks" / "recipes"


class Expected(BaseModel):
    """One number of the result and what it should be.

    Attributes:
        path: where it stands in the result's values, see `paths.look_up`.
        value: expected.
        tolerance: most absolute difference.
    """

    model_config = ConfigDict(extra="forbid")

    path: str
    value: float
    tolerance: float = Field(ge=0)

    def check(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The line of the result: what was found, and whether it is near enough."""
        found = look_up(values, self.path)
        if isinstance(found, list) or not isinstance(found, int | float):
            raise GsegkitError(f"'{self.path}' is not one number", "name one number in [[expected]]")
        return {**self.model_dump(), "found": found, "ok": bool(abs(found - self.value) <= self.tolerance)}


class Recipe(BaseModel):
    """A file of `benchmarks/recipes`.

    Attributes:
        name: the file's stem; the result is called the same.
        what: one sentence.
        protocol: MODULE.FUNCTION in `benchmarks/protocols`; or
        command: the words of a command line, for example `["gsegkit", "run", ...]`; `{work}` is the work folder.
        reads: of a command: name in the values -> JSON file that it leaves behind.
        options: keyword arguments of the protocol.
        seeds, threads: what they are in the published result.
        data: folders below `$GSEGKIT_DATA` that must be there.
        minutes: about how long it takes on one core.
        expected: numbers with their tolerance; they make the verdict.
    """

    model_config = ConfigDict(extra="forbid")

    name: str
    what: str
    protocol: str | None = None
    command: list[str] = []
    reads: dict[str, str] = {}
    options: dict[str, Any] = {}
    seeds: list[int] = [0]
    threads: int = Field(1, ge=1)
    data: list[str] = []
    minutes: float | None = None
    expected: list[Expected] = []
    _given: tuple[str, ...] = PrivateAttr(())  # options that were given by hand, for the result's command

    @model_validator(mode="after")
    def _one_way(self) -> Recipe:
        if (self.protocol is None) == (not self.command):
            raise ValueError("give either 'protocol' or 'command'")
        return self

    def with_options(self, given: Sequence[str]) -> Recipe:
        """The recipe with other options, each KEY=VALUE; VALUE as in TOML, or a plain word.

        Raises:
            GsegkitError: no "=".
        """
        found = {}
        for text in given:
            key, equals, value = text.partition("=")
            if not equals:
                raise GsegkitError(f"'{text}' is not an option", "write KEY=VALUE")
            try:
                found[key] = tomllib.loads(f"value = {value}")["value"]
            except tomllib.TOMLDecodeError:
                found[key] = value
        changed = self.model_copy(update={"options": {**self.options, **found}})
        changed._given = tuple(given)
        return changed

    def words(self) -> list[str]:
        """The command line that measures it."""
        given = [word for text in self._given for word in ("-o", text)]
        return self.command or ["python", "-m", "benchmarks", "run", self.name, *given]

    def function(self) -> Callable[..., dict[str, Any]]:
        """The protocol, after a look at whether it takes these options."""
        assert self.protocol is not None
        function = protocol(self.protocol)
        known = inspect.signature(function).parameters
        for option in self.options:
            if option not in known:
                raise GsegkitError(
                    f"recipe '{self.name}': '{self.protocol}' has no option '{option}'",
                    f"its options are {', '.join(name for name in known if name != 'lab') or 'none'}",
                )
        return function


def protocol(name: str) -> Callable[..., dict[str, Any]]:
    """MODULE.FUNCTION of `benchmarks/protocols`."""
    module, _, function = name.partition(".")
    try:
        found: Callable[..., dict[str, Any]] = getattr(
            importlib.import_module(f"benchmarks.protocols.{module}"), function
        )
    except (ModuleNotFoundError, AttributeError) as error:
        raise GsegkitError(f"there is no protocol '{name}'", "see benchmarks/protocols") from error
    return found


def read_recipe(path: Path) -> Recipe:
    """The recipe in a file.

    Raises:
        GsegkitError: not TOML, an unknown key, or a name that is not the file's.
    """
    try:
        recipe = Recipe(name=path.stem, **tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, tomllib.TOMLDecodeError, ValidationError, TypeError) as error:
        raise GsegkitError(f"{path.name} is not a recipe: {error}", "see benchmarks/README.md") from error
    return recipe


def recipes() -> list[Recipe]:
    """All of them, by name."""
    return [read_recipe(path) for path in sorted(RECIPES.glob("*.toml"))]
