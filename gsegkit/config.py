"""Options: one frozen pydantic model per component, `-o part.option=value`, option files, readable errors."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Set
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from gsegkit.errors import ConfigError, and_more
from gsegkit.records.files import read_value
from gsegkit.records.text import UnreadableError, cut, json_value, printable, shown

#: Component kind -> names of the installed components that can run here.
Available = Callable[[str], Set[str]]


class Config(BaseModel):
    """Base of every component's options: immutable, and an unknown option is an error.

    A method with several sets of constants declares a field `profile: Literal["default", "paper"]` and fills
    `profiles`; the values of the chosen profile replace the defaults, and options given by the user win over both.

    An option that got another name is listed in `renamed` (old name -> new name). Old names are read in stored records
    only (config.json of a run, component.json of a part); on the command line they are errors. An option whose default
    is not what parts did before they had it is listed in `added`, with the value that older records mean.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    profiles: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    renamed: ClassVar[Mapping[str, str]] = {}
    added: ClassVar[Mapping[str, Any]] = {}

    def resolved(self, available: Available) -> Self:
        """These options with automatic choices written out, so that a replay does not depend on what is installed.

        Args:
            available: component kind -> names of the installed components that can run here.
        """
        return self

    def suggested_refiners(self) -> Mapping[str, Mapping[str, Any]]:
        """Of an extractor: refiners (name -> options) of its masks when a run names none, where they are installed."""
        return {}

    @model_validator(mode="before")
    @classmethod
    def _apply_profile(cls, values: Any) -> Any:
        field = cls.model_fields.get("profile")
        if not isinstance(values, dict) or field is None:
            return values
        name = values.get("profile", field.default)
        return {**cls.profiles.get(name, {}), **values}


MAX_PROBLEMS = 30  # of one set of options, named in a message
MAX_MESSAGE = 600  # characters of one of them
ConfigT = TypeVar("ConfigT", bound=Config)


def parse_value(text: str) -> Any:
    """Read a command-line value: JSON when it is JSON (`64`, `true`, `null`, `["a"]`), else the text itself."""
    try:
        return json_value(text)
    except UnreadableError:
        return text


def parse_assignments(assignments: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Turn `["extractor.k_init=64", "seg.lr=1e-3"]` into `{"extractor": {"k_init": 64}, "seg": {"lr": 1e-3}}`.

    Deeper names keep their dots inside the option (`refine.area.max=0.5` -> `{"refine": {"area.max": 0.5}}`).

    Raises:
        ConfigError: not of the form `part.option=value`, or the same option twice.

    Example:
        >>> parse_assignments(["extractor.k=12", "gen.weights=none"])
        {'extractor': {'k': 12}, 'gen': {'weights': 'none'}}
    """
    parts: dict[str, dict[str, Any]] = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        part, dot, option = name.strip().partition(".")
        if not (equals and dot and part and option):
            raise ConfigError(
                f"option '{assignment}' does not have the form part.option=value",
                "for example -o segmenter.steps=2000",
            )
        options = parts.setdefault(part, {})
        if option in options:
            raise ConfigError(f"option '{name.strip()}' was given twice", "give it once")
        options[option] = parse_value(value.strip())
    return parts


def build_config(cls: type[ConfigT], options: Mapping[str, Any], where: str) -> ConfigT:
    """Validate `options` against a component's model.

    Raises:
        ConfigError: all problems in one message, each as `where.option: what is wrong (got ...)`.
    """
    try:
        return cls(**dict(options))
    except ValidationError as error:
        lines = [_problem(cls, problem, where) for problem in error.errors()]
        raise ConfigError(and_more(lines, MAX_PROBLEMS), "gsegkit show KIND NAME prints the options") from None
    except TypeError as error:
        raise ConfigError(f"{where}: {cut(str(error), MAX_MESSAGE)}", "options are name=value pairs") from None


def current_names(cls: type[Config], stored: Mapping[str, Any]) -> dict[str, Any]:
    """Options from a stored record, under the names that they have today (see `Config.renamed` and `added`)."""
    return {**cls.added, **{cls.renamed.get(name, name): value for name, value in stored.items()}}


def _problem(cls: type[Config], problem: Any, where: str) -> str:
    location = cut(printable(".".join(str(part) for part in problem["loc"])), MAX_MESSAGE)
    name = f"{where}.{location}" if location else where
    if problem["type"] == "extra_forbidden":
        known = cls.model_fields if len(problem["loc"]) == 1 else ()  # names inside a value are not this model's
        near = difflib.get_close_matches(location, known, n=1)
        return f"{name}: no such option" + (f"; did you mean '{near[0]}'?" if near else "")
    message = cut(printable(problem["msg"].removeprefix("Value error, ")), MAX_MESSAGE)
    message = message[:1].lower() + message[1:]
    if problem["type"] == "missing":
        return f"{name}: must be given"
    return f"{name}: {message}" + (f" (got {shown(problem['input'])})" if location else "")


def read_options_file(path: str | Path) -> dict[str, Any]:
    """Read a TOML, JSON or YAML option file into a dictionary.

    Raises:
        ConfigError: missing, unreadable, of another type, or not a table of options.
    """
    try:
        values = read_value(Path(path))
    except OSError as error:
        raise ConfigError(f"cannot read '{path}': {error.strerror}", "check the path") from None
    except UnreadableError as error:
        raise ConfigError(f"'{path}' {error}", "fix it, or give another .toml, .json or .yaml file") from None
    if not isinstance(values, dict):
        raise ConfigError(f"'{path}' holds {shown(values)}, not a table of options", "write NAME: VALUE lines")
    return values
