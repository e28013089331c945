"""Numbers per sample that refiners drop images by, as the released code of both papers defines them."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from gsegkit.images import otsu

LEVELS = 256  # bins of Otsu's threshold
PIECE_SHARE = 0.2  # pieces of at most this share of the largest one's area do not count
EIGHT = np.ones((3, 3), dtype=bool)  # diagonal neighbours belong to a piece


def otsu_levels(planes: Tensor) -> Tensor:
    """Otsu's threshold of each plane, between its least and its greatest value: [N, H, W] -> [N, 1, 1]."""
    levels = []
    for plane in planes.double():
        low, high = plane.amin(), plane.amax()
        counts = torch.histc(plane.flatten().cpu(), bins=LEVELS, min=float(low), max=float(high)).to(plane.device)
        levels.append(low + (high - low) * (otsu(counts) + 1) / LEVELS)
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
