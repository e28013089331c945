"""What a run found, in a line, and the commands that come next: for the terminal and the report. Imports no torch."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from gsegkit.classes.class_map import RAW_NAME

MOST_NAMES = 8  # in the line


def found_record(classes: Sequence[str], unnamed: bool, samples: str) -> dict[str, Any]:
    """What run.json keeps as `found`.

    Args:
        classes: the segmenter's.
        unnamed: nobody has named them, and `gsegkit name` can.
        samples: name of photographs that ship with the generator's weights; "" = none.
    """
    return {"classes": list(classes), "unnamed": unnamed, "samples": samples}


def in_a_line(found: Mapping[str, Any]) -> str:
    """`found 4 classes: background, leaf, ...`; clusters are only counted."""
    classes = list(map(str, found.get("classes") or ()))
    if classes and all(RAW_NAME.fullmatch(name) for name in classes):
        return f"found {len(classes)} clusters without names"
    shown = ", ".join(classes[:MOST_NAMES]) + (" ..." if len(classes) > MOST_NAMES else "")
    return f"found {len(classes)} classes: {shown}"


def next_commands(run: str, found: Mapping[str, Any]) -> list[str]:
    """Name the parts where they have no names; then predict, on the photographs of the weights where there are some."""
    samples = str(found.get("samples") or "")
    photos = "photos" if samples else "PHOTOS"
    commands = [["gsegkit", "name", run]] if found.get("unnamed") else []
    commands += [["gsegkit", "samples", samples, "--out", photos]] if samples else []
    commands.append(["gsegkit", "predict", run, photos, "--out", "masks"])
    return [shlex.join(words) for words in commands]
