"""The points as the methods need them: float32, and on the unit sphere for angles."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from gsegkit.clustering.points import Points
from gsegkit.errors import ConfigError, DataError


def as_float32(points: Points, unit: bool, memory_mib: int) -> Tensor:
    """The points as [N, D] float32, the same memory where that is possible.

    Args:
        points: as they were collected.
        unit: scale every point to length 1; then only angles between points count.
        memory_mib: most memory for a copy.

    Raises:
        ConfigError: a copy is needed and would not fit.
        DataError: with `unit`, a point that is zero everywhere.
    """
    x = points.x
    if x.dtype == torch.float32 and not unit:
        return x
    needed = x.numel() * 4
    if needed > memory_mib << 20:
        raise ConfigError(
            f"the clustering needs {len(points):,} points as float32, {needed / 2**20:,.0f} MiB; "
            f"memory_mib is {memory_mib}",
            "lower pixels_per_image or raise memory_mib"
            + ("" if unit else ", or use dtype=float32 with storage=disk: that needs no copy"),
        )
    x = x.float()
    if not unit:
        return x
    if not bool(x.any(dim=1).all()):
        raise DataError("a pixel's features are all zero, so it has no direction", "use metric=euclidean or ward")
    return F.normalize(x, dim=1)
