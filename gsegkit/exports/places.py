"""Where an output goes. Every writer asks here: names that all file systems take, paths that stay inside the folder."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from gsegkit.errors import ConfigError, DataError, and_more
from gsegkit.rundir import CONFIG_FILE, RUN_FILE, STAGE_FILE

LONGEST_NAME = 200  # bytes of a name; file systems take 255, and writers add suffixes
MAX_NAMED = 5  # paths named in a message


def place(out: Path, *parts: str) -> Path:
    """The path `out/part/part`.

    Raises:
        DataError: it would lie outside `out`: a part climbs (`..`), is absolute, or a folder on the way is a link.
    """
    path = out.joinpath(*parts)
    climbs = not path.is_relative_to(out) or ".." in path.relative_to(out).parts
    if climbs or not path.parent.resolve().is_relative_to(out.resolve()):
        raise DataError(
            f"'{path}' would be written outside the output folder '{out}'",
            "remove the link there, or choose another folder with --out",
        )
    return path


def check_free(out: Path, files: Iterable[str], own: Iterable[str] = ()) -> None:
    """Check, before anything is written, that files can be made in `out` without a loss.

    Args:
        out: the output folder; it need not exist.
        files: paths below `out` that will be written.
        own: paths below `out` that an earlier call wrote: these may be replaced.

    Raises:
        DataError: one would lie outside `out`, or `out` belongs to a run's stage.
        ConfigError: one exists and is not our own.
    """
    refuse_stage(out)
    owned = set(own)
    taken = [f"'{out / name}'" for name in files if os.path.lexists(place(out, name)) and name not in owned]
    if taken:
        raise ConfigError(
            f"{and_more(taken, MAX_NAMED)} would be overwritten",
            "choose another folder with --out: only files that an earlier call wrote there are replaced",
        )


def refuse_stage(out: Path) -> None:
    """DataError when `out` is, or lies in, the folder of a run's stage: it is cleared when the stage is made again."""
    for folder in (out.absolute(), *out.absolute().parents):
        if (folder / STAGE_FILE).exists() or (folder / f"{STAGE_FILE}.started").exists():
            raise DataError(f"output folder '{out}' belongs to the run '{folder.parent}'", "choose a folder outside it")


def check_apart(out: Path, source: Path, what: str) -> None:
    """DataError when an output folder is, holds or lies in a folder that is read."""
    mine, theirs = out.resolve(), source.resolve()
    if mine == theirs or mine.is_relative_to(theirs) or theirs.is_relative_to(mine):
        where = "is" if mine == theirs else "lies in" if mine.is_relative_to(theirs) else "holds"
        raise DataError(
            f"output folder '{out}' {where} the {what} '{source}'",
            "choose a folder outside it, so that neither is lost",
        )


def is_run(folder: Path) -> bool:
    """Whether a folder is a run folder."""
    return (folder / CONFIG_FILE).exists() and (folder / RUN_FILE).exists()


# ---- names ---------------------------------------------------------------------------------------------------------


def output_names(files: Sequence[Path]) -> list[str]:
    """A name without suffix for every file, unique even where a file system ignores case or composes letters.

    The name is the path below the files' common folder, without its suffix; files that would share a name keep theirs
    (`cat.png`, `cat.jpg` -> `cat.png`, `cat.jpg`), and files that differ in case alone are numbered. Characters that
    are no text (bytes of another encoding, line feeds) become `_`, and long names are cut; see `safe_part`.
    """
    full = [_safe(name) for name in below_common_folder(files)]
    names = [PurePosixPath(name).with_suffix("").as_posix() for name in full]
    while clashes := [i for i, count in _counts(names) if count > 1 and names[i] != full[i]]:
        for i in clashes:
            names[i] = full[i]
    taken = {_folded(names[i]) for i, count in _counts(names) if count == 1}
    for i, count in _counts(names):
        if count > 1:
            names[i] = _numbered(names[i], i + 1, taken)
    return names


def unique_name(name: str, taken: set[str]) -> str:
    """A file stem made of letters, digits, `_` and `-` that is not in `taken` yet; it is added there.

    Names are compared without case: some file systems do not tell `A` from `a`.
    """
    stem = safe_part(re.sub(r"[^\w-]+", "_", name).strip("_") or "image")
    candidate, number = stem, 2
    while _folded(candidate) in taken:
        candidate, number = f"{stem}-{number}", number + 1
    taken.add(_folded(candidate))
    return candidate


def safe_part(text: str) -> str:
    """One component of a path: no byte that is not UTF-8, no control character, at most `LONGEST_NAME` bytes."""
    clean = "".join("_" if unicodedata.category(letter) in ("Cc", "Cs") else letter for letter in text)
    data = clean.encode()
    if len(data) <= LONGEST_NAME:
        return clean
    digest = hashlib.sha256(data).hexdigest()[:8]
    return data[: LONGEST_NAME - 9].decode(errors="ignore") + "-" + digest


def below_common_folder(files: Sequence[Path]) -> list[str]:
    """Every file's path below the folder that holds all of them; it never climbs out of that folder."""
    paths = [Path(os.path.abspath(path)) for path in files]
    top = os.path.commonpath([path.parent for path in paths])
    return [path.relative_to(top).as_posix() for path in paths]


def _safe(name: str) -> str:
    path = PurePosixPath(name)
    parts = [safe_part(part) for part in path.parent.parts]
    return PurePosixPath(*parts, safe_part(path.stem) + safe_part(path.suffix)).as_posix()


def _numbered(name: str, number: int, taken: set[str]) -> str:
    while _folded(candidate := f"{name}-{number}") in taken:
        number += 1
    taken.add(_folded(candidate))
    return candidate


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _counts(names: Sequence[str]) -> list[tuple[int, int]]:
    folded = [_folded(name) for name in names]
    counts = Counter(folded)
    return [(i, counts[name]) for i, name in enumerate(folded)]
