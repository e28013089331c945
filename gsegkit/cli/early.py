"""Simple mistakes on the command line, found before torch is imported, which takes seconds. Imports no torch."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gsegkit.classes.class_map import names_something_shipped
from gsegkit.config import build_config
from gsegkit.engine.choices import PreflightError, choose
from gsegkit.engine.plan import Plan
from gsegkit.engine.preflight import check, check_trainable
from gsegkit.engine.readers import named_reader
from gsegkit.errors import ConfigError, DataError
from gsegkit.plugins import SHORT_KINDS, installed

RUN_REMEDY = "give a folder made by gsegkit run or train"
NO_OPTIONS: Mapping[str, Any] = {}


def check_plan(plan: Plan, out: Path | None) -> None:
    """PreflightError with everything that is wrong with a plan and can be known without torch."""
    problems = check(choose(plan, installed()), out or plan.default_folder())
    if problems:
        raise PreflightError(problems)


def check_there(path: Path | None, remedy: str = "check the path") -> None:
    """ConfigError unless a file or folder exists; None passes."""
    if path is not None and not path.exists():
        raise ConfigError(f"'{path}' does not exist", remedy)


def check_names(classes: Path | None) -> None:
    """ConfigError unless class names are a file that exists, or a bare word, which may be names that ship."""
    if not names_something_shipped(classes):
        check_there(classes)


def check_photographs(inputs: Sequence[str]) -> None:
    """DataError unless photographs are files, folders or patterns."""
    for given in inputs:
        if not glob.has_magic(given) and not Path(given).exists():
            raise DataError(f"input '{given}' does not exist", "give an image, a folder or a quoted pattern")


def check_formats(formats: Sequence[str], known: Iterable[str]) -> None:
    """ConfigError for a format that is unknown."""
    known = tuple(known)
    for name in formats:
        if name not in known:
            raise ConfigError(f"there is no format '{name}'", f"formats: {', '.join(known)}")


def check_part(kind: str, name: str, options: Mapping[str, Any] = NO_OPTIONS, *, trainable: bool = False) -> None:
    """An error for a component that is not installed, or has no such options."""
    entry = installed().find(kind, name)
    if trainable:
        check_trainable(entry)
    build_config(entry.config_class(), options, SHORT_KINDS.get(kind, kind))


def check_reader(options: Mapping[str, Any]) -> None:
    """An error for a reader of folders that is not installed, or has no such options; see `named_reader`."""
    entry, own = named_reader(options, installed())
    build_config(entry.config_class(), own, "data_reader")


def check_refiners(names: Sequence[str] | None) -> None:
    """UnknownPluginError for a refiner that is not installed; their options are checked where they are built."""
    for name in names or ():
        installed().find("refiner", name)
