"""Where a number stands in a result: `rows/table=masks&name=both/iou_foreground`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from gsegkit.errors import GsegkitError

_STEP = re.compile(r"(?<! )/(?! )")  # a name may hold a slash between spaces: "lambda / 4"


def look_up(values: Any, path: str) -> Any:
    """What stands at a path.

    A step is a key, a position in a list, `key=value&key=value` (the one entry of a list that has them), `*` (every
    entry, which makes the result a list), or `*key=value` (every entry that has it).

    Raises:
        GsegkitError: nothing is there, or several entries fit.
    """
    steps = _STEP.split(path)
    for number, step in enumerate(steps):
        if step.startswith("*"):
            entries = list(values.values()) if isinstance(values, Mapping) else list(values)
            entries = _with(entries, step[1:]) if step[1:] else entries
            rest = "/".join(steps[number + 1 :])
            return [look_up(entry, rest) for entry in entries] if rest else entries
        values = _step(values, step, path)
    return values


def _with(entries: list[Any], step: str) -> list[Any]:
    """The entries that have every `key=value` of a step."""
    wanted = dict(part.split("=", 1) for part in step.split("&"))
    return [entry for entry in entries if all(str(entry.get(key)) == value for key, value in wanted.items())]


def _step(values: Any, step: str, path: str) -> Any:
    if isinstance(values, Mapping):
        if step in values:
            return values[step]
    elif isinstance(values, list) and step.isdigit():
        if int(step) < len(values):
            return values[int(step)]
    elif isinstance(values, list) and "=" in step:
        found = _with(values, step)
        if len(found) == 1:
            return found[0]
    raise GsegkitError(f"'{step}' of the path '{path}' does not name one entry", "look at the result's values")
