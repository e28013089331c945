"""Numbers per sample that refiners drop pictures by, as the released code of both papers defines them."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

BINS = 12
LEVELS = 256  # bins of Otsu's threshold
PIECE_SHARE = 0.2  # pieces of at most this share of the largest one's area do not count
EIGHT = np.ones((3, 3), dtype=bool)  # diagonal neighbours belong to a piece


def histogram_peaks(images: Tensor) -> Tensor:
    """Maxima of the coarse histogram of each image: [N, 3, H, W] float32 -> [N] float32.

    All channel values go into 12 bins on [-1, 1], values outside are left out; counts are smoothed by a box of width 3
    with zeros beyond the ends; a bin that is below neither neighbour is a maximum. Equal bins all count, so a blank
    picture has many.
    """
    counts = torch.stack([torch.histc(image.float().cpu(), bins=BINS, min=-1, max=1) for image in images])
    padded = F.pad(counts.double(), (1, 1))
    smooth = F.pad(padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:], (1, 1), value=-1.0)
    middle = smooth[:, 1:-1]
    peaks = (middle >= smooth[:, :-2]) & (middle >= smooth[:, 2:])
    return peaks.sum(dim=1).float().to(images.device)


def otsu_levels(planes: Tensor) -> Tensor:
    """Otsu's threshold of each plane, between its least and its greatest value: [N, H, W] -> [N, 1, 1]."""
    levels = []
    for plane in planes.double():
        low, high = plane.amin(), plane.amax()
        counts = torch.histc(plane.flatten().cpu(), bins=LEVELS, min=float(low), max=float(high)).to(plane.device)
        below = counts.cumsum(0)[:-1]  # a threshold between two bins
        above = counts.sum() - below
        centres = torch.arange(LEVELS, dtype=torch.float64, device=plane.device) + 0.5
        moments = (counts * centres).cumsum(0)
        gap = moments[:-1] / below.clamp_min(1) - (moments[-1] - moments[:-1]) / above.clamp_min(1)
        best = (below * above * gap.square()).argmax()  # variance between the two groups
        levels.append(low + (high - low) * (best + 1) / LEVELS)
    return torch.stack(levels).to(planes.dtype).view(-1, 1, 1)


def cleaned_coverage(masks: Tensor) -> Tensor:
    """Share of the image that is left of each mask without its small pieces: [N, H, W] bool -> [N] float32."""
    shares = [_large_pieces(mask).mean() for mask in masks.cpu().numpy()]
    return torch.tensor(shares, dtype=torch.float32, device=masks.device)


def _large_pieces(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    pieces, count = ndimage.label(mask, structure=EIGHT)
    if count < 2:
        return mask
    areas = np.bincount(pieces.ravel())
    areas[0] = 0
    kept: NDArray[np.bool_] = (areas > PIECE_SHARE * areas.max())[pieces]
    return kept
