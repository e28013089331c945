"""How pixels of more than 8 bits become 8 bits. Imports neither torch nor Pillow.

A scaling is a text, so that it can stand in options, records and exports:

- `percentile`: the 0.1th percentile of an image becomes 0, its 99.9th 255; `percentile:1:99` takes others.
- `full`: the whole range of the pixels' type; of floats 0 .. 1.
- `range:LOW:HIGH`: these values.

All channels of an image are scaled alike. Images of 8 bits are never scaled.
"""

from __future__ import annotations

import re

import numpy as np

from gsegkit.errors import DataError

PERCENTILE = "percentile"
FULL = "full"
RANGE = "range"
DEFAULT_SCALING = PERCENTILE
AUTO = "auto"  # of a reader: as the generator or the segmenter learned it, else the default
SCALINGS = "percentile, percentile:LOW:HIGH, full or range:LOW:HIGH"
LOW, HIGH = 0.1, 99.9  # of `percentile`: hot pixels of a camera do not set the contrast
MOST_SAMPLED = 2**24  # values that percentiles of floats are taken from, at equal distances
STRIP_VALUES = 2**22

_NUMBER = r"[+-]?\d{1,40}(?:\.\d{0,40})?(?:[eE][+-]?\d{1,3})?"
_FORM = re.compile(rf"(percentile|range):({_NUMBER}):({_NUMBER})")


def check_scaling(text: str) -> str:
    """The scaling as it is; ValueError when it is none."""
    _parsed(text)
    return text


def resolved(scaling: str) -> str:
    """A reader's option: itself, and for `auto` the default."""
    return DEFAULT_SCALING if scaling == AUTO else scaling


def in_words(scaling: str) -> str:
    """What a scaling does, for people who apply it with other tools."""
    kind, low, high = _parsed(scaling)
    if kind == FULL:
        return "the range of the pixels' type (0 .. 1 for floats) becomes 0 .. 255"
    if kind == PERCENTILE:
        return f"of each image, over all channels, percentile {low:g} becomes 0 and percentile {high:g} becomes 255"
    return f"{low:g} becomes 0 and {high:g} becomes 255"


def scale(values: np.ndarray, scaling: str, whole: tuple[float, float], source: str) -> np.ndarray:
    """Values of any number type as 8 bits.

    Args:
        values: [H, W] or [H, W, C], integers or floats; NaN becomes 0.
        scaling: see the module.
        whole: the range of the pixels' type, for `full`.
        source: the image, for messages.

    Returns:
        uint8 of the same shape.

    Raises:
        DataError: `full`, and floats lie outside of 0 .. 1; or no value is finite.
    """
    kind, low, high = _parsed(scaling)
    if kind == FULL:
        low, high = whole
        if values.dtype.kind == "f" and not _inside(values, low, high):
            raise DataError(
                f"image '{source}' holds float values outside of 0 .. 1", "set the scaling to range:LOW:HIGH"
            )
    elif kind == PERCENTILE:
        low, high = _percentiles(values, low, high, source)
    if values.dtype == np.uint16:
        return _ramp(np.arange(2**16), low, high)[values]
    flat, scaled = values.reshape(-1), np.empty(values.size, np.uint8)
    for start in range(0, flat.size, STRIP_VALUES):
        scaled[start : start + STRIP_VALUES] = _ramp(flat[start : start + STRIP_VALUES], low, high)
    return scaled.reshape(values.shape)


def _parsed(text: str) -> tuple[str, float, float]:
    if text == FULL:
        return FULL, 0.0, 0.0
    if text == PERCENTILE:
        return PERCENTILE, LOW, HIGH
    match = _FORM.fullmatch(text)
    if match is None:
        raise ValueError(f"a scaling is {SCALINGS}")
    kind, low, high = match[1], float(match[2]), float(match[3])
    if not low < high or (kind == PERCENTILE and not (low >= 0 and high <= 100)) or high - low == float("inf"):
        raise ValueError(f"a scaling is {SCALINGS}, LOW below HIGH, percentiles within 0 .. 100")
    return kind, low, high


def _ramp(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """`low` and less -> 0, `high` and more -> 255, NaN -> 0."""
    with np.errstate(invalid="ignore", over="ignore"):
        part = (values.astype(np.float64) - low) / (high - low) if high > low else (values > low).astype(np.float64)
        return np.nan_to_num(part * 255 + 0.5, nan=0.0).clip(0, 255).astype(np.uint8)


def _percentiles(values: np.ndarray, low: float, high: float, source: str) -> tuple[float, float]:
    """The values at two percentiles; the least and the greatest one where both are the same (a few bright spots)."""
    if values.dtype == np.uint16:
        counts = np.bincount(values.reshape(-1), minlength=2**16)
        total = counts.cumsum()
        places = [np.searchsorted(total, max(1.0, total[-1] * share / 100)) for share in (low, high)]
        least, most = np.flatnonzero(counts)[[0, -1]]
        found = [float(place) for place in places]
    else:
        flat = values.reshape(-1)
        sample = flat[:: -(-flat.size // MOST_SAMPLED)]
        sample = sample[np.isfinite(sample)] if sample.dtype.kind == "f" else sample
        if not sample.size:
            raise DataError(f"image '{source}' holds no finite value", "remove it or copy it again")
        found = np.percentile(sample, [low, high]).astype(np.float64).tolist()
        least, most = sample.min(), sample.max()
    return (found[0], found[1]) if found[0] < found[1] else (float(least), float(most))


def _inside(values: np.ndarray, low: float, high: float) -> bool:
    with np.errstate(invalid="ignore"):
        return not ((values < low) | (values > high)).any()
