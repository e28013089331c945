"""How a data set lies on a disk: told by marker files, never guessed between two."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gsegkit.errors import DataError, and_more
from gsegkit.records.text import printable
from gsegkit_datasets.sets.facts import Facts

MAX_NAMED = 6
MAX_LOOKED_AT = 1000  # names that are searched for tables
TABLES = (".parquet", ".arrow")


@dataclass(frozen=True)
class Layout:
    """One way in which copies of a data set lie on disks.

    Attributes:
        name: for messages and the option `layout`.
        markers: paths that must exist, relative to its root; folders end in "/".
        at: folders below the given one where its root may be, in the order in which they are tried.
    """

    name: str
    markers: tuple[str, ...]
    at: tuple[str, ...] = ("",)

    def __str__(self) -> str:
        return f"{self.name} ({', '.join(self.markers)})"


@dataclass(frozen=True)
class Found:
    """A layout that was recognised, and where."""

    name: str
    root: Path


def recognise(folder: Path, layouts: Sequence[Layout], facts: Facts, chosen: str | None = None) -> Found:
    """The layout of a folder.

    Args:
        folder: what the user gave.
        layouts: of the data set, in the order in which they are tried.
        facts: for messages.
        chosen: name of the layout; None = it must be the only one that fits.

    Raises:
        DataError: there is no such folder, none of the layouts fits, or several do.
    """
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise DataError(f"data folder '{folder}' {what}", "check the path")
    if chosen is not None:
        layouts = [layout for layout in layouts if layout.name == chosen] or _unknown(chosen, layouts, facts)
    fitting = [found for layout in layouts if (found := _fits(folder, layout)) is not None]
    if len(fitting) > 1:
        names = " and ".join(f"'{found.name}'" for found in fitting[:2])
        raise DataError(
            f"'{folder}' holds {facts.title} in the layouts {names}", "choose one: -o data_reader.layout=NAME"
        )
    if fitting:
        return fitting[0]
    raise _none(folder, layouts, facts)


def has(path: Path) -> bool:
    """Whether a file or folder of exactly this name exists, on file systems that ignore case too."""
    try:
        return path.name in os.listdir(path.parent)
    except OSError:
        return False


# ---- inside ------------------------------------------------------------------------------------------------------


def _fits(folder: Path, layout: Layout) -> Found | None:
    for where in layout.at:
        root = folder / where
        if all(_marked(root, marker) for marker in layout.markers):
            return Found(layout.name, root)
    return None


def _marked(root: Path, marker: str) -> bool:
    path = root / marker
    return (path.is_dir() if marker.endswith("/") else path.is_file()) and has(path)


def _none(folder: Path, layouts: Sequence[Layout], facts: Facts) -> DataError:
    """What was looked for, and what was found instead; one half of a layout is told as such."""
    for layout in layouts:
        for where in layout.at:
            there = [marker for marker in layout.markers if _marked(folder / where, marker)]
            if there:
                lost = [marker for marker in layout.markers if marker not in there]
                return DataError(
                    f"'{folder / where}' has {', '.join(there)} of {facts.title}, but no {' and no '.join(lost)}: "
                    "it is not unpacked to the end, or something was moved",
                    facts.unpack(),
                )
    inside = sorted(printable(name)[:60] for name in os.listdir(folder))
    packed = [archive for archive in facts.archives if archive.name in inside]
    if packed:
        names = ", ".join(archive.name for archive in packed)
        return DataError(f"'{folder}' holds {names}, which is not unpacked", f"unpack it there: {facts.unpack()}")
    tables = [name for name in _names(folder) if name.endswith(TABLES) or ".tfrecord" in name]
    if tables:
        said = f"'{folder}' holds {facts.title} as tables ({printable(tables[0])[:60]}), which are not read as they are"
        if tables[0].endswith(TABLES):
            return DataError(said, "run gsegkit unpack on it with --out FOLDER, and give that folder")
        return DataError(said, f"give the unpacked archives (of TFDS downloads/extracted): {facts.unpack()}")
    what = f"it holds {and_more(inside, MAX_NAMED)}" if inside else "it is empty"
    return DataError(
        f"'{folder}' is not {facts.title} in a layout that is known: {what}",
        f"layouts: {'; '.join(map(str, layouts))}. Archives: {facts.unpack()}",
    )


def _names(folder: Path) -> list[str]:
    """Names in a folder and in the folders in it."""
    try:
        return [path.name for pattern in ("*", "*/*") for path in sorted(folder.glob(pattern))[:MAX_LOOKED_AT]]
    except OSError:
        return []


def _unknown(chosen: str, layouts: Sequence[Layout], facts: Facts) -> Sequence[Layout]:
    names = ", ".join(layout.name for layout in layouts)
    raise DataError(f"{facts.title} has no layout '{printable(chosen)[:60]}'", f"layouts: {names}")
