"""A training of several processes takes the steps of one: losses, R1, path lengths, augmentation, average."""

import pytest
import torch
from gsegkit_stylegan.config import StyleGAN2Config
from gsegkit_stylegan.networks.discriminator import minibatch_std
from gsegkit_stylegan.stylegan2 import StyleGAN2
from gsegkit_stylegan.training.shares import own_rows

from gsegkit.context import RunContext, read_metrics
from gsegkit.dataset import UnlabelledImages
from gsegkit.distributed.team import Team
from gsegkit.errors import ConfigError
from gsegkit.images import write_png
from gsegkit.testing import StopAfter
from gsegkit.testing.processes import outcomes, together

SMALL = {
    "resolution": 16, "channel_base": 128, "channel_max": 8, "z_dim": 10, "w_dim": 9, "mapping_layers": 2,
    "kimg": 0.072, "batch_size": 12, "r1_interval": 2, "path_weight": 1.0, "path_interval": 2, "ada_start": 0.3,
    "style_mixing": 0.5, "mirror": "xy", "snapshot_kimg": 0.072,
}  # fmt: skip
STEPS = 6


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr("gsegkit.context.LOG_EVERY", 1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder, noise = tmp_path_factory.mktemp("photographs"), torch.Generator().manual_seed(0)
    for i in range(11):
        write_png(folder / f"{i:02d}.png", (torch.rand(3, 20, 30, generator=noise) * 255).to(torch.uint8))
    return UnlabelledImages(tuple(sorted(folder.glob("*.png"))))


def trained(images, team, folder, *, ctx=None, **options):
    generator = StyleGAN2(StyleGAN2Config(**{**SMALL, **options}))
    generator.fit(images, RunContext(folder, seed=5, team=team, **(ctx or {})))
    return {name: value.numpy() for name, value in generator.state_dict().items()}, read_metrics(
        folder / "metrics.jsonl"
    )


@pytest.mark.parametrize("options", [{}, pytest.param({"grow_from": 8, "grow_kimg": 0.036}, marks=pytest.mark.slow)])
def test_several_processes_take_the_steps_of_one(images, tmp_path, options):
    alone, curve = trained(images, Team(), tmp_path / "1", **options)
    for size in (2, 3):
        found = together(size, lambda team, size=size: trained(images, team, tmp_path / str(size), **options))
        weights, rows = found[0]
        for others, _ in found[1:]:
            assert all((others[name] == weights[name]).all() for name in weights), "the same weights in all"
        assert len(rows) == len(curve) == STEPS
        for step, (row, beside) in enumerate(zip(rows, curve, strict=True)):
            assert row.keys() == beside.keys()
            for name in row.keys() - {"images_per_second"}:
                bar = 1e-4 if step < 2 else 0.02
                assert row[name] == pytest.approx(beside[name], rel=bar, abs=bar), (step, name)
        assert {"r1", "path_length", "ada_rt"} <= rows[0].keys()
        (mean,) = (name for name in weights if name.endswith("w_avg"))
        assert abs(weights[mean] - alone[mean]).max() < 1e-3


def test_a_stopped_training_goes_on_with_another_number_of_processes(images, tmp_path):
    def stopped(team):
        stop = StopAfter(3)
        trained(images, team, tmp_path / "parts", ctx={"progress": stop, "stop": stop.event})

    outcomes(3, stopped)
    assert (tmp_path / "parts/checkpoint.safetensors").exists()
    _, rows = trained(images, Team(), tmp_path / "parts")
    _, curve = trained(images, Team(), tmp_path / "whole")
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    assert rows[-1]["loss_D"] == pytest.approx(curve[-1]["loss_D"], abs=0.02)


class Of(Team):
    def __init__(self, rank, size):
        self.rank, self.size = rank, size


@pytest.mark.parametrize("size", [1, 2, 3])
def test_processes_have_whole_groups_of_the_discriminator(size):
    features = torch.randn(12, 3, 4, 4)
    whole, rows = minibatch_std(features), [own_rows(Of(rank, size), 12) for rank in range(size)]
    assert sorted(torch.cat(rows).tolist()) == list(range(12))
    for own in rows:
        torch.testing.assert_close(minibatch_std(features[own]), whole[own])


@pytest.mark.parametrize(("batch_size", "size", "groups"), [(8, 3, "2 groups"), (6, 2, "1 group "), (4, 2, "1 group ")])
def test_a_batch_that_cannot_be_divided_is_refused(images, tmp_path, batch_size, size, groups):
    with pytest.raises(ConfigError, match=f"a batch of {batch_size} has {groups}") as refused:
        trained(images, Of(0, size), tmp_path, batch_size=batch_size)
    assert f"set batch_size to {4 * size} or a larger multiple of 4" in refused.value.hint
