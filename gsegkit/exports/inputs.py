"""What `predict` is given, as photographs one by one: files, pages of a file, frames of a video."""

from __future__ import annotations

import glob
import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from gsegkit.errors import DataError
from gsegkit.exports.places import below_common_folder, output_names
from gsegkit.reading.files import SUFFIXES, list_images
from gsegkit.reading.images import Photograph, list_pages, may_have_pages, read_pages, read_photograph
from gsegkit.reading.video import EXTRA, VIDEOS, can_read_videos, count_frames, decoder, is_video, read_frames

Inputs = str | Path | Sequence[str | Path]


@dataclass(frozen=True)
class Item:
    """One photograph.

    Attributes:
        path: its file.
        key: what messages and predictions.json call it: the file, with `#3` for its third page or frame.
        name: of its masks: the file's, with `-page-3` or `-frame-3`.
        source: the file's name below the common folder of all, as formats write it that name photographs.
        page: its number in the file, from 0; None = the file is one photograph.
    """

    path: Path
    key: str
    name: str
    source: str
    page: int | None = None


@dataclass
class Found:
    """The photographs, and what is not among them.

    Attributes:
        items: in the order of the files, and of the pages in them.
        videos: video file -> number and rate of its frames.
        skipped: file, or pages of one -> why.
        broken: file -> why its pages or frames cannot be counted; it is one item all the same.
    """

    items: list[Item] = field(default_factory=list)
    videos: dict[Path, tuple[int, Fraction]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    broken: dict[Path, DataError] = field(default_factory=dict)


def find_inputs(inputs: Inputs, out: Path, skipped: dict[str, str] | None = None) -> list[Path]:
    """The image and video files that `inputs` names, each once, in a stable order.

    Args:
        inputs: a file, a folder (searched in depth), a glob pattern, or several of them.
        out: the output folder.
        skipped: receives the files of folders that are left out, with the reason.

    Raises:
        DataError: a file or folder is missing, a pattern matches nothing, or predictions would mix with the inputs.
        MissingDependencyError: only videos were given, and their decoder is missing.
    """
    files: dict[Path, None] = {}
    left: dict[str, str] = {} if skipped is None else skipped
    several = [inputs] if isinstance(inputs, str | Path) else inputs
    if not isinstance(several, Sequence) or not all(isinstance(given, str | Path) for given in several):
        raise DataError(
            f"photographs are given as files, not as {type(inputs).__name__}",
            "give an image, a folder or a pattern; load(RUN).predict(pixels) takes tensors",
        )
    for given in several:
        path = Path(given)
        if path.is_dir():
            _refuse_mixing(path, out)
            files.update(dict.fromkeys(_of_folder(path, left)))
        elif path.exists() or not glob.has_magic(str(given)):
            if not path.exists():
                raise DataError(f"input '{given}' does not exist", "give an image, a folder or a quoted pattern")
            files[path] = None
        else:
            found = sorted(Path(name) for name in glob.glob(str(given), recursive=True) if Path(name).is_file())
            if not found:
                raise DataError(f"no file matches '{given}'", "check the pattern")
            files.update(dict.fromkeys(found))
    once = {os.path.abspath(path): path for path in reversed(files)}  # `x.png` and `sub/../x.png` are one file
    files = {path: None for path in files if once[os.path.abspath(path)] == path}
    if (not files and left) or any(is_video(path) for path in files):
        decoder()
    if not files:
        raise DataError("there are no images to predict", "give an image, a folder or a quoted pattern")
    if any(path.resolve().is_relative_to(out.resolve()) for path in files):
        raise DataError(f"inputs lie in the output folder '{out}'", "choose another output folder")
    return list(files)


def find_items(inputs: Inputs, out: Path, frames_as_video: bool = False) -> Found:
    """The photographs that `inputs` names; see `find_inputs`.

    Args:
        inputs: see `find_inputs`.
        out: the output folder.
        frames_as_video: the frames of a video share its name.
    """
    found = Found()
    files = find_inputs(inputs, out, found.skipped)
    pages = {path: _pages(path, found) for path in files}
    films = set(found.videos) if frames_as_video else set()
    shown = [  # a file of a name that output_names makes unique, for every name that is needed
        (path, number, _numbered(path, number, len(numbers)))
        for path, numbers in pages.items()
        for number in (numbers if path not in films else [None])
    ]
    names = output_names([path for _, _, path in shown])
    named = {(path, number): name for (path, number, _), name in zip(shown, names, strict=True)}
    sources = dict(zip(files, below_common_folder(files), strict=True))
    for path, numbers in pages.items():
        for number in numbers:
            own = None if path in films else number
            mark = "" if own is None else f"#{own + 1}"
            found.items.append(Item(path, f"{path}{mark}", named[path, own], f"{sources[path]}{mark}", number))
    return found


def read_items(found: Found, scaling: str) -> Iterator[Photograph | DataError]:
    """Every photograph in its turn, or why it cannot be read. One file is open at a time, one page in memory."""
    for path, group in itertools.groupby(found.items, key=lambda item: item.path):
        pages = [item.page for item in group]
        if path in found.broken:
            yield found.broken[path]
        elif path in found.videos:
            yield from read_frames(path, len(pages))
        elif pages == [None]:
            try:
                yield read_photograph(path, scaling)
            except DataError as error:
                yield error
        else:
            for page in read_pages(path, [number for number in pages if number is not None], scaling):
                yield page if isinstance(page, DataError) else _of_several(page)


def _of_several(page: Photograph) -> Photograph:
    return Photograph(page.pixels, (*page.notes, "one of several pages"))


def _of_folder(folder: Path, left: dict[str, str]) -> list[Path]:
    files = list_images(folder, (*SUFFIXES, *VIDEOS))
    if can_read_videos():
        return files
    left.update({str(path): f"a video: {EXTRA}" for path in files if is_video(path)})
    return [path for path in files if not is_video(path)]


def _pages(path: Path, found: Found) -> list[int | None]:
    """Numbers of a file's pages or frames; [None] when it is one photograph, or cannot be read."""
    try:
        if is_video(path):
            found.videos[path] = count_frames(path)
            return list(range(found.videos[path][0]))
        if not may_have_pages(path):
            return [None]
        pages, other = list_pages(path)
    except DataError as error:
        found.broken[path] = error
        return [None]
    if other:
        found.skipped[f"{path}: {other} of its pages"] = "a smaller copy, or the transparency, of another page"
    return [None] if len(pages) == 1 else list(pages)


def _numbered(path: Path, number: int | None, count: int) -> Path:
    if number is None:
        return path
    what = "page" if path.suffix.lower() in (".tif", ".tiff") else "frame"
    return path.with_name(f"{path.stem}-{what}-{number + 1:0{len(str(count))}d}{path.suffix}")


def _refuse_mixing(folder: Path, out: Path) -> None:
    inner, outer = out.resolve(), folder.resolve()
    if inner == outer or inner.is_relative_to(outer):
        where = "is" if inner == outer else "lies in"
        raise DataError(
            f"output folder '{out}' {where} the input folder '{folder}'",
            "choose a folder outside it, so that predictions are never mistaken for photographs",
        )
