"""Position out of the features, by symmetry.

A generator's features tell where a pixel is (a learned constant, padding), so that clusters of pixels cut one part
into top, left and right pieces. Where its training photographs were mirrored at random, a place and its mirror place
show the same content on average. So the mean feature of a place minus that of its mirror place is position and nothing
else; the directions that these differences span are projected out of the features.

The means are noisy, so they are taken over two disjoint halves of the images, with differences d1 and d2, [places, D].
In d1^T d2 the noise averages out; (d1 - d2) / 2 is nothing but noise, as strong as that of the mean of the halves.
Directions in which the halves agree on more than the noisiest direction's energy count as position.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

AXES = {"x": 1, "y": 0}  # axis name -> dimension of a [G, G, D] table that it flips
EPS = 1e-9  # strengths below this share of the largest are rounding
BLOCK = 1 << 24  # numbers in the largest temporary of a pass over the points


class PlaceMeans:
    """Mean features of a grid of places, over the even and over the odd images.

    Attributes:
        sums: [2, G, G, D] float64, counts: images in each half.
    """

    def __init__(self, dim: int, device: torch.device, grid: int) -> None:
        self.sums = torch.zeros(2, grid, grid, dim, dtype=torch.float64, device=device)
        self.counts = [0, 0]

    def pooled(self, maps: Mapping[str, Tensor], layers: Iterable[str]) -> Tensor:
        """Mean features of the places of each image, [N, D, G, G] float32, from feature maps [N, C, h, w] by name."""
        return torch.cat([F.adaptive_avg_pool2d(maps[name].float(), self.sums.shape[1]) for name in layers], dim=1)

    def add(self, pooled: Tensor, first: int) -> None:
        """Add images as `pooled` gives them; `first` is the number of the first image."""
        for half in (0, 1):
            own = pooled[(half + first) % 2 :: 2]
            self.sums[half] += own.sum(dim=0, dtype=torch.float64).permute(1, 2, 0)
            self.counts[half] += len(own)

    def halves(self) -> Tensor:
        """The means of both halves, [2, G, G, D] float64; a half without images has zeros."""
        return self.sums / torch.tensor(self.counts, device=self.sums.device).clamp(min=1).view(2, 1, 1, 1)


def position_directions(halves: Tensor, axes: str, rank: int | None = None) -> Tensor:
    """Directions of the features along which they tell position.

    Args:
        halves: [2, G, G, D], mean features of a grid of places, over two disjoint halves of the images.
        axes: along which the training photographs were mirrored: "x", "y" or "xy".
        rank: how many directions, strongest first; None = those that stand out of the means' noise.

    Returns:
        [D, r] float32 with orthonormal columns; r = 0 when nothing stands out.
    """
    one, two = (_differences(half.double(), axes) for half in halves)
    agreed = one.T @ two
    strength, directions = torch.linalg.eigh((agreed + agreed.T) / 2)  # rising
    if rank is None:
        noise = torch.linalg.matrix_norm((one - two) / 2, ord=2).square()
        rank = int((strength > noise + EPS * strength[-1].clamp(min=0)).sum())
    return directions.flip(1)[:, :rank].float()


def project_out(x: Tensor, directions: Tensor) -> None:
    """Remove the components of [N, D] points along orthonormal columns [D, r], in place and in blocks."""
    for block in torch.split(x, max(1, BLOCK // x.shape[1])):
        block.sub_(((block.float() @ directions) @ directions.T).to(block.dtype))


def fold(weight: Tensor, directions: Tensor) -> Tensor:
    """Classifiers [R, D] of projected points as classifiers of the points as they are: (P x) w = x (P w)."""
    return weight - (weight @ directions) @ directions.T


def _differences(means: Tensor, axes: str) -> Tensor:
    """Mean of each place minus that of its mirror place, for each axis: [places, D]."""
    return torch.cat([(means - means.flip(AXES[axis])).flatten(0, 1) for axis in axes])
