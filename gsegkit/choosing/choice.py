"""choice.json: which candidate a person took, and the names of its parts. The page saves it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from pydantic import StrictInt, StrictStr

from gsegkit.choosing.candidates import Candidate
from gsegkit.errors import ArtifactError, ConfigError, and_more
from gsegkit.records.files import Record
from gsegkit.records.names import CLASS_NAME_RULE, is_class_name

FILE_NAME = "choice.json"
FORMAT = 1
REMEDY = "save it anew from the page that gsegkit choose makes"


class Choice(Record):
    """The content of a choice.json.

    Attributes:
        format: 1.
        comparison: hash of the photographs that the page showed.
        candidate: id of the candidate.
        names: for each class of the candidate; equal names become one class, the first one is the background.
    """

    format: StrictInt
    comparison: StrictStr
    candidate: StrictStr
    names: tuple[StrictStr, ...]


def read_choice(path: Path, candidates: Sequence[Candidate], comparison: str) -> tuple[Candidate, tuple[str, ...]]:
    """The chosen candidate, and a name for each of its classes.

    Args:
        path: choice.json.
        candidates: of the same comparison.
        comparison: hash of its photographs.

    Raises:
        ConfigError: damaged, made for other photographs, or with names that are none.
    """
    try:
        found = Choice.read(path)
    except ArtifactError as error:
        raise ConfigError(error.message, REMEDY) from None
    if found.format != FORMAT:
        raise ConfigError(f"'{path}' has format {found.format}, known is {FORMAT}", REMEDY)
    if found.comparison != comparison:
        raise ConfigError(f"'{path}' was made for other photographs, or for fewer of them", REMEDY)
    chosen = next((one for one in candidates if one.id == found.candidate), None)
    if chosen is None:
        raise ConfigError(
            f"'{path}' chooses a candidate that is not in this comparison",
            f"give the same --methods and --runs as before; there are {and_more([one.id for one in candidates], 6)}",
        )
    names = tuple(re.sub(r"\s+", " ", name).strip() for name in found.names)
    if len(names) != len(chosen.classes):
        raise ConfigError(f"'{path}' has {len(names)} names for {len(chosen.classes)} classes", REMEDY)
    if not all(is_class_name(name) for name in names):
        raise ConfigError(f"'{path}' holds a name that is none: {CLASS_NAME_RULE}", REMEDY)
    if len(set(names)) < 2:
        raise ConfigError(f"'{path}' calls every class '{names[0]}': there is nothing to tell apart", "give two names")
    return chosen, names
