"""Photographs that are nearly the same: difference hashes, confirmed by tiny pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from gsegkit.looking.measure import Measured

MOST_BITS = 20  # of 256 that may differ; among 300 different blood cells the two most alike differ in 60
MOST_DIFFERENCE = (
    6.0  # grey levels, on average over 16 x 16 pixels: the same thing in another light is another photograph
)
ROWS = 1024  # compared with all others at once


def near_duplicates(photographs: Sequence[Measured]) -> list[list[int]]:
    """Groups of photographs that are nearly the same.

    Args:
        photographs: N of them.

    Returns:
        Indices of each group, at least two, in rising order; groups in the order of their first photograph.
    """
    if len(photographs) < 2:
        return []
    signs = torch.stack([one.hash for one in photographs]).float() * 2 - 1  # [N, 256]
    tiny = torch.stack([one.tiny for one in photographs]).flatten(1)  # [N, 768] uint8
    pairs = [_pairs(signs, tiny, start) for start in range(0, len(signs), ROWS)]
    rows, columns = torch.cat(pairs).T.numpy()
    graph = coo_matrix((np.ones(len(rows), dtype=np.int8), (rows, columns)), shape=(len(signs), len(signs)))
    _, labels = connected_components(graph, directed=False)
    groups: dict[int, list[int]] = {}
    for index, label in enumerate(labels.tolist()):
        groups.setdefault(label, []).append(index)
    return [group for group in groups.values() if len(group) > 1]


def _pairs(signs: torch.Tensor, tiny: torch.Tensor, start: int) -> torch.Tensor:
    """[M, 2] int64: pairs of rows `start` .. with later ones."""
    differ = (signs.shape[1] - signs[start : start + ROWS] @ signs[start:].T) / 2
    near = (differ <= MOST_BITS).nonzero() + start
    near = near[near[:, 0] < near[:, 1]]
    alike = [
        (tiny[part[:, 0]].float() - tiny[part[:, 1]].float()).abs().mean(dim=1) <= MOST_DIFFERENCE
        for part in torch.split(near, ROWS)
    ]
    return near[torch.cat(alike)] if alike else near
