"""What a run found, in a line, and the commands that come next: for the terminal and the report. Imports no torch."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from gsegkit.classes.class_map import RAW_NAME

MOST_NAMES = 8  # in the line


def found_record(classes: Sequence[str], unnamed: bool, samples: str, parts: Sequence[str] = ()) -> dict[str, Any]:
    """What run.json keeps as `found`.

    Args:
        classes: the segmenter's.
        unnamed: nobody has named them, and `gsegkit name` can.
        samples: name of photographs that ship with the generator's weights; "" = none.
        parts: the few that the classes add up to, see `gsegkit.classes.in_parts`; () = none.
    """
    found = {"classes": list(classes), "unnamed": unnamed, "samples": samples}
    return {**found, "parts": list(parts)} if parts else found


def in_a_line(found: Mapping[str, Any]) -> str:
    """`found 4 classes: background, leaf, ...`; clusters are only counted."""
    classes = list(map(str, found.get("classes") or ()))
    if classes and all(RAW_NAME.fullmatch(name) for name in classes):
        parts = len(found.get("parts") or ())
        return f"found {len(classes)} clusters without names" + (f", in {parts} parts" if parts else "")
    shown = ", ".join(classes[:MOST_NAMES]) + (" ..." if len(classes) > MOST_NAMES else "")
    return f"found {len(classes)} classes: {shown}"


def next_commands(run: str, found: Mapping[str, Any]) -> list[str]:
    """Name the parts where they have no names; then predict, on the photographs of the weights where there are some."""
    samples = str(found.get("samples") or "")
    photos = "photos" if samples else "PHOTOS"
    commands = [["gsegkit", "name", run]] if found.get("unnamed") else []
    commands += [["gsegkit", "samples", samples, "--out", photos]] if samples else []
    commands.append(["gsegkit", "predict", run, photos, "--out", "masks", *(["--parts"] if found.get("parts") else [])])
    return [shlex.join(words) for words in commands]
