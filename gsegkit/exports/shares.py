"""How several processes divide photographs to predict, and what they tell each other of them."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gsegkit.exports.inputs import Item

SIZE = 8  # bytes that say how large a mask is
QUICK = 1  # level of compression


def shares(items: Sequence[Item], least: int) -> list[list[Item]]:
    """Neighbours that one process predicts: at least so many, but no file is divided. No batch reaches beyond them."""
    found: list[list[Item]] = []
    for item in items:
        if not found or (len(found[-1]) >= least and item.path != found[-1][-1].path):
            found.append([])
        found[-1].append(item)
    return found


def packed_mask(mask: Tensor) -> Tensor:
    """[H, W] uint8 as compressed bytes, [M] uint8: a long video's masks wait in memory until their turn comes."""
    height, width = mask.shape
    size = height.to_bytes(SIZE // 2, "little") + width.to_bytes(SIZE // 2, "little")
    return _tensor(size + zlib.compress(mask.contiguous().numpy().tobytes(), QUICK))


def unpacked_mask(packed: Tensor) -> Tensor:
    """The mask that `packed_mask` was given."""
    data = packed.numpy().tobytes()
    height, width = (int.from_bytes(data[at : at + SIZE // 2], "little") for at in (0, SIZE // 2))
    return _tensor(zlib.decompress(data[SIZE:])).reshape(height, width)


def packed_json(value: Any) -> Tensor:
    """A JSON-ready value as bytes, [M] uint8."""
    return _tensor(json.dumps(value).encode())


def unpacked_json(packed: Tensor) -> Any:
    """The value that `packed_json` was given."""
    return json.loads(packed.numpy().tobytes())


def _tensor(data: bytes) -> Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)
