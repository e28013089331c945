"""Golden cases: networks filled from a counter, so that their output can be compared without anybody's weights."""

import hashlib
import json
import math
from pathlib import Path

import numpy as np
import torch

FOLDER = Path(__file__).parent / "golden"
LATENTS = 1_000_000  # number of the tensor that latents are drawn as


def read(name):
    return json.loads((FOLDER / name).read_text())


def numbers(t, count):
    """u of tensor number t: [count] float64 in [0, 1), by 64-bit arithmetic that wraps."""
    with np.errstate(over="ignore"):
        x = np.arange(1, count + 1, dtype=np.uint64) + np.uint64(t) * np.uint64(2**32)
        for factor in (0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93):
            x = x * np.uint64(factor)
            x = x ^ (x >> np.uint64(32))
    return (x >> np.uint64(11)).astype(np.float64) / 2**53


def filled(t, shape, rule):
    """The values of one tensor."""
    count = math.prod(shape)
    u = numbers(t, count)
    v = 2 * u - 1
    values = {
        "b": 0.1 * v, "b10": 10 * v, "g": 1 + 0.25 * v, "s": 0.5 + u, "n": v * math.sqrt(3), "n100": 100 * v * math.sqrt(3),
        "f": 1.5 * v, "p": 0.5 * v, "k": ((0.5 + u) / count).astype(np.float32).astype(np.float64),
    }  # fmt: skip
    if rule == "I":
        return torch.eye(3, dtype=torch.float64)
    if rule == "t4":
        return torch.from_numpy(np.array([1.0, 0, 0, 0]) + 0.1 * v)
    return torch.from_numpy(values[rule]).reshape(shape)


def state(case):
    """Name -> float64 tensor, in the order of the reference."""
    made = {}
    for t, line in enumerate(case["tensors"]):
        name, sizes, rule = line.split()
        shape = [] if sizes == "-" else [int(size) for size in sizes.split(",")]
        made[name] = filled(t, shape, rule)
    return made


def latents(count, size):
    v = 2 * numbers(LATENTS, count * size) - 1
    return torch.from_numpy(v * math.sqrt(3)).reshape(count, size)


def digest(tensors):
    lines = [f"{name} {','.join(str(size) for size in shape)}\n" for name, shape in tensors]
    return hashlib.sha256("".join(lines).encode()).hexdigest()
