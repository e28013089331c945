"""Lists that data sets bring: text, MATLAB and NumPy files of names and numbers. No name in them leads outside."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gsegkit.errors import DataError
from gsegkit.records.files import read_bytes
from gsegkit.records.text import UnreadableError, printable, shown
from gsegkit_datasets.sets.mat import MAX_BYTES, mat_values

MAX_LIST_BYTES = 32 << 20
MAX_ID = 10**7
MAX_NAME = 300


def inside(root: Path, name: str, source: Path) -> Path:
    """The path of a name that a file lists, below `root`.

    Raises:
        DataError: the name leads elsewhere, or is none.
    """
    parts = name.split("/")
    if (
        len(name) > MAX_NAME
        or printable(name) != name
        or any(part in ("", ".", "..") or "\\" in part or ":" in part for part in parts)
    ):
        raise DataError(
            f"'{source}' lists {shown(name, 80)}, which is not a path below '{root}'",
            "it is damaged or not the published list; take it from the archive again",
        )
    return root.joinpath(*parts)


def read_rows(path: Path, columns: int, remedy: str) -> list[list[str]]:
    """The words of each line of a text file; empty lines are skipped.

    Args:
        path: the file.
        columns: words that each line must have at least.
        remedy: for errors.

    Raises:
        DataError: it cannot be read, is not text, or a line has fewer words.
    """
    try:
        text = read_bytes(path, MAX_LIST_BYTES).decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"cannot read the list '{path}': {error.strerror}", remedy) from None
    except UnicodeDecodeError:
        raise DataError(f"the list '{path}' is not a text file", remedy) from None
    except UnreadableError as error:
        raise DataError(f"the list '{path}' {error}", remedy) from None
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if words and len(words) < columns:
            raise DataError(f"line {number} of the list '{path}' has {len(words)} of {columns} words", remedy)
        rows += [words] if words else []
    if not rows:
        raise DataError(f"the list '{path}' is empty", remedy)
    return rows


def number(word: str, path: Path, remedy: str) -> int:
    """A word of a list as a whole number >= 0."""
    if not (word.isascii() and word.isdigit() and len(word) < 10):
        raise DataError(f"the list '{path}' has {shown(word, 40)} where a number should be", remedy)
    return int(word)


def npy_texts(path: Path, remedy: str) -> list[str]:
    """The names, or numbers as text, of a one-dimensional NumPy array in a file; objects are never unpickled.

    Raises:
        DataError: it cannot be read, or holds something else.
    """
    try:
        array = np.load(io.BytesIO(read_bytes(path, MAX_LIST_BYTES)), allow_pickle=False)
    except OSError as error:
        raise DataError(f"cannot read the list '{path}': {error.strerror or 'it is no .npy file'}", remedy) from None
    except UnreadableError as error:
        raise DataError(f"the list '{path}' {error}", remedy) from None
    except Exception:  # NumPy leaks SyntaxError, ValueError, EOFError and others on damaged headers
        raise DataError(f"the list '{path}' is damaged, or holds pickled objects, which are not read", remedy) from None
    if not isinstance(array, np.ndarray) or array.ndim != 1 or array.dtype.kind not in "USiu" or not len(array):
        raise DataError(f"the list '{path}' does not hold one row of names", remedy)
    return [value.decode("ascii", "replace") if isinstance(value, bytes) else str(value) for value in array.tolist()]


# ---- MATLAB ------------------------------------------------------------------------------------------------------


def read_mat(path: Path, remedy: str) -> Mapping[str, Any]:
    """The variables of a MATLAB 5 file, see `mat_values`.

    Raises:
        DataError: it cannot be read, or is larger than any list.
    """
    try:
        return mat_values(read_bytes(path, MAX_BYTES))
    except OSError as error:
        raise DataError(f"cannot read the list '{path}': {error.strerror}", remedy) from None
    except UnreadableError as error:
        raise DataError(f"the list '{path}' {error}", remedy) from None


def mat_ids(table: Mapping[str, Any], key: str, path: Path, remedy: str) -> list[int]:
    """A list of whole numbers >= 1 out of a MATLAB file."""
    values = table.get(key)
    if (
        not isinstance(values, np.ndarray)
        or not len(values)
        or not bool(((values >= 1) & (values <= MAX_ID) & (values == np.floor(values))).all())
    ):
        raise DataError(f"the list '{path}' has no numbers called '{key}'", remedy)
    return [int(value) for value in values]


def mat_texts(table: Mapping[str, Any], key: str, path: Path, remedy: str) -> list[str]:
    """A cell of texts out of a MATLAB file."""
    values = table.get(key)
    singles = [_single(value) for value in values] if isinstance(values, list) else []
    texts = [text for text in singles if isinstance(text, str)]
    if not texts or len(texts) < len(singles):
        raise DataError(f"the list '{path}' has no names called '{key}'", remedy)
    return texts


def mat_structs(
    table: Mapping[str, Any], key: str, fields: tuple[str, ...], path: Path, remedy: str
) -> list[tuple[Any, ...]]:
    """Of each struct in an array the named fields: a text or a number each."""
    values = table.get(key)
    found = values if isinstance(values, list) else []
    structs = [row for row in found if isinstance(row, dict) and all(field in row for field in fields)]
    if not structs or len(structs) < len(found):
        raise DataError(f"the list '{path}' has no structs '{key}' with {', '.join(fields)}", remedy)
    rows = [tuple(_single(row[field]) for field in fields) for row in structs]
    if any(value is None for row in rows for value in row):
        raise DataError(f"the list '{path}' has a struct in '{key}' whose fields are no single values", remedy)
    return rows


def _single(value: Any) -> str | float | None:
    """The text or number that a value is, or holds alone."""
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, np.ndarray):
        return float(value[0]) if len(value) == 1 else None
    return value if isinstance(value, str) else None
