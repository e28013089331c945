"""Image files: which there are in a folder, opened within limits, and what is wrong with one in a sentence."""

from __future__ import annotations

import os
import struct
import warnings
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from gsegkit.errors import DataError
from gsegkit.records.parts import MAX_SIDE

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")  # by content, not by file name
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")
MAX_PIXELS = 120_000_000
MAX_BYTES = 64 * 2**20
MAX_TIFF_BYTES = 4 * 2**30  # stacks of pages: one page is in memory at a time
MAX_SCANS = 100  # of a progressive JPEG, which has about ten; every one takes the time of a whole photograph

# of Pillow, about damaged TIFFs and EXIF: what matters of it becomes an error in our words
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


def list_images(folder: str | Path, suffixes: Sequence[str] = SUFFIXES) -> list[Path]:
    """Image files of a folder and its sub-folders, by suffix, in a stable order; hidden ones are skipped.

    Sub-folders that are links are followed as linked files are; a folder that was reached before is not entered again.

    Raises:
        DataError: the folder is missing, not a folder, or holds no image.
    """
    folder = Path(folder)
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise DataError(f"image folder '{folder}' {what}", "check the path")
    paths = [path for path in walk(folder) if path.suffix.lower() in suffixes]
    if not paths:
        raise DataError(f"folder '{folder}' contains no image", f"image files end in {', '.join(suffixes)}")
    return paths


def walk(folder: Path) -> list[Path]:
    """The files below a folder that are not hidden, sorted; see `list_images`."""
    found: list[Path] = []
    seen: set[tuple[int, int]] = set()
    real, linked = [folder], list[Path]()  # real folders first: what is also linked keeps its own name
    while real or linked:
        here = real.pop() if real else linked.pop(0)
        try:
            stat = here.stat()
            inside = sorted(os.scandir(here), key=lambda entry: entry.name)
        except OSError as error:
            raise DataError(f"folder '{here}' cannot be read: {error.strerror}", "check its permissions") from None
        if (stat.st_dev, stat.st_ino) in seen:
            continue
        seen.add((stat.st_dev, stat.st_ino))
        for entry in inside:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                (linked if entry.is_symlink() else real).append(Path(here, entry.name))
            else:
                found.append(Path(here, entry.name))
    return sorted(found)


def open_image(path: Path) -> Image.Image:
    """An image file's header, checked; the pixels are not decoded yet.

    Raises:
        DataError: see `gsegkit.reading.images.read_image`.
    """
    try:
        size = path.stat().st_size
        if size == 0:
            raise DataError(f"image '{path}' is empty (0 bytes)", "remove it or copy it again")
        if size > MAX_BYTES and (size > MAX_TIFF_BYTES or not _is_tiff(path)):
            limit = MAX_TIFF_BYTES if size > MAX_TIFF_BYTES else MAX_BYTES
            raise DataError(f"image '{path}' has {size / 2**20:.0f} MB", f"the limit is {limit >> 20} MB; shrink it")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(path, formats=FORMATS)
    except UnidentifiedImageError:
        raise _unknown(path) from None
    except OSError as error:
        reason = error.strerror or "not an image that can be read"
        raise DataError(f"cannot read image '{path}': {reason}", f"formats: {', '.join(FORMATS)}") from None
    except Image.DecompressionBombError:
        raise DataError(f"image '{path}' has too many pixels", _limits()) from None
    except Exception as error:  # Pillow's decoders leak SyntaxError, ValueError, struct.error ...
        if isinstance(error, DataError):
            raise
        raise DataError(f"cannot read image '{path}': its header is damaged", "remove it or copy it again") from None
    try:
        check_size(image, path)
        _check_scans(image, path)
    except DataError:
        image.close()
        raise
    return image


def check_size(image: Image.Image, path: Path) -> None:
    """DataError when an image, or the present page of it, is beyond the limits."""
    width, height = image.size
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise DataError(f"image '{path}' is {width} x {height}", _limits())


def damaged(path: Path, error: Exception) -> DataError:
    """What is wrong with an image whose pixels cannot be decoded; Pillow's own words stay inside."""
    if isinstance(error, DataError):
        return error
    text = str(error)
    if isinstance(error, MemoryError):
        return DataError(f"image '{path}' does not fit into memory", "shrink it")
    if "truncated" in text or isinstance(error, EOFError | struct.error):
        return DataError(f"image '{path}' is damaged: it ends too early", "copy it again; a download may be unfinished")
    return DataError(f"image '{path}' is damaged: its pixels cannot be decoded", "remove it or copy it again")


def _limits() -> str:
    return f"the limit is {MAX_PIXELS // 10**6} megapixels and {MAX_SIDE} px per side; shrink it"


def _check_scans(image: Image.Image, path: Path) -> None:
    if not image.info.get("progressive"):
        return
    scans = path.read_bytes().count(b"\xff\xda")
    if scans > MAX_SCANS:
        raise DataError(
            f"image '{path}' is a progressive JPEG of {scans} scans, which would take very long to decode",
            f"at most {MAX_SCANS} are read; a usual one has about ten: save it anew",
        )


def _is_tiff(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4)[:2] in (b"II", b"MM")


def _unknown(path: Path) -> DataError:
    """A file that Pillow does not know: a TIFF of a rare layout is another case than no image at all."""
    if _is_tiff(path):
        return DataError(
            f"image '{path}' is a TIFF of a layout that is not read",
            "grey and RGB(A) of 8 and 16 bits, grey of 32 bits and float are; save it as one of them",
        )
    return DataError(f"cannot read image '{path}': not an image that can be read", f"formats: {', '.join(FORMATS)}")
