"""How a pass over points is cut into blocks: the same blocks for any number of processes."""

from __future__ import annotations

LEAST = 2048  # points in a block; smaller ones would only cost calls
MANY = 64  # blocks that many processes can share evenly
AT_ONCE = 16  # blocks that a process passes before it tells the others what it found, see `Team.map`


def blocks(count: int, most: int) -> list[slice]:
    """Blocks of a pass over `count` points, of at most `most` points each.

    Sums over them do not depend on who computes which, and what a block needs fits into a CPU's cache where it can.

    Example:
        >>> blocks(5000, 1 << 20)
        [slice(0, 2048, None), slice(2048, 4096, None), slice(4096, 5000, None)]
    """
    size = max(1, min(most, max(LEAST, -(-count // MANY))))
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]
