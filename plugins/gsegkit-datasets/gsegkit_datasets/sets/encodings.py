"""What the masks of published data sets store, as class indices: votes, blue ground, trimaps, soft edges, palettes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import ndimage

from gsegkit.errors import DataError
from gsegkit.reading.files import damaged, open_image
from gsegkit.types import IGNORE

MAJORITY = 128  # of five votes of 51: three are more
SPECK = 0.001  # share of the pixels below which the rule "tolerant" takes a region for a speck of JPEG
TOLERANT_BLUE = (60, 60, 190)  # red and green below, blue above


def stored(path: Path, *, palette: bool = False) -> np.ndarray:
    """[H, W, C] uint8, the values of a mask file as they are stored, not turned upright.

    Args:
        path: the file.
        palette: the indices of a palette PNG instead of its colours, C = 1.

    Raises:
        DataError: it cannot be read, or has more than 8 bits.
    """
    with open_image(path) as image:
        try:
            image.load()
            mode = image.mode
            if mode == "1":
                array = np.array(image.convert("L"))
            elif mode == "P" and not palette:
                array = np.array(image.convert("RGB"))
            else:
                array = np.array(image)
        except Exception as error:
            raise damaged(path, error) from None
    if array.dtype != np.uint8:
        raise DataError(
            f"mask '{path}' has more than 8 bits (values up to {array.max()})",
            "these are not the masks of the data set, but maps of confidence or depth; take the archive's masks",
        )
    return array if array.ndim == 3 else array[..., None]


def stored_size(path: Path) -> tuple[int, int]:
    """(height, width) of an image file as it is stored, not turned upright."""
    with open_image(path) as image:
        return image.height, image.width


def votes(path: Path, ignore_soft: bool) -> np.ndarray:
    """CUB: grey values of a vote of annotators -> 1 where most of them saw the object; of several channels the first.

    Args:
        path: the mask.
        ignore_soft: what only a minority marked is 255.
    """
    values = stored(path)[..., 0]
    _refuse_indices(values, path)
    mask = (values > MAJORITY).astype(np.uint8)
    if ignore_soft:
        mask[(values > 0) & (values <= MAJORITY)] = IGNORE
    return mask


def soft(path: Path, threshold: int, ignore_soft: bool, invert: bool) -> np.ndarray:
    """Saliency: grey values 0 .. 255 with soft edges -> 1 above the threshold.

    Args:
        path: the mask.
        threshold: see above.
        ignore_soft: what is neither 0 nor 255 is 255.
        invert: 0 is the foreground.
    """
    values = stored(path)[..., 0]
    _refuse_indices(values, path)
    if invert:
        values = 255 - values
    mask = (values > threshold).astype(np.uint8)
    if ignore_soft:
        mask[(values > 0) & (values < 255)] = IGNORE
    return mask


def blue_ground(path: Path, rule: str) -> np.ndarray:
    """Flowers-102: the flower's own pixels on a blue ground, stored as JPEG -> 1 where the flower is.

    Args:
        path: the mask.
        rule: "redo": ground where R = 0, G = 0 or B = 254, as ReDO reads it; it also takes flower pixels that have such
            a channel. "tolerant": ground where the colour is nearly that blue, less specks.
    """
    values = stored(path)[..., :3]
    if values.shape[2] == 1 or bool((values == values[..., :1]).all()):  # prepared copies hold 0/255
        return (values[..., 0] > MAJORITY).astype(np.uint8)
    red, green, blue = (values[..., channel] for channel in range(3))
    if rule == "redo":
        return (~((red == 0) | (green == 0) | (blue == 254))).astype(np.uint8)
    most, also, least = TOLERANT_BLUE
    return _without_specks(~((red < most) & (green < also) & (blue > least))).astype(np.uint8)


def trimap_colours(path: Path, flower: tuple[int, int, int], border: tuple[int, int, int] | None) -> np.ndarray:
    """Flowers-17: colours -> 1 the flower's, 255 the border's, 0 all others."""
    values = _coloured(path)
    mask = _is_colour(values, flower).astype(np.uint8)
    if border is not None:
        mask[_is_colour(values, border)] = IGNORE
    return mask


def touching(path: Path, flower: tuple[int, int, int]) -> dict[tuple[int, int, int], int]:
    """Colour -> how many of its pixels touch one of the flower's, for all other colours of a trimap."""
    values = _coloured(path)
    inner = _is_colour(values, flower)
    rim = ndimage.binary_dilation(inner, np.ones((3, 3), bool)) & ~inner
    found = dict.fromkeys((tuple(map(int, row)) for row in np.unique(values[~inner], axis=0)), 0)
    for row, count in zip(*np.unique(values[rim], axis=0, return_counts=True), strict=True):
        found[tuple(map(int, row))] = int(count)
    return found  # type: ignore[return-value]


def binary(path: Path) -> np.ndarray:
    """Detectors' masks: 0 and 255, or 0 and 1 -> 0 and 1; soft edges above the half."""
    values = stored(path)[..., 0]
    return (values > (MAJORITY - 1 if values.max() > 1 else 0)).astype(np.uint8)


def indices(path: Path, most: int, what: str, palette: np.ndarray | None = None) -> np.ndarray:
    """Class indices as they are stored, or colours of a known palette turned back into indices.

    Args:
        path: the mask.
        most: the largest index; 255 is always allowed.
        what: they are, for messages.
        palette: [256, 3] uint8, of copies that hold colours; None = colours are refused.
    """
    values = stored(path, palette=True)
    if values.shape[2] >= 3 and not bool((values[..., :3] == values[..., :1]).all()):
        if palette is None:
            raise DataError(f"mask '{path}' is a colour image", f"{what} are stored as indices")
        return _from_colours(values[..., :3], palette, path)
    mask = np.ascontiguousarray(values[..., 0])
    top = int(mask[mask != IGNORE].max(initial=0))
    if top > most:
        raise DataError(f"mask '{path}' holds the value {top}", f"{what} are 0 .. {most}: this is another version")
    return mask


def _refuse_indices(values: np.ndarray, path: Path) -> None:
    if values.max(initial=0) == 1:
        raise DataError(
            f"mask '{path}' holds 0 and 1, the published ones hold values up to 255",
            "it is a converted copy: read it with the reader 'folder'",
        )


def _coloured(path: Path) -> np.ndarray:
    values = stored(path)
    return values[..., :3] if values.shape[2] >= 3 else np.repeat(values[..., :1], 3, axis=2)


def _is_colour(values: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    found: np.ndarray = (values == np.array(colour, np.uint8)).all(axis=2)
    return found


def _from_colours(values: np.ndarray, palette: np.ndarray, path: Path) -> np.ndarray:
    code = values.astype(np.int32) @ np.array([65536, 256, 1], np.int32)
    known = palette.astype(np.int32) @ np.array([65536, 256, 1], np.int32)
    order = np.argsort(known, kind="stable")
    at = order[np.searchsorted(known[order], code).clip(0, len(known) - 1)]
    if not bool((known[at] == code).all()):
        bad = tuple(int(value) for value in values[known[at] != code][0])
        raise DataError(f"mask '{path}' has the colour {bad}, which no class has", "JPEG blurs masks: take the PNGs")
    return at.astype(np.uint8)


def _without_specks(mask: np.ndarray) -> np.ndarray:
    """The mask without regions of it, and holes in it, that are smaller than `SPECK` of the picture."""
    least = SPECK * mask.size
    for value in (True, False):
        labels, count = ndimage.label(mask == value)
        small = np.bincount(labels.ravel(), minlength=count + 1) < least
        small[0] = False
        mask = np.where(small[labels], not value, mask)
    return mask
