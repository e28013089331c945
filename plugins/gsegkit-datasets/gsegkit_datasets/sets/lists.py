"""Lists that data sets bring: text and MATLAB files of names and numbers. No name in them leads outside."""

from __future__ import annotations

import io
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gsegkit.errors import DataError
from gsegkit.records.files import read_bytes
from gsegkit.records.text import UnreadableError, printable, shown

MAX_LIST_BYTES = 32 << 20
MAX_MAT_BYTES = 64 << 20  # of a MATLAB file once it is inflated; the largest known one has 4 MB
MAT_HEADER = 128
COMPRESSED = 15  # type of a MATLAB element
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


# ---- MATLAB ------------------------------------------------------------------------------------------------------


def read_mat(path: Path, remedy: str) -> Mapping[str, Any]:
    """The variables of a MATLAB 5 file: numbers, texts, cells and structs, with axes of length 1 removed.

    Raises:
        DataError: it cannot be read, or is larger than any list.
    """
    from scipy.io import loadmat  # late: it takes a third of a second, and light commands need none of it

    try:
        data = _inflated(read_bytes(path, MAX_MAT_BYTES))
        table: Mapping[str, Any] = loadmat(io.BytesIO(data), squeeze_me=True, struct_as_record=True)
    except OSError as error:
        raise DataError(f"cannot read the list '{path}': {error.strerror or 'it is damaged'}", remedy) from None
    except UnreadableError as error:
        raise DataError(f"the list '{path}' {error}", remedy) from None
    except Exception:  # scipy leaks any kind for damaged files
        raise DataError(f"the list '{path}' is not a MATLAB 5 file, or it is damaged", remedy) from None
    return table


def mat_ids(table: Mapping[str, Any], key: str, path: Path, remedy: str) -> list[int]:
    """A list of whole numbers >= 1 out of a MATLAB file."""
    values = np.atleast_1d(np.asarray(table.get(key, "")))
    whole = values.dtype.kind in "iuf" and values.ndim == 1 and bool((values == np.floor(values)).all())
    if not whole or not len(values) or values.min() < 1 or values.max() > 10**7:
        raise DataError(f"the list '{path}' has no numbers called '{key}'", remedy)
    return [int(value) for value in values]


def mat_texts(table: Mapping[str, Any], key: str, path: Path, remedy: str) -> list[str]:
    """A cell of texts out of a MATLAB file."""
    values = np.atleast_1d(np.asarray(table.get(key, 0)))
    texts = [np.asarray(value).reshape(-1) for value in values.reshape(-1)]
    if not texts or any(len(text) != 1 or text.dtype.kind != "U" for text in texts):
        raise DataError(f"the list '{path}' has no names called '{key}'", remedy)
    return [str(text[0]) for text in texts]


def mat_structs(
    table: Mapping[str, Any], key: str, fields: tuple[str, ...], path: Path, remedy: str
) -> list[tuple[Any, ...]]:
    """Of each struct in an array the named fields."""
    values = np.atleast_1d(np.asarray(table.get(key, 0)))
    if values.dtype.names is None or any(field not in values.dtype.names for field in fields):
        raise DataError(f"the list '{path}' has no structs '{key}' with {', '.join(fields)}", remedy)
    rows = [tuple(np.asarray(row[field]).reshape(-1) for field in fields) for row in values.reshape(-1)]
    if any(len(value) != 1 for row in rows for value in row):
        raise DataError(f"the list '{path}' has a struct in '{key}' whose fields are no single values", remedy)
    return [tuple(value[0] for value in row) for row in rows]


def _inflated(data: bytes) -> bytes:
    """A MATLAB 5 file with its elements uncompressed; UnreadableError when they are larger than any list."""
    header, at, parts = data[:MAT_HEADER], MAT_HEADER, [data[:MAT_HEADER]]
    if len(header) < MAT_HEADER or header[126:128] not in (b"IM", b"MI"):
        raise UnreadableError("is not a MATLAB 5 file")
    order: Any = "little" if header[126:128] == b"IM" else "big"
    room = MAX_MAT_BYTES
    while at + 8 <= len(data):
        kind, size = (int.from_bytes(data[at + skip : at + skip + 4], order) for skip in (0, 4))
        body, at = data[at + 8 : at + 8 + size], at + 8 + size
        if kind == COMPRESSED:
            body = zlib.decompressobj().decompress(body, room + 1)
        else:
            body = data[at - 8 - size : at]
            at += -size % 8
            body += b"\0" * (-size % 8)
        room -= len(body)
        if room < 0:
            raise UnreadableError(f"unpacks to more than {MAX_MAT_BYTES:,} bytes, which no list needs")
        parts.append(body)
    return b"".join(parts)
