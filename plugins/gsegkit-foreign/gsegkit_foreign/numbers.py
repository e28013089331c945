"""What readers ask of a large tensor without making a second one of its size."""

from __future__ import annotations

import math

from torch import Tensor


def all_finite(tensor: Tensor) -> bool:
    """Whether a tensor of floating-point numbers has neither NaN nor infinity; true of an empty one.

    `torch.isfinite(tensor).all()` and sums in double precision need up to twice the tensor's memory.
    """
    return not tensor.numel() or all(math.isfinite(end) for end in tensor.aminmax())  # NaN becomes both ends
