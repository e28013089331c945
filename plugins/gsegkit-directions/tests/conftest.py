"""Shared by these tests: contexts, and small generators that break in one way each."""

import pytest
import torch

from gsegkit.builtin.config import ToyConfig
from gsegkit.builtin.toy import Toy
from gsegkit.context import RunContext
from gsegkit.interfaces import Generator
from gsegkit.seeds import normals
from gsegkit.testing import Listener
from gsegkit.types import GeneratedBatch, GeneratorInfo


class Disc(Generator):
    """A textured disc on a ground: latent 0 lightens the disc, 1 the ground, 2 everything, 3 moves the disc.

    `shape` (L, 4) makes it a generator with one row a layer, whose mean counts.
    """

    def __init__(self, size=16, shape=(4,), gain=0.2, num_classes=0):
        super().__init__(ToyConfig())
        self.info = GeneratorInfo(size, size, shape, num_classes=num_classes)
        self.gain = gain
        axis = torch.linspace(-1, 1, size)
        self.register_buffer("x", axis.expand(size, size).contiguous())
        self.register_buffer("y", axis.view(-1, 1).expand(size, size).contiguous())
        self.calls = []

    def latents(self, seeds):
        return normals(seeds, self.info.latent_shape)

    def synthesize(self, latents, labels=None, *, features=(), edits=None):
        self.calls.append(labels)
        numbers = latents if latents.ndim == 2 else latents.mean(1)
        disc, ground, both, move = (numbers[:, i].view(-1, 1, 1) for i in range(4))
        inside = torch.sigmoid(20 * (0.5 - torch.hypot(self.x - 0.2 * torch.tanh(move), self.y + 1e-6)))
        grain = 0.1 * torch.sin(9 * self.x + 4 * self.y)
        plane = grain + self.gain * (both + disc * inside + ground * (1 - inside))
        return GeneratedBatch(plane.unsqueeze(1).repeat(1, 3, 1, 1), latents, labels)


@pytest.fixture
def disc():
    return Disc


@pytest.fixture
def toy():
    return Toy(ToyConfig())


@pytest.fixture
def context(tmp_path):
    def make(folder="run", **options):
        return RunContext(tmp_path / folder, **{"seed": 3, "progress": Listener(), **options})

    return make
