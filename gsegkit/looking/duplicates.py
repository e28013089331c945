"""Photographs that are nearly the same: difference hashes, confirmed by tiny pictures."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from gsegkit.looking.measure import Measured

MOST_BITS = 20  # of 256 that may differ; any two of 300 cells, leaves, portraits or figures differ in more
MOST_DIFFERENCE = 6.0  # grey levels, on average over 16 x 16 pixels: in another light it is another photograph
ROWS = 1024  # compared with all others at once


def near_duplicates(photographs: Sequence[Measured]) -> list[list[int]]:
    """Groups of photographs that are nearly the same as the first of their group.

    Not all that are linked by a chain: of a slow film one frame would be left.

    Args:
        photographs: N of them.

    Returns:
        Indices of each group, at least two, in rising order; groups in the order of their first photograph.
    """
    if not photographs:
        return []
    signs = torch.stack([one.hash for one in photographs]).float() * 2 - 1  # [N, 256]
    tiny = torch.stack([one.tiny for one in photographs]).flatten(1)  # [N, 768] uint8
    taken = torch.zeros(len(signs), dtype=torch.bool)
    groups = []
    for start in range(0, len(signs), ROWS):
        near = (signs.shape[1] - signs[start : start + ROWS] @ signs.T) / 2 <= MOST_BITS  # [rows, N]
        for row in (near.sum(dim=1) > 1).nonzero().flatten().tolist():
            first = start + row
            if taken[first]:
                continue
            near[row, : first + 1] = False
            found = (near[row] & ~taken).nonzero().flatten()
            alike = (tiny[found].float() - tiny[first].float()).abs().mean(dim=1) <= MOST_DIFFERENCE
            if bool(alike.any()):
                taken[found[alike]] = True
                groups.append([first, *found[alike].tolist()])
    return groups
