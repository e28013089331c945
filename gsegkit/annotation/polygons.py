"""Masks as polygons along pixel borders, exact: filling them by pixel centres gives the mask back."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from scipy.spatial.distance import cdist
from torch import Tensor

from gsegkit.errors import DataError

MAX_CROSSINGS = 10**8  # of a polygon's edges with rows of pixels: seconds of work
CROSSINGS_AT_ONCE = 2**22

_STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))  # east, south, west, north as (dx, dy); y points down


def mask_polygons(mask: Tensor) -> list[np.ndarray]:
    """One closed polygon per 4-connected region of a binary mask.

    A region with holes is still ONE polygon: each hole is joined to the outline by a bridge of zero width, walked there
    and back, between their nearest corners. Even-odd and winding fills leave the hole open.

    Args:
        mask: [H, W] bool or uint8.

    Returns:
        [M, 2] int64 arrays of (x, y) pixel corners, x in 0 .. W, y in 0 .. H; the first corner is not repeated.
    """
    regions, _ = ndimage.label((mask != 0).cpu().numpy())
    polygons = []
    for number, (rows, columns) in enumerate(ndimage.find_objects(regions), 1):
        rings = trace_rings(regions[rows, columns] == number)
        rings.sort(key=_signed_area, reverse=True)  # the outline runs clockwise, holes the other way
        polygon = rings[0]
        for hole in rings[1:]:
            polygon = _bridge(polygon, hole)
        polygons.append(polygon + np.array([columns.start, rows.start]))
    return polygons


def fill_polygon(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The pixels whose centres lie in a polygon, by the even-odd rule; the inverse of `mask_polygons`.

    Args:
        points: [M, 2] float (x, y), closed or not; they may lie outside of the image.
        size: (height, width).

    Returns:
        [H, W] bool.

    Raises:
        DataError: so many points that filling would take very long.
    """
    height, width = size
    places = points.astype(np.float64).clip(-1e9, 1e9)
    x1, y1 = places.T
    x2, y2 = np.roll(places, -1, axis=0).T
    # an edge crosses the rows whose centres lie between its ends
    tops = np.ceil(np.minimum(y1, y2) - 0.5).clip(0, height).astype(np.int64)
    rows = np.ceil(np.maximum(y1, y2) - 0.5).clip(0, height).astype(np.int64) - tops
    ends = rows.cumsum()
    if ends.size and ends[-1] > MAX_CROSSINGS:
        raise DataError(f"an outline of {len(points)} points is too complex to be filled", "simplify it")
    toggles = np.zeros(height * (width + 1), np.uint8)  # where a row goes in or out
    for first in range(0, int(ends[-1]) if ends.size else 0, CROSSINGS_AT_ONCE):
        numbers = np.arange(first, min(first + CROSSINGS_AT_ONCE, int(ends[-1])))
        edge = np.searchsorted(ends, numbers, side="right")
        row = tops[edge] + numbers - (ends[edge] - rows[edge])
        share = (row + 0.5 - y1[edge]) / (y2[edge] - y1[edge])
        column = np.ceil(x1[edge] + share * (x2[edge] - x1[edge]) - 0.5).clip(0, width).astype(np.int64)
        np.bitwise_xor.at(toggles, row * (width + 1) + column, 1)
    inside: np.ndarray = np.bitwise_xor.accumulate(toggles.reshape(height, width + 1), axis=1)[:, :width]
    return inside.astype(bool)


def trace_rings(region: np.ndarray) -> list[np.ndarray]:
    """Follow the borders between true and false pixels of an [H, W] bool array; corners only, as (x, y).

    Every border edge is walked once with the region on its right. Where two pixels touch at a corner only, the walk
    turns right, so they count as separate (4-connectivity).
    """
    edges = _border_edges(region)
    rings = []
    for start in sorted(edges):
        if start not in edges:  # walked already, in an earlier ring
            continue
        x, y, heading = start
        corners: list[tuple[int, int]] = []
        while True:
            edges.remove((x, y, heading))
            x, y = x + _STEPS[heading][0], y + _STEPS[heading][1]
            turn = next(
                t for t in (1, 0, 3) if (x, y, (heading + t) % 4) in edges or (x, y, (heading + t) % 4) == start
            )
            if turn != 0:
                corners.append((x, y))
            heading = (heading + turn) % 4
            if (x, y, heading) == start:
                break
        rings.append(np.array(corners, dtype=np.int64))
    return rings


def _border_edges(region: np.ndarray) -> set[tuple[int, int, int]]:
    """(x, y, heading) of every border edge, by its starting corner."""
    padded = np.pad(region, 1)
    inside = padded[1:-1, 1:-1]
    sides = {  # heading: (the neighbour across the edge, offset of the edge's start from the pixel's top-left corner)
        0: (padded[:-2, 1:-1], (0, 0)),
        1: (padded[1:-1, 2:], (1, 0)),
        2: (padded[2:, 1:-1], (1, 1)),
        3: (padded[1:-1, :-2], (0, 1)),
    }
    edges: set[tuple[int, int, int]] = set()
    for heading, (neighbour, (dx, dy)) in sides.items():
        rows, columns = np.nonzero(inside & ~neighbour)
        edges.update((x + dx, y + dy, heading) for x, y in zip(columns.tolist(), rows.tolist(), strict=True))
    return edges


def _signed_area(ring: np.ndarray) -> float:
    x, y = ring[:, 0], ring[:, 1]
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum()) / 2


def _bridge(polygon: np.ndarray, hole: np.ndarray) -> np.ndarray:
    at, to = np.unravel_index(cdist(polygon, hole).argmin(), (len(polygon), len(hole)))
    loop = np.concatenate([hole[to:], hole[: to + 1]])  # around the hole and back to where it began
    return np.concatenate([polygon[: at + 1], loop, polygon[at:]])
