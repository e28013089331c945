"""Connected pieces of masks, by SciPy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

IGNORE = 255
FOUR = ndimage.generate_binary_structure(2, 1)
EIGHT = ndimage.generate_binary_structure(2, 2)

Bools = NDArray[np.bool_]
Mask = NDArray[np.uint8]


def small_pieces(region: Bools, share: float, connectivity: int) -> Bools:
    """Pixels of those connected pieces of `region` that have at most `share` of the largest one's area; [H, W]."""
    pieces, count = ndimage.label(region, structure=EIGHT if connectivity == 8 else FOUR)
    if count < 2:
        return np.zeros_like(region)
    areas = np.bincount(pieces.ravel(), minlength=count + 1)
    areas[0] = 0
    small = areas <= share * areas.max()
    small[0] = False
    chosen: Bools = small[pieces]
    return chosen


def fill_holes(mask: Mask, share: float) -> Mask:
    """Fill the holes of the foreground.

    A hole is a 4-connected piece of background that does not touch the image's border. Up to `share` of the
    foreground's area it takes the class of most of the pixels around it (the lowest class on a tie).
    """
    background = mask == 0
    pieces, count = ndimage.label(background, structure=FOUR)
    if count == 0:
        return mask
    areas = np.bincount(pieces.ravel(), minlength=count + 1)
    fill = areas <= share * np.count_nonzero(~background & (mask != IGNORE))
    fill[[0, *np.unique(np.concatenate([pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]]))]] = False
    filled = mask.copy()
    for piece, box in enumerate(ndimage.find_objects(pieces), 1):
        if not fill[piece]:
            continue
        # a hole does not touch the border, so its box can grow by one pixel
        grown = tuple(slice(side.start - 1, side.stop + 1) for side in box)
        inside = pieces[grown] == piece
        around = mask[grown][ndimage.binary_dilation(inside, EIGHT) & ~inside]
        around = around[(around != 0) & (around != IGNORE)]
        if len(around):
            filled[grown][inside] = np.bincount(around).argmax()
    return filled
