"""Algorithm 1 through the pipeline: rounds, reuse, and an interruption in the second round."""

import pytest
import torch

from gsegkit.builtin.config import ToyConfig
from gsegkit.builtin.toy import Toy
from gsegkit.engine.pipeline import run
from gsegkit.engine.plan import Plan
from gsegkit.errors import InterruptedRunError
from gsegkit.images import to_pixels, write_png
from gsegkit.tensors import read_safetensors
from gsegkit.testing import StopAfter

pytest.importorskip("gsegkit_smp")

OPTIONS = {"z_dim": 4, "num_codes": 4, "group_size": 2, "batch_size": 4, "num_images": 12, "round_images": 12,
           "min_images": 2, "settle_batches": 2, "dtype": "float32"}  # fmt: skip


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    for i, row in enumerate(to_pixels(Toy(ToyConfig(size=40)).sample(torch.arange(8)).images)):
        write_png(folder / f"{i}.png", row)
    return Plan(
        gen={"name": "layered", "options": OPTIONS},
        extractor="native",
        seg={"name": "unet", "options": {"steps": 2, "batch_size": 4}},
        num_samples=16,
        rounds=2,
        train_generator=True,
        images=folder,
        smoke=True,
        device="cpu",
    )


def weights(folder):
    return read_safetensors(folder / "state.safetensors")[0]


@pytest.mark.slow
def test_two_rounds_resume_in_the_second_one(plan, tmp_path):
    whole = run(plan, tmp_path / "whole").folder
    stop = StopAfter(1, "generator-1: training")
    with pytest.raises(InterruptedRunError):
        run(plan, tmp_path / "stopped", stop=stop.event, progress=stop)
    assert (tmp_path / "stopped" / "generator-1" / "checkpoint.safetensors").exists()
    assert not (tmp_path / "stopped" / "generator-1" / "state.safetensors").exists()
    again = run(plan, tmp_path / "stopped").folder
    for stage in ("generator", "segmenter", "generator-1", "segmenter-1"):
        one, two = weights(whole / stage), weights(again / stage)
        assert all(torch.equal(one[name], two[name]) for name in one), stage
    first, second = weights(whole / "generator"), weights(whole / "generator-1")
    assert int(first["seen"]) == 12
    assert int(second["seen"]) == 24
    name = "average.background.image.weight"
    assert not torch.equal(first[name], second[name])
