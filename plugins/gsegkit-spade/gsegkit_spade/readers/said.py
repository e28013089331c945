"""What lies beside the weights of SPADE and OASIS: opt.txt, plain text. Its twin opt.pkl is never opened."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gsegkit.errors import ArtifactError, ConfigError
from gsegkit.records.files import read_bytes
from gsegkit.records.names import CLASS_NAME_RULE, is_class_name
from gsegkit.records.text import UnreadableError, shown

FILE = "opt.txt"
MAX_BYTES = 64 << 10
_LINE = re.compile(r"\s*(\w+): *(\S*)")


def _truth(text: str) -> bool:
    return {"True": True, "False": False}[text]


def _number(lowest: int, highest: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit() and lowest <= int(text[:9]) <= highest):
            raise ValueError
        return int(text)

    return read


def _ratio(text: str) -> float:
    if not re.fullmatch(r"\d{1,3}(\.\d{1,12})?", text) or not 0.1 <= float(text) <= 10:
        raise ValueError
    return float(text)


def _layers(text: str) -> str:
    return {"normal": "normal", "more": "more", "most": "most"}[text]


#: The lines that are read, and how.
READ: dict[str, Callable[[str], Any]] = {
    "crop_size": _number(8, 4096),
    "aspect_ratio": _ratio,
    "num_upsampling_layers": _layers,
    "contain_dontcare_label": _truth,
    "no_instance": _truth,
    "z_dim": _number(0, 4096),
    "no_3dnoise": _truth,
}


def said_beside(path: Path) -> dict[str, Any]:
    """The options of the training in opt.txt beside a file; {} where there is none.

    Raises:
        ArtifactError: it holds something else in a line that is read.
    """
    beside = path.parent / FILE
    if not beside.is_file():
        return {}
    found = {}
    for line in _text(beside).splitlines():
        match = _LINE.match(line)
        if match is None or match[1] not in READ:
            continue
        try:
            found[match[1]] = READ[match[1]](match[2])
        except (ValueError, LookupError):
            raise ArtifactError(
                f"'{beside}' says {match[1]} {shown(match[2])}", "fix the line, or move the file away and give options"
            ) from None
    return found


def class_names(given: str | None, count: int) -> list[str]:
    """The names in a text file, one a line; class-0 ... where no file is given.

    Raises:
        ConfigError: unreadable, other than `count` names, or what cannot be a class name.
    """
    if given is None:
        return [f"class-{index}" for index in range(count)]
    try:
        names = _text(Path(given).expanduser()).splitlines()
    except ArtifactError as error:
        raise ConfigError(error.message, "give a text file with a class name a line") from None
    if len(names) != count:
        raise ConfigError(f"'{given}' has {len(names)} lines, the network {count} classes", "write a class name a line")
    for name in names:
        if not is_class_name(name):
            raise ConfigError(f"'{given}' has the name {shown(name)}", CLASS_NAME_RULE)
    if twice := [name for name in names if names.count(name) > 1]:
        raise ConfigError(f"'{given}' has the name {shown(twice[0])} twice", "give every class its own name")
    return names


def size_of(crop_size: int, aspect_ratio: float, doublings: int) -> tuple[int, int]:
    """(height, width) of the pictures, as SPADE and OASIS compute it from their options."""
    step = 2**doublings
    width = crop_size // step
    height = round(width / aspect_ratio)
    if width < 1 or height < 1:
        raise ConfigError(f"pictures of {crop_size} px are too small for {doublings} doublings", "give their crop_size")
    return height * step, width * step


def _text(path: Path) -> str:
    try:
        return read_bytes(path, MAX_BYTES).decode()
    except OSError as error:
        raise ArtifactError(f"cannot read '{path}': {error.strerror}", "check the path") from None
    except (UnreadableError, UnicodeDecodeError):
        raise ArtifactError(
            f"'{path}' is not a text of at most {MAX_BYTES >> 10} KiB", "give a plain text file"
        ) from None
