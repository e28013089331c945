"""`sngan` trained on photographs: it learns, its result has no classes, loads, and is what its statistics say."""

import pytest
import torch
from gsegkit_studiogan.config import SNGANConfig
from gsegkit_studiogan.generators import SNGAN
from gsegkit_studiogan.training import Discriminator

from gsegkit.context import RunContext, read_metrics
from gsegkit.dataset import UnlabelledImages
from gsegkit.images import to_pixels, write_png
from gsegkit.parts import save_part
from gsegkit.testing.processes import together

SMALL = {"resolution": 32, "channels": 2, "z_dim": 8, "batch_size": 8, "d_channels": 6}


@pytest.fixture
def photographs(tmp_path):
    """Bright discs on a dark ground, reddish: a distribution whose mean and spread are easy to check."""
    generator = torch.Generator().manual_seed(0)
    grid = torch.stack(torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")).float()
    for i in range(48):
        centre = torch.rand(2, 1, 1, generator=generator) * 12 + 10
        disc = ((grid - centre).square().sum(0).sqrt() < 8).float() * 2 - 1
        write_png(tmp_path / f"{i:03d}.png", to_pixels(torch.stack([disc * 0.8, disc * 0.3 - 0.4, disc * 0.2 - 0.6])))
    return UnlabelledImages(tuple(sorted(tmp_path.glob("*.png"))))


@pytest.mark.slow
def test_it_learns_and_its_folder_loads(photographs, tmp_path):
    reals = photographs.fitted((32, 32)).batch(range(48)).float() / 127.5 - 1
    generator = SNGAN(SNGANConfig(**SMALL, steps=60, start_steps=10, ema_decay=0.9, lr=2e-3))
    seeds = torch.arange(64)

    def distance():
        fakes = generator.sample(seeds).images
        gap = (fakes.mean(0) - reals.mean(0)).abs().mean()
        return float(gap + (fakes.std(dim=0) - reals.std(dim=0)).abs().mean())

    assert generator.info.num_classes == 10
    before = distance()
    generator.fit(photographs, RunContext(tmp_path / "run"))
    assert distance() < 0.5 * before, (before, distance())
    assert generator.info.num_classes == 0
    assert (generator.info.fit_rule, generator.info.mirrored) == ("squash", "x")
    assert not any(module.training for module in generator.modules())
    save_part(generator, tmp_path / "stored", "generator", "sngan")
    again = SNGAN(SNGANConfig(weights=str(tmp_path / "stored")))
    assert torch.equal(generator.sample(seeds[:3]).images, again.sample(seeds[:3]).images)
    assert again.info == generator.info


def test_two_processes_take_the_steps_of_one(photographs, tmp_path, monkeypatch):
    monkeypatch.setattr("gsegkit.context.LOG_EVERY", 1)

    def train(team, folder):
        options = {**SMALL, "batch_size": 5, "steps": 3, "start_steps": 1, "ema_decay": 0.9, "d_steps": 2}
        generator = SNGAN(SNGANConfig(**options))
        generator.fit(photographs, RunContext(folder, seed=3, team=team))
        weights = {name: value.numpy().tobytes() for name, value in generator.state_dict().items()}
        return weights, read_metrics(folder / "metrics.jsonl")

    _, curve = together(1, lambda team: train(team, tmp_path / "1"))[0]
    (weights, beside), (others, _) = together(2, lambda team: train(team, tmp_path / "2"))
    assert weights == others, "the same weights in all"
    for row, other in zip(curve, beside, strict=True):
        assert row == pytest.approx(other, rel=2e-3, abs=2e-3)


@pytest.mark.parametrize("resolution", [32, 64])
def test_no_layer_of_the_discriminator_stretches(resolution):
    """After some power iterations the largest singular value of each weight is 1."""
    torch.manual_seed(0)
    network = Discriminator(resolution, 6).train()
    for _ in range(60):
        network(torch.randn(2, 3, resolution, resolution))
    layers = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
    assert len(layers) == 2 * len(network.blocks) + sum(b.shortcut is not None for b in network.blocks) + 1
    for layer in layers:
        norm = torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2)
        assert 0.95 < float(norm) < 1.05
