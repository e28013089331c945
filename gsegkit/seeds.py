"""Seeds: one run seed -> named child seeds -> one int64 identity per sample -> its random numbers.

Sample i is a function of seed i alone. Numbers are drawn per sample on the CPU, so latents do not depend on the
batch size, the order, the device, or where a run was resumed. NumPy's RandomState is used because its streams are
frozen by policy; neither torch nor NumPy's newer Generator promises that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

#: Purposes have disjoint seed ranges: their number is the seed's top byte. Append only: order is identity.
PURPOSES = ("fit", "dataset", "validation", "preview", "test", "annotate")


def child_seed(seed: int, *names: object) -> int:
    """Derive an independent 63-bit seed from a parent seed and a path of names."""
    digest = hashlib.sha256(repr((seed, *map(str, names))).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def sample_seeds(seed: int, purpose: str, start: int, count: int) -> Tensor:
    """Identities of samples `start` .. `start + count - 1` of one purpose.

    Returns:
        [count] int64; disjoint between purposes, and for one purpose consecutive in the sample's index.

    Example:
        >>> seeds = sample_seeds(0, "dataset", 0, 6)
        >>> torch.equal(normals(seeds, (8,))[4:], normals(sample_seeds(0, "dataset", 4, 2), (8,)))
        True
    """
    if purpose not in PURPOSES:
        raise ValueError(f"purpose {purpose!r} is not one of {PURPOSES}")
    if start < 0 or start + count > 2**32:
        raise ValueError(f"sample indices must lie in 0 .. 2**32, got {start} .. {start + count}")
    top = (PURPOSES.index(purpose) + 1) << 56
    base = top | (child_seed(seed, "samples", purpose) % 2**24) << 32
    return torch.arange(base + start, base + start + count, dtype=torch.int64)


def _stream(seed: int, name: str) -> np.random.RandomState:
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return np.random.RandomState(np.frombuffer(digest[:16], dtype="<u4").astype(np.uint32))


def normals(seeds: Tensor, shape: tuple[int, ...], name: str = "latent") -> Tensor:
    """Standard normals, row i a function of `seeds[i]` and the stream's name alone.

    Args:
        seeds: [N] int64.
        shape: shape of one row.
        name: stream; different names of one seed are independent.

    Returns:
        [N, *shape] float32 on the CPU.
    """
    rows = [_stream(int(seed), name).standard_normal(shape) for seed in seeds]
    stacked = np.stack(rows) if rows else np.zeros((0, *shape))
    return torch.from_numpy(stacked.astype(np.float32))


def uniforms(seeds: Tensor, shape: tuple[int, ...], name: str = "uniform") -> Tensor:
    """Uniform numbers in [0, 1), row i a function of `seeds[i]`; [N, *shape] float32 on the CPU."""
    rows = [_stream(int(seed), name).random_sample(shape) for seed in seeds]
    stacked = np.stack(rows) if rows else np.zeros((0, *shape))
    return torch.from_numpy(stacked.astype(np.float32))


def integers(seeds: Tensor, high: int, name: str = "label") -> Tensor:
    """Uniform integers in 0 .. high - 1, one per seed; [N] int64 on the CPU."""
    draws = [int(_stream(int(seed), name).randint(0, high)) for seed in seeds]
    return torch.tensor(draws, dtype=torch.int64)


@contextmanager
def isolated_rng(seed: int) -> Iterator[None]:
    """Seed torch's global generators inside the block and restore them after it."""
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
