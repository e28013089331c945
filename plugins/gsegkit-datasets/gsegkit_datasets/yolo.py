"""YOLO annotations: a text file for each image, a line for each object, an outline in shares of width and height."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from gsegkit.errors import DataError, plural
from gsegkit.images import image_size
from gsegkit.records.files import MAX_BYTES, read_bytes, read_value
from gsegkit.records.text import UnreadableError, shown
from gsegkit_datasets.outlines import Annotated, Shape

NAMES_FILES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
CLASSES_FILE = "classes.txt"  # beside labels it lists what their numbers mean: no background
MAX_LABEL_BYTES = 16 << 20
BEYOND = 0.05  # coordinates may lie outside of the image by this share: outlines that were moved or rounded
MOST_CLASSES = 254


def find_labels(folder: Path, images: Sequence[Path]) -> dict[Path, Path]:
    """Image -> its label file, of those that have one: in the place of images/, in labels/, or beside it."""
    found = {}
    for image in images:
        for path in _places(folder, image):
            if path.is_file() and path.name != CLASSES_FILE:
                found[image] = path
                break
    return found


def read_yolo(folder: Path, images: Sequence[Path], labels: Mapping[Path, Path]) -> Annotated:
    """The annotations of label files; an image without one is background.

    Raises:
        DataError: a line that is no outline, or a class without a name.
    """
    listed, source = _names(folder)
    shapes = {image: _shapes(labels[image], image) if image in labels else [] for image in images}
    used = {shape.label: shape.where for rows in shapes.values() for shape in rows}
    highest = max(used, default=0)
    if highest >= MOST_CLASSES:
        raise DataError(f"{used[highest]} has the class {highest}", f"at most {MOST_CLASSES} classes are read")
    names = listed if listed is not None else {label: f"class-{label + 1}" for label in range(highest + 1)}
    stray = next((label for label in sorted(used) if label not in names), None)
    if stray is not None:
        raise DataError(f"{used[stray]} has the class {stray}, which '{source}' does not name", "add its name")
    known = set(labels.values())
    spare = sum(path not in known and path.name != CLASSES_FILE for path in (folder / "labels").rglob("*.txt"))
    notes = (f"left out, without an image: {plural(spare, 'label file')}",) if spare else ()
    sources = (*((source,) if source is not None else ()), *labels.values())
    return Annotated("YOLO", shapes, names, sources, notes)


def has_names(folder: Path) -> bool:
    """Whether classes.txt of this folder lists what the labels' numbers mean."""
    return _names(folder)[1] == folder / CLASSES_FILE


# ---- inside ------------------------------------------------------------------------------------------------------


def _places(folder: Path, image: Path) -> list[Path]:
    parts = list(image.relative_to(folder).with_suffix(".txt").parts)
    places = []
    if "images" in parts[:-1]:
        at = len(parts) - 2 - parts[:-1][::-1].index("images")
        places.append(folder.joinpath(*parts[:at], "labels", *parts[at + 1 :]))
    beside = [folder.joinpath("labels", *parts[skipped:]) for skipped in range(len(parts))]
    return [*places, *beside, image.with_suffix(".txt")]


def _shapes(path: Path, image: Path) -> list[Shape]:
    try:
        text = read_bytes(path, MAX_LABEL_BYTES).decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"cannot read '{path}': {error.strerror}", "check its permissions") from None
    except (UnreadableError, UnicodeDecodeError):
        raise DataError(f"'{path}' is not a text file of YOLO labels", "remove it or copy it again") from None
    lines = [(number, line.split()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines:
        return []
    height, width = image_size(image)
    return [_shape(words, f"line {number} of '{path}'", (width, height)) for number, words in lines]


def _shape(words: Sequence[str], where: str, scale: tuple[int, int]) -> Shape:
    if len(words) == 5:
        raise DataError(f"{where} is a box, not an outline", "masks need YOLO-seg labels: class x1 y1 x2 y2 x3 y3 ...")
    try:
        numbers = np.array([float(word) for word in words[1:]])
        label = int(words[0])
    except ValueError:
        raise DataError(f"{where} is no YOLO label", "write: class x1 y1 x2 y2 x3 y3 ...") from None
    if label < 0 or len(numbers) < 6 or len(numbers) % 2:
        raise DataError(f"{where} has {len(numbers)} numbers after its class", "an outline has 3 or more pairs x y")
    outside = ~((numbers >= -BEYOND) & (numbers <= 1 + BEYOND))  # NaN too
    if outside.any():
        bad = shown(float(numbers[outside][0]), 40)
        raise DataError(f"{where} has the coordinate {bad}", "coordinates are shares of width and height, 0 .. 1")
    return Shape(label, (numbers.reshape(-1, 2) * np.array(scale),), where=where)


def _names(folder: Path) -> tuple[dict[int, str] | None, Path | None]:
    """Class number -> name, and the file that says so: data.yaml in the folder or the one above, or classes.txt."""
    places = [where / name for where in (folder, folder.absolute().parent) for name in NAMES_FILES]
    path = next((path for path in places if path.is_file()), None)
    if path is not None:
        try:
            table = read_value(path)
        except (OSError, UnreadableError) as error:
            raise DataError(f"'{path}' {error}", "fix or remove it") from None
        given = table.get("names") if isinstance(table, dict) else None
        rows = dict(enumerate(given)) if isinstance(given, list) else given
        if not isinstance(rows, dict) or not all(str(key).isdigit() for key in rows):
            raise DataError(f"'{path}' does not name the classes", "write names: [cat, dog] or names: {0: cat, 1: dog}")
        return {int(key): str(name) for key, name in rows.items()}, path
    path = next((path for path in (folder / CLASSES_FILE, folder / "labels" / CLASSES_FILE) if path.is_file()), None)
    if path is None:
        return None, None
    try:
        lines = [line.strip() for line in read_bytes(path, MAX_BYTES).decode("utf-8-sig").splitlines()]
    except (OSError, UnreadableError, UnicodeDecodeError):
        raise DataError(f"'{path}' cannot be read as UTF-8 text", "fix or remove it") from None
    return dict(enumerate(line for line in lines if line)), path
