"""A photograph or a mask out of an image file, with notes on what was changed to make it 8-bit RGB."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFile, ImageOps
from torch import Tensor

from gsegkit.errors import DataError
from gsegkit.reading.files import check_size, damaged, open_image
from gsegkit.reading.scaling import DEFAULT_SCALING, scale

MAX_PAGES = 10_000  # of one file
HEAD_BYTES = 1 << 16  # of a file: an animation is announced there
PAGED = ("TIFF", "GIF", "PNG", "WEBP")  # a JPEG's second picture is a thumbnail, a depth or a brightness map
UNLIKE_PAGES = 1 | 4  # NewSubfileType of a TIFF: a smaller copy of another page, or its transparency
WIDE_COLOURS = ("RGB;16", "RGBA;16", "RGBX;16", "RGBa;16", "LA;16")  # raw modes that Pillow cuts to 8 bits
STRIP_PIXELS = 2**22  # converted at once
ORIENTATION = 0x0112  # of EXIF; 1 = upright


@dataclass(frozen=True)
class Photograph:
    """A photograph as it is used, and what was changed for that.

    Attributes:
        pixels: [3, H, W] uint8.
        notes: such as "scaled from 16 bits (percentile)"; equal changes have equal words.
    """

    pixels: Tensor
    notes: tuple[str, ...] = ()


def read_image(path: str | Path, scaling: str = DEFAULT_SCALING) -> Tensor:
    """Read a photograph as RGB, upright (EXIF applied), transparency composited on white; see `read_photograph`.

    Returns:
        [3, H, W] uint8.

    Raises:
        DataError: missing, empty, truncated, corrupt, of another format, or too large; names the file.
    """
    return read_photograph(path, scaling).pixels


def read_photograph(path: str | Path, scaling: str = DEFAULT_SCALING) -> Photograph:
    """Read a photograph; of a file with several pages the first one.

    Args:
        path: PNG, JPEG, WebP, BMP, TIFF or GIF.
        scaling: of pixels with more than 8 bits, see `gsegkit.reading.scaling`.

    Raises:
        DataError: see `read_image`.
    """
    path = Path(path)
    with open_image(path) as image:
        try:
            more = image.format in PAGED and bool(getattr(image, "is_animated", False))
            found = _photograph(image, path, scaling)
        except Exception as error:  # decoders leak any kind
            raise damaged(path, error) from None
    return Photograph(found.pixels, (*found.notes, "page 1 of several")) if more else found


def counted(notes: Mapping[str, int]) -> str:
    """How often each note was made, in a line for people.

    Example:
        >>> counted({"turned upright (EXIF)": 2, "page 1 of several": 1})
        'turned upright (EXIF): 2; page 1 of several: 1'
    """
    return "; ".join(f"{note}: {count}" for note, count in notes.items())


def may_have_pages(path: Path) -> bool:
    """Whether a file may have several pages; told by its first bytes, so that ordinary photographs cost nothing."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError:
        return False
    animated = (head[:4] == b"\x89PNG" and b"acTL" in head) or (head[8:12] == b"WEBP" and b"ANIM" in head)
    return animated or head[:2] in (b"II", b"MM") or head[:3] == b"GIF"


def list_pages(path: str | Path) -> tuple[list[int], int]:
    """Numbers (from 0) of the pages of a file that are photographs, and how many pages are none.

    A page that is a smaller copy of another one, or a mask of its transparency, is none.

    Raises:
        DataError: see `read_image`; or it has more than `MAX_PAGES` pages.
    """
    path = Path(path)
    with open_image(path) as image:
        if image.format not in PAGED:
            return [0], 0
        try:
            if image.format != "TIFF":
                return _at_most(list(range(getattr(image, "n_frames", 1))), path), 0
            pages, other = [0], 0
            for number in range(1, MAX_PAGES + 1):
                try:
                    image.seek(number)
                except EOFError:
                    break
                own = image.tag_v2.get(254, 0) & UNLIKE_PAGES == 0  # type: ignore[attr-defined]
                pages, other = ([*pages, number] if own else pages), other + (not own)
            return _at_most(pages, path), other
        except Exception as error:
            raise damaged(path, error) from None


def read_pages(path: str | Path, pages: list[int], scaling: str = DEFAULT_SCALING) -> Iterator[Photograph | DataError]:
    """Read several pages of one file in their order; for a page that cannot be read the reason comes in its place."""
    path = Path(path)
    with open_image(path) as image:
        for number in pages:
            try:
                image.seek(number)
                check_size(image, path)
                yield _photograph(image, path, scaling)
            except Exception as error:
                yield damaged(path, error)


def read_mask(path: str | Path) -> Tensor:
    """Read a mask as it is stored: label indices, 0/255, or palette indices.

    Returns:
        [H, W] uint8, the stored numbers.

    Raises:
        DataError: unreadable, or a colour image.
    """
    path = Path(path)
    image = _upright(path)
    if image.mode == "1":
        image = image.convert("L")
    if _is_wide(image):
        array = np.array(image)
        if array.dtype.kind == "f" and not (array == np.floor(array)).all():
            raise DataError(f"mask '{path}' holds fractions", "masks hold whole numbers in 0 .. 255")
        if array.min() < 0 or array.max() > 255:
            raise DataError(f"mask '{path}' holds values up to {array.max()}", "masks hold 0 .. 255")
        return torch.from_numpy(array.astype(np.uint8))
    if image.mode not in ("L", "P"):
        array = np.array(image.convert("RGB"))
        if not (array == array[..., :1]).all():
            raise DataError(
                f"mask '{path}' is a colour image ({image.mode})",
                "store label indices in an 8-bit grey or palette PNG",
            )
        return torch.from_numpy(array[..., 0].copy())
    return torch.from_numpy(np.array(image))


def image_size(path: str | Path) -> tuple[int, int]:
    """(height, width) after EXIF rotation; decodes no pixels where the format keeps its EXIF in front of them.

    Raises:
        DataError: as `read_image`.
    """
    path = Path(path)
    with open_image(path) as image:
        width, height = image.size
        if image.format == "TIFF":  # whose size Pillow may have turned already
            width, height = (int(image.tag_v2[tag]) for tag in (256, 257))  # type: ignore[attr-defined]
        try:
            turned = image.getexif().get(ORIENTATION, 1) in (5, 6, 7, 8)
        except Exception as error:
            raise damaged(path, error) from None
    return (width, height) if turned else (height, width)


# ---- inside ------------------------------------------------------------------------------------------------------


def _at_most(pages: list[int], path: Path) -> list[int]:
    if len(pages) > MAX_PAGES:
        raise DataError(f"image '{path}' has more than {MAX_PAGES} pages", "split it")
    return pages


def _upright(path: Path) -> Image.Image:
    with open_image(path) as image:
        try:
            _unmapped(image).load()
            return ImageOps.exif_transpose(image)
        except Exception as error:
            raise damaged(path, error) from None


def _unmapped(image: Image.Image) -> Image.Image:
    """The same image; Pillow maps some TIFFs into memory, and then forgets to turn them upright."""
    if isinstance(image, ImageFile.ImageFile):
        image.filename = ""
    return image


def _photograph(image: Image.Image, path: Path, scaling: str) -> Photograph:
    """The present page of an image, as 8-bit RGB."""
    notes: tuple[str, ...] = ()
    turned = image.format == "TIFF" and _is_turned(image)  # asked before: it turns itself when it is loaded
    image = _unmapped(image)
    if _is_wide(image) or _raw_mode(image).startswith(WIDE_COLOURS):
        bits = "float values" if image.mode == "F" else f"{_bits(image)} bits"
        notes = (f"scaled from {bits} ({scaling})",)
        if _raw_mode(image).startswith("LA;16"):
            notes += ("the upper 8 of 16 bits were read (grey with transparency)",)
        image = _narrowed(image, path, scaling)
    image.load()
    if _is_turned(image):  # else it would be copied: 432 MB of 108 megapixels
        image, turned = ImageOps.exif_transpose(image), True
    notes += ("turned upright (EXIF)",) if turned else ()
    if image.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
        notes += (f"colours converted from {image.mode}",)
    pixels, opaque = _rgb(image)
    return Photograph(pixels, notes if opaque else (*notes, "transparency composited on white"))


def _is_turned(image: Image.Image) -> bool:
    return image.getexif().get(ORIENTATION, 1) in range(2, 9)


def _rgb(image: Image.Image) -> tuple[Tensor, bool]:
    """[3, H, W] uint8 of an image, transparency composited on white, and whether nothing in it was transparent."""
    (width, height), opaque = image.size, True
    layered = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
    pixels = torch.empty(3, height, width, dtype=torch.uint8)
    rows = max(1, STRIP_PIXELS // width)  # whatever conversion costs, it costs for some rows only
    for top in range(0, height, rows):
        part = image.crop((0, top, width, min(top + rows, height)))
        if layered:
            part = part.convert("RGBA")
            opaque &= part.getchannel("A").getextrema() == (255, 255)
            part = Image.alpha_composite(Image.new("RGBA", part.size, (255, 255, 255, 255)), part)
        array = np.array(part if part.mode == "RGB" else part.convert("RGB"))
        pixels[:, top : top + rows] = torch.from_numpy(array).permute(2, 0, 1)
    return pixels, opaque


# ---- more than 8 bits ----------------------------------------------------------------------------------------------


def _is_wide(image: Image.Image) -> bool:
    return image.mode == "F" or image.mode.startswith("I")


def _raw_mode(image: Image.Image) -> str:
    """How the file stores its pixels, in Pillow's words; "" when the pixels are decoded already."""
    tiles: Any = getattr(image, "tile", None)
    arguments = tiles[0][3] if tiles else ""
    raw = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return raw if isinstance(raw, str) else ""


def _bits(image: Image.Image) -> int:
    raw = _raw_mode(image)
    return next((bits for bits in (12, 16) if f";{bits}" in raw), 32 if image.mode == "I" else 16)


def _narrowed(image: Image.Image, path: Path, scaling: str) -> Image.Image:
    """An image of more than 8 bits a channel as one of 8 bits: L, RGB or RGBA, with its EXIF orientation."""
    raw, bits, mode, exif = _raw_mode(image), _bits(image), image.mode, image.getexif()
    whole = (0.0, 1.0) if mode == "F" else (0.0, 2.0**bits - 1)
    if mode == "I" and "S" in raw.partition(";")[2]:
        whole = (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1)
    if _is_wide(image):
        values = np.array(image)
        if mode == "I" and whole[0] == 0 and bits == 32:
            values = values.view(np.uint32)
        narrow = scale(values, scaling, whole, str(path))
    else:
        values = _both_bytes(image, raw, path)
        colours = 3 if values.shape[2] == 4 else values.shape[2]
        narrow = scale(values[..., :colours], scaling, whole, str(path))
        if values.shape[2] == 4:
            narrow = np.concatenate([narrow, (values[..., 3:] >> 8).astype(np.uint8)], axis=2)
    made = Image.fromarray(narrow)
    made.getexif()[ORIENTATION] = exif.get(ORIENTATION, 1)
    return made


def _both_bytes(image: Image.Image, raw: str, path: Path) -> np.ndarray:
    """[H, W, C] uint16 of colours of 16 bits, of which Pillow decodes the upper byte alone.

    It is decoded a second time as if the file had the other byte order: then the upper byte is the lower one. Pixels of
    grey with transparency exist in one order only; their lower byte is taken as equal to the upper one.
    """
    upper = np.array(image)
    other = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}.get(raw[-1], "")
    if raw.startswith("LA") or not other:
        return upper.astype(np.uint16) * 257
    again: Any
    with open_image(path) as again:
        again.seek(image.tell())
        again.tile = [
            tile._replace(args=raw[:-1] + other if isinstance(tile.args, str) else (raw[:-1] + other, *tile.args[1:]))
            for tile in again.tile
        ]
        lower = np.array(again)
    values = upper.astype(np.uint16)
    values <<= 8
    values |= lower
    return values
