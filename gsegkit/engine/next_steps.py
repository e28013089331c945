"""What a run found, in a line, and the commands that come next: for the terminal and the report. Imports no torch."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import StrictBool, StrictStr

from gsegkit.classes.class_map import RAW_NAME
from gsegkit.errors import plural
from gsegkit.records.files import Record

MOST_NAMES = 8  # in the line


def found_record(
    classes: Sequence[str], unnamed: bool, samples: str, parts: Sequence[str] = (), names: str = ""
) -> dict[str, Any]:
    """What run.json keeps as `found`.

    Args:
        classes: the segmenter's.
        unnamed: nobody has named them, and `gsegkit name` can.
        samples: name of photographs that ship with the generator's weights; "" = none.
        parts: the few that the classes add up to, see `gsegkit.classes.in_parts`; () = none.
        names: of class names that ship with the generator's weights and fit the run; "" = none.
    """
    found: dict[str, Any] = {"classes": list(classes), "unnamed": unnamed, "samples": samples}
    found |= {"parts": list(parts)} if parts else {}
    return {**found, "names": names} if names else found


class Found(Record):
    """What `found_record` wrote, out of a file."""

    classes: tuple[StrictStr, ...] = ()
    unnamed: StrictBool = False
    samples: StrictStr = ""
    parts: tuple[StrictStr, ...] = ()
    names: StrictStr = ""


def in_a_line(found: Mapping[str, Any]) -> str:
    """`found 4 classes: background, leaf, ...`; clusters are only counted."""
    classes = list(map(str, found.get("classes") or ()))
    if classes and all(RAW_NAME.fullmatch(name) for name in classes):
        parts = len(found.get("parts") or ())
        return f"found {plural(len(classes), 'cluster')} without names" + (
            f", in {plural(parts, 'part')}" if parts else ""
        )
    shown = ", ".join(classes[:MOST_NAMES]) + (" ..." if len(classes) > MOST_NAMES else "")
    return f"found {plural(len(classes), 'class')}: {shown}"


def next_commands(run: str, found: Mapping[str, Any]) -> list[str]:
    """Predict, on the photographs of the weights where there are some; names for the parts where they have none.

    Names that ship with the weights, given by a person before, come last.
    """
    samples = str(found.get("samples") or "")
    photos = "photos" if samples else "PHOTOS"
    commands = [["gsegkit", "name", run]] if found.get("unnamed") else []
    commands += [["gsegkit", "samples", samples, "--out", photos]] if samples else []
    commands.append(["gsegkit", "predict", run, photos, "--out", "masks", *(["--parts"] if found.get("parts") else [])])
    if names := str(found.get("names") or ""):
        commands.append(["gsegkit", "predict", run, photos, "--out", "named", "--classes", names])
    return [shlex.join(words) for words in commands]
