"""The trainer learns, writes what the generator loads, and says what it cannot do."""

import pytest
import torch
from gsegkit_dcgan.config import DCGANConfig
from gsegkit_dcgan.dcgan import DCGAN

from gsegkit.context import RunContext, read_metrics
from gsegkit.dataset import UnlabelledImages
from gsegkit.errors import ConfigError, DataError
from gsegkit.images import to_pixels, write_png
from gsegkit.parts import save_part
from gsegkit.testing.processes import outcomes, together

SMALL = {"resolution": 16, "z_dim": 8, "channels": 8, "batch_size": 16}


@pytest.fixture
def photographs(tmp_path):
    """Bright discs on a dark ground, reddish: a distribution whose mean and spread are easy to check."""
    generator = torch.Generator().manual_seed(0)
    grid = torch.stack(torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij")).float()
    for i in range(48):
        centre = torch.rand(2, 1, 1, generator=generator) * 6 + 5
        disc = ((grid - centre).square().sum(0).sqrt() < 4).float() * 2 - 1
        write_png(tmp_path / f"{i:03d}.png", to_pixels(torch.stack([disc * 0.8, disc * 0.3 - 0.4, disc * 0.2 - 0.6])))
    return UnlabelledImages(tuple(sorted(tmp_path.glob("*.png"))))


@pytest.mark.parametrize("loss", ["nonsaturating", "hinge"])
def test_it_learns(photographs, tmp_path, loss):
    reals = photographs.fitted((16, 16)).batch(range(48)).float() / 127.5 - 1
    generator = DCGAN(DCGANConfig(**SMALL, steps=100, start_steps=20, ema_decay=0.95, lr=2e-3, loss=loss))
    seeds = torch.arange(64)

    def distance():
        fakes = generator.sample(seeds).images
        gap = (fakes.mean(0) - reals.mean(0)).abs().mean()
        return float(gap + (fakes.std(dim=0) - reals.std(dim=0)).abs().mean())

    before = distance()
    generator.fit(photographs, RunContext(tmp_path / "run"))
    after = distance()
    assert after < 0.4 * before, (before, after)
    assert generator.sample(seeds).images.std(dim=0).mean() > 0.1  # no collapse
    assert not generator.training
    assert not any(p.requires_grad for p in generator.parameters())


@pytest.mark.parametrize("loss", ["nonsaturating", "hinge"])
def test_several_processes_take_the_steps_of_one(photographs, tmp_path, loss, monkeypatch):
    monkeypatch.setattr("gsegkit.context.LOG_EVERY", 1)
    options = {**SMALL, "batch_size": 8, "steps": 6, "start_steps": 2, "ema_decay": 0.9, "lr": 2e-3, "loss": loss,
               "r1_interval": 2, "mirror": "xy"}  # fmt: skip

    def train(team, folder):
        generator = DCGAN(DCGANConfig(**options))
        generator.fit(photographs, RunContext(folder, seed=3, team=team))
        weights = {name: value.numpy().tobytes() for name, value in generator.state_dict().items()}
        return weights, read_metrics(folder / "metrics.jsonl")

    _, curve = together(1, lambda team: train(team, tmp_path / "1"))[0]
    for size in (2, 3):
        found = together(size, lambda team, size=size: train(team, tmp_path / str(size)))
        assert all(weights == found[0][0] for weights, _ in found), "the same weights in all"
        for step, (row, beside) in enumerate(zip(found[0][1], curve, strict=True)):
            bar = 1e-4 if step < 2 else 0.02
            assert row == pytest.approx(beside, rel=bar, abs=bar), step


def test_more_processes_than_rows_are_refused(photographs, tmp_path):
    def train(team):
        DCGAN(DCGANConfig(**{**SMALL, "batch_size": 2})).fit(photographs, RunContext(tmp_path / "run", team=team))

    for error in outcomes(3, train):
        assert isinstance(error, ConfigError)
        assert error.message == "a batch of 2 cannot be divided among 3 processes"


def test_trained_folder_loads(photographs, tmp_path):
    generator = DCGAN(DCGANConfig(**SMALL, steps=2))
    generator.fit(photographs, RunContext(tmp_path / "run"))
    save_part(generator, tmp_path / "stored", "generator", "dcgan")
    again = DCGAN(DCGANConfig(weights=str(tmp_path / "stored")))
    seeds = torch.arange(3)
    assert torch.equal(generator.sample(seeds).images, again.sample(seeds).images)


def test_bad_input_is_refused(photographs, tmp_path):
    with pytest.raises(DataError, match="1 photographs are too few"):
        one = UnlabelledImages(photographs.paths[:1])
        DCGAN(DCGANConfig(**SMALL, steps=1)).fit(one, RunContext(tmp_path / "run"))
    from gsegkit.config import build_config

    with pytest.raises(ConfigError, match="power of two"):
        build_config(DCGANConfig, {"resolution": 48}, "generator")


def test_new_networks_double_from_four_pixels():
    arch = DCGANConfig(resolution=64, channels=32, channel_max=128).new_arch()
    assert [(spec.inputs, spec.outputs) for spec in arch.layers] == [
        (100, 128),
        (128, 128),
        (128, 64),
        (64, 32),
        (32, 3),
    ]
    assert DCGAN(DCGANConfig(resolution=64, channels=2)).info.height == 64
