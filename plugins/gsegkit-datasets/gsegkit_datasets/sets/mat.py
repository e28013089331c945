"""MATLAB 5 files as plain values: numbers, texts, cells and structs. Nothing else in them is read.

Data sets bring their lists in such files. They are untrusted, and the usual reader crashes on damaged ones, so the few
types that lists are made of are read here, within bounds. Format: "MAT-File Format", MathWorks.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from gsegkit.records.text import UnreadableError

MAX_BYTES = 64 << 20  # of a file, and of what its compressed parts unpack to; the largest known list has 4 MB
MAX_VALUES = 2_000_000  # arrays in a file
MAX_DEPTH = 8
MAX_FIELDS = 100
HEADER = 128
MATRIX, COMPRESSED = 14, 15  # types of elements
NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
TEXTS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
CELL, STRUCT, CHAR = 1, 2, 4  # classes of arrays
NUMERIC = range(6, 16)


def mat_values(data: bytes) -> dict[str, Any]:
    """Name -> value of each variable of a MATLAB 5 file.

    Numbers are [N] arrays, texts are str, cells are lists, structs are lists of dictionaries; N-dimensional arrays are
    flat, in MATLAB's order (columns first).

    Raises:
        UnreadableError: not such a file, damaged, beyond the bounds, or with other types in it.
    """
    if len(data) > MAX_BYTES or len(data) < HEADER or data[126:128] not in (b"IM", b"MI"):
        raise UnreadableError("is not a MATLAB 5 file")
    found: dict[str, Any] = {}
    reader = _Reader("<" if data[126:128] == b"IM" else ">")
    try:
        at, room = HEADER, MAX_BYTES
        while at + 8 <= len(data):
            kind, size = struct.unpack_from(reader.order + "II", data, at)
            if kind == COMPRESSED:
                body, at = zlib.decompressobj().decompress(data[at + 8 : at + 8 + size], room + 1), at + 8 + size
                room -= len(body)
                if room < 0:
                    raise UnreadableError(f"unpacks to more than {MAX_BYTES:,} bytes, which no list needs")
                element, _ = reader.element(body, 0)
            else:
                element, at = reader.element(data, at)
            if element.kind == MATRIX:
                name, value = reader.array(element.body, 0)
                found[name] = value
    except UnreadableError:
        raise
    except (struct.error, zlib.error, ValueError, LookupError, UnicodeError, OverflowError, MemoryError):
        raise UnreadableError("is not a MATLAB 5 file, or it is damaged") from None
    return found


# ---- inside ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Element:
    kind: int
    body: bytes


class _Reader:
    """Reads elements in one byte order, and counts the arrays."""

    def __init__(self, order: str) -> None:
        self.order = order
        self.count = 0

    def element(self, data: bytes, at: int) -> tuple[_Element, int]:
        """The element that begins at a place, and where the next one begins."""
        kind, size = struct.unpack_from(self.order + "II", data, at)
        if kind >> 16:  # a small one: type, length and up to 4 bytes in one word each
            kind, size, start, end = kind & 0xFFFF, kind >> 16, at + 4, at + 8
            if size > 4:
                raise ValueError("a small element of more than 4 bytes")
        else:
            start, end = at + 8, at + 8 + size + -size % 8
        if start + size > len(data):
            raise ValueError("an element ends behind its data")
        return _Element(kind, data[start : start + size]), end

    def array(self, data: bytes, depth: int) -> tuple[str, Any]:
        """Name and value of an array."""
        self.count += 1
        if self.count > MAX_VALUES or depth > MAX_DEPTH:
            raise UnreadableError("holds more arrays than any list")
        if not data:
            return "", np.empty(0)
        flags, at = self.element(data, 0)
        dims, at = self.element(data, at)
        name, at = self.element(data, at)
        kind = struct.unpack_from(self.order + "I", flags.body)[0] & 0xFF
        count = prod(max(0, int(side)) for side in self.numbers(dims))
        own = name.body.decode("latin-1")
        if kind == CELL:
            return own, self.arrays(data, at, count, depth)
        if kind == STRUCT:
            return own, self.structs(data, at, count, depth)
        if kind == CHAR or kind in NUMERIC:
            body, _ = self.element(data, at)
            return own, (self.text(body) if kind == CHAR else self.numbers(body))
        raise UnreadableError("holds objects or functions, which no list needs")

    def arrays(self, data: bytes, at: int, count: int, depth: int) -> list[Any]:
        """Values of that many arrays in a row."""
        values = []
        for _ in range(count):
            element, at = self.element(data, at)
            if element.kind != MATRIX:
                raise ValueError("no array in a cell")
            values.append(self.array(element.body, depth + 1)[1])
        return values

    def structs(self, data: bytes, at: int, count: int, depth: int) -> list[dict[str, Any]]:
        """Structs of the same fields."""
        length, at = self.element(data, at)
        width = int(self.numbers(length)[0])
        names, at = self.element(data, at)
        if width < 1 or len(names.body) > MAX_FIELDS * width:
            raise ValueError("no names of fields")
        fields = [
            names.body[start : start + width].partition(b"\0")[0].decode("latin-1")
            for start in range(0, len(names.body), width)
        ]
        values = self.arrays(data, at, count * len(fields), depth) if fields else []
        rows = range(0, len(values), max(1, len(fields)))
        return [dict(zip(fields, values[row : row + len(fields)], strict=True)) for row in rows]

    def numbers(self, element: _Element) -> np.ndarray:
        """[N] numbers of an element, as they are stored."""
        return np.frombuffer(element.body, np.dtype(self.order + NUMBERS[element.kind]))

    def text(self, element: _Element) -> str:
        """A text of one line."""
        if not element.body:
            return ""
        code = TEXTS[element.kind]
        if code.startswith("utf-") and code != "utf-8":
            code += "-le" if self.order == "<" else "-be"
        return element.body.decode(code)
