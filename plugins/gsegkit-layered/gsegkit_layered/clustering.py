"""Foreground-oriented clustering (paper, Section 3.2 and Table 4): real images by the code that Q_x reads in them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gsegkit.errors import DataError


def normalised_mutual_information(found: Tensor, truth: Tensor) -> float:
    """I(found; truth) over the arithmetic mean of the two entropies, as scikit-learn's default; [N] int64 both.

    1 for the same partition under any names, 0 for unrelated ones; 1 when neither side parts anything. Papers before
    2019 often used the geometric mean: say which when you compare.
    """
    if found.shape != truth.shape or found.ndim != 1 or not len(found):
        raise DataError(
            f"clusters {list(found.shape)} and labels {list(truth.shape)} cannot be compared",
            "give one of each an image",
        )
    rows, columns = (np.unique(side.cpu().numpy(), return_inverse=True)[1] for side in (found, truth))
    joint = np.zeros((rows.max() + 1, columns.max() + 1))
    np.add.at(joint, (rows, columns), 1 / len(rows))
    h_found, h_truth, h_joint = (_entropy(p) for p in (joint.sum(1), joint.sum(0), joint.flatten()))
    if h_found + h_truth == 0:
        return 1.0
    return max(0.0, 2 * (h_found + h_truth - h_joint) / (h_found + h_truth))


def _entropy(p: NDArray[np.float64]) -> float:
    return float(-(p * np.log(np.maximum(p, 1e-300))).sum())
