"""Class names of a data folder: classes.yaml or classes.txt. Imports no torch."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from gsegkit.errors import DataError
from gsegkit.records.files import MAX_BYTES, read_bytes, read_value
from gsegkit.records.names import CLASS_NAME_RULE, is_class_name
from gsegkit.records.text import UnreadableError, shown

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
        if path.suffix == ".txt":
            names = _lines(read_bytes(path, MAX_BYTES).decode("utf-8-sig"))
        else:
            names = _listed(read_value(path), path)
    except OSError as error:
        raise DataError(f"'{path}' cannot be read: {error.strerror}", "check the file") from None
    except UnicodeDecodeError:
        raise DataError(f"'{path}' is not UTF-8 text", "save it as UTF-8") from None
    except UnreadableError as error:
        raise DataError(f"'{path}' {error}", "fix the file") from None
    check_class_names(names, f"'{path}'")
    return tuple(unicodedata.normalize("NFC", name) for name in names)


def check_class_names(names: tuple[str, ...], source: str) -> None:
    """Refuse no names, too many, empty and repeated ones."""
    if not 1 <= len(names) <= 255:
        raise DataError(f"{source} gives {len(names)} class names", "give 1 to 255; 255 itself is the ignore label")
    bad = next((name for name in names if not is_class_name(name)), None)
    if bad is not None:
        raise DataError(f"{source} gives the class name {shown(bad)}", CLASS_NAME_RULE)
    counts = Counter(unicodedata.normalize("NFC", name) for name in names)
    name, count = counts.most_common(1)[0]
    if count > 1:
        raise DataError(f"{source} gives the class name '{name}' {count} times", "give each name once")


def class_names_yaml(names: Sequence[str], remark: str) -> str:
    """The text of a classes.yaml: names from mask value 0 on, under a line of remark."""
    return f"# {remark}\n" + yaml.safe_dump(list(names), allow_unicode=True)


def _lines(text: str) -> tuple[str, ...]:
    lines = (line.strip() for line in text.splitlines())
    return tuple(line for line in lines if line and not line.startswith("#"))


def _listed(value: Any, path: Path) -> tuple[str, ...]:
    if isinstance(value, dict):
        if sorted(value, key=str) != sorted(range(len(value)), key=str):
            raise DataError(f"'{path}' names the classes {shown(list(value))}", "number them 0, 1, 2 ... without a gap")
        value = [value[index] for index in range(len(value))]
    if not isinstance(value, list) or any(isinstance(name, bool) or not isinstance(name, str | int) for name in value):
        raise DataError(f"'{path}' is neither a list of names nor a table of them", "write - background, - leaf ...")
    return tuple(str(name) for name in value)
