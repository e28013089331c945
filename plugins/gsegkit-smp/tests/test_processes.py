"""A training of several processes is that of one: the same batches, the same statistics, the same scores."""

import pytest
import torch
from gsegkit_smp import segmenter as _imported_before_the_forks  # noqa: F401
from gsegkit_smp.loader import Loader

from gsegkit.context import read_metrics
from gsegkit.distributed.team import Team
from gsegkit.plugins import installed
from gsegkit.testing import Listener, StopAfter
from gsegkit.testing.processes import outcomes, together

SMALL = {"encoder": "tu-test_resnet", "steps": 24, "batch_size": 6, "val_every": 8, "lr": 5e-3}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def trained(shapes, context):
    """What a training leaves in a process: its weights, and its curve."""

    def train(team, folder, name="unet", count=40, **options):
        more = {key: options.pop(key) for key in ("progress", "stop", "checkpoint_seconds") if key in options}
        segmenter = installed().build("segmenter", name, {**SMALL, **options})
        segmenter.fit(shapes(count), context(folder, team=team, **{"checkpoint_seconds": 60, **more}))
        if segmenter.network is None:
            return None
        test = shapes(20, seed=7)
        share = float((segmenter.predict(test.pixels) == test.masks).float().mean())
        weights = {name: value.numpy().tobytes() for name, value in segmenter.state_dict().items()}
        return weights, read_metrics(folder / "metrics.jsonl"), share

    return train


def same(found):
    assert all(weights == found[0][0] for weights, _, _ in found), "all processes end with the same weights"
    return found[0]


def test_two_processes_take_the_steps_of_one(trained, tmp_path, monkeypatch):
    """The first losses are equal; later ones are close, since training amplifies rounding."""
    monkeypatch.setattr("gsegkit.context.LOG_EVERY", 1)
    options = {"dice_weight": 0.5, "class_weights": "inverse-sqrt-frequency", "noise": 0.1, "blur": 1.0,
               "grad_clip": 1.0, "steps": 12, "val_every": 6}  # fmt: skip
    (_, curve, share), (_, other, beside) = (
        same(together(size, lambda team, size=size: trained(team, tmp_path / str(size), **options))) for size in (1, 2)
    )
    assert [row["loss"] for row in curve[:2]] == pytest.approx([row["loss"] for row in other[:2]], abs=1e-3)
    assert [row["loss"] for row in curve] == pytest.approx([row["loss"] for row in other], abs=0.05)
    assert curve[5]["val_miou"] == pytest.approx(other[5]["val_miou"], abs=0.05)
    assert share == pytest.approx(beside, abs=0.03)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("size", [2, 4])
def test_what_is_learned_does_not_depend_on_the_number_of_processes(trained, tmp_path, size):
    options = {"steps": 400, "batch_size": 8, "val_every": 100, "count": 120, "lr": 3e-3, "checkpoint_seconds": 900}
    alone = trained(Team(), tmp_path / "1", **options)
    found = same(together(size, lambda team: trained(team, tmp_path / "several", **options), seconds=900))
    assert alone[2] > 0.98
    assert found[2] == pytest.approx(alone[2], abs=1e-3)


@pytest.mark.slow
def test_maps_of_one_pixel_and_dropout_are_trained_by_several_processes(trained, tmp_path):
    options = {"name": "deeplabv3plus", "steps": 4, "batch_size": 3, "val_every": 2}
    same(together(3, lambda team: trained(team, tmp_path, **options)))  # one row a process


def test_rows_of_a_batch_are_divided_and_their_order_does_not_change(shapes):
    def rows(team):
        with Loader(shapes(9), 5, 3, team) as loader:
            return [loader.batch(step).pixels.numpy().tobytes() for step in range(4)], [
                loader.indices(step) for step in range(4)
            ]

    ((whole, order),) = together(1, rows)
    found = together(3, rows)
    assert [b"".join(parts) for parts in zip(*(mine for mine, _ in found), strict=True)] == whole
    assert all(indices == order for _, indices in found)


def test_a_stopped_training_goes_on_with_another_number_of_processes(trained, tmp_path):
    whole = same(together(2, lambda team: trained(team, tmp_path / "whole", steps=12)))

    def stopped(team):
        stop = StopAfter(5)
        trained(team, tmp_path / "parts", steps=12, progress=stop, stop=stop.event, checkpoint_seconds=0)

    outcomes(2, stopped)
    assert (tmp_path / "parts/checkpoint.safetensors").exists()
    _, curve, share = trained(Team(), tmp_path / "parts", steps=12)
    assert [row["step"] for row in curve] == [row["step"] for row in whole[1]] == [10, 12]
    assert curve[-1]["loss"] == pytest.approx(whole[1][-1]["loss"], abs=0.05)
    assert share == pytest.approx(whole[2], abs=0.03)


def test_a_batch_of_fewer_rows_than_processes_is_trained_on_by_the_first_alone(trained, tmp_path):
    said = Listener()

    def train(team):
        mine = trained(team, tmp_path / "3", steps=3, batch_size=2, progress=said if team.first else Listener())
        return mine, said.warnings

    (first, warnings), *others = together(3, train)
    assert [mine for mine, _ in others] == [None, None]
    assert first[0] == trained(Team(), tmp_path / "1", steps=3, batch_size=2)[0]
    assert any("a batch of 2 cannot be divided among 3 processes" in line for line in warnings)
