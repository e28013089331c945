"""COCO's run-length encoding of binary masks, without a compiled dependency."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from gsegkit.errors import DataError

MAX_SHIFT = 60  # bits of a run: longer ones are no image's


def encode_rle(mask: Tensor) -> dict[str, Any]:
    """Encode a binary mask, [H, W] bool or uint8, as `{"size": [H, W], "counts": "..."}`.

    `counts` is the compressed form that pycocotools writes: run lengths down the columns, zeros first.
    """
    flat = (mask != 0).cpu().numpy().ravel(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    edges = np.concatenate(([0], changes, [flat.size]))
    runs = np.diff(edges).tolist()
    if flat.size and flat[0]:
        runs.insert(0, 0)  # the first run counts zeros, even when there are none
    return {"size": list(mask.shape), "counts": compress_runs(runs)}


def decode_rle(rle: dict[str, Any]) -> Tensor:
    """Decode what `encode_rle` (or pycocotools) wrote, or runs that are written as a list; [H, W] bool.

    Raises:
        DataError: the runs do not add up to H * W.
    """
    import torch

    height, width = rle["size"]
    counts = rle["counts"]
    runs = expand_runs(counts) if isinstance(counts, str) else [int(run) for run in counts]
    if sum(runs) != height * width or min(runs, default=0) < 0:
        raise DataError(f"run lengths add up to {sum(runs)}, expected {height} x {width}", "the RLE is damaged")
    values = np.arange(len(runs)) % 2 == 1
    flat = np.repeat(values, runs)
    return torch.from_numpy(flat.reshape(height, width, order="F").copy())


def compress_runs(runs: list[int]) -> str:
    """Write run lengths as COCO's text: 5 bits a character, from the fourth run on as a difference to two before."""
    text = []
    for i, run in enumerate(runs):
        value = run - runs[i - 2] if i > 2 else run
        while True:
            bits = value & 0x1F
            value >>= 5  # keeps the sign
            if value == (-1 if bits & 0x10 else 0):  # the rest is the sign of these bits: nothing more to say
                text.append(chr(bits + 48))
                break
            text.append(chr((bits | 0x20) + 48))
    return "".join(text)


def expand_runs(text: str) -> list[int]:
    """Read the text of `compress_runs`."""
    runs: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > MAX_SHIFT:
            raise DataError(f"run lengths hold the character {character!r}", "the RLE is damaged")
        value |= (bits & 0x1F) << shift
        shift += 5
        if bits & 0x20:
            continue
        if bits & 0x10:
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value = shift = 0
    return runs
