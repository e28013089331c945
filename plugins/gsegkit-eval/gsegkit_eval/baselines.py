"""The score of a constant or trivial foreground, printed beside every result."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gsegkit.dataset import Sample
from gsegkit.types import IGNORE


def foreground_iou(predicted: NDArray[np.bool_], sample: Sample) -> tuple[int, int]:
    """Intersection and union with the true foreground, without 255."""
    mask = sample.mask.numpy()
    valid = mask != IGNORE
    truth = (mask != 0) & valid
    return int((predicted & truth).sum()), int(((predicted & valid) | truth).sum())
