"""Class names of a data folder: classes.yaml or classes.txt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from gsegkit.errors import DataError

FILES = ("classes.yaml", "classes.yml", "classes.txt")


def read_class_names(folder: Path) -> tuple[str, ...] | None:
    """Names from class 0 on, or None when the folder has no such file.

    classes.txt has one name a line, empty lines and lines that begin with # are skipped. classes.yaml is a list of
    names, or a table from 0, 1, 2 ... to names.

    Raises:
        DataError: two such files, or one that cannot be read in this way.
    """
    found = [folder / name for name in FILES if (folder / name).is_file()]
    if not found:
        return None
    if len(found) > 1:
        raise DataError(f"'{folder}' has {found[0].name} and {found[1].name}", "keep one")
    path = found[0]
    try:
        text = path.read_text(encoding="utf-8-sig")
        names = _lines(text) if path.suffix == ".txt" else _listed(yaml.safe_load(text), path)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise DataError(f"'{path}' cannot be read: {str(error).splitlines()[0]}", "fix the file") from None
    check_class_names(names, str(path))
    return names


def check_class_names(names: tuple[str, ...], source: str) -> None:
    """Refuse no names, too many, empty and repeated ones."""
    if not 1 <= len(names) <= 255:
        raise DataError(f"{source} gives {len(names)} class names", "give 1 to 255; 255 itself is the ignore label")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or "" in names:
        raise DataError(
            f"{source} lists the class name '{twice[0] if twice else ''}' wrongly", "give each name once, none empty"
        )


def _lines(text: str) -> tuple[str, ...]:
    lines = (line.strip() for line in text.splitlines())
    return tuple(line for line in lines if line and not line.startswith("#"))


def _listed(value: Any, path: Path) -> tuple[str, ...]:
    if isinstance(value, dict):
        if sorted(value, key=str) != sorted(range(len(value)), key=str):
            raise DataError(f"'{path}' names the classes {list(value)[:5]}", "number them 0, 1, 2 ... without a gap")
        value = [value[index] for index in range(len(value))]
    if not isinstance(value, list) or not all(isinstance(name, str | int) for name in value):
        raise DataError(f"'{path}' is neither a list of names nor a table of them", "write - background, - leaf ...")
    return tuple(str(name) for name in value)
