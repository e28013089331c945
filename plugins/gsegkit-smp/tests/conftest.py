"""Shared by these tests: pictures of a bright disc and a dark square on a grey ground, with their masks."""

from pathlib import Path

import pytest
import torch

from gsegkit.context import RunContext
from gsegkit.dataset import MemoryDataset

CLASSES = ("ground", "disc", "square")


def make_shapes(count: int = 24, size: tuple[int, int] = (32, 32), seed: int = 0, **options) -> MemoryDataset:
    height, width = size
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    centre = torch.rand(count, 2, 2, 1, 1, generator=generator) * torch.tensor([height, width]).reshape(1, 1, 2, 1, 1)
    masks = torch.zeros(count, height, width, dtype=torch.uint8)
    square = ((y - centre[:, 0, 0]).abs() < 6) & ((x - centre[:, 0, 1]).abs() < 6)
    disc = (y - centre[:, 1, 0]) ** 2 + (x - centre[:, 1, 1]) ** 2 < 49
    masks[square], masks[disc] = 2, 1
    shades = torch.tensor([128, 230, 30], dtype=torch.uint8)
    pixels = shades[masks.long()].unsqueeze(1).repeat(1, 3, 1, 1)
    noise = torch.randint(0, 20, pixels.shape, generator=generator, dtype=torch.uint8)
    return MemoryDataset(pixels + noise, masks, CLASSES, **options)


def make_context(folder: Path, **options) -> RunContext:
    return RunContext(folder, **{"seed": 3, "checkpoint_seconds": 0.0, **options})


@pytest.fixture
def shapes():
    return make_shapes


@pytest.fixture
def context():
    return make_context
