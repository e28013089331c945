"""What every training shares: averages, order, photographs, R1."""

import pytest
import torch
from torch import nn

from gsegkit.context import RunContext
from gsegkit.dataset import UnlabelledImages
from gsegkit.errors import DataError
from gsegkit.images import write_png
from gsegkit.training import EpochOrder, GanWatch, ImageBank, WeightAverage, flip_where, r1_penalty, rising_decay


@pytest.fixture
def images(tmp_path):
    for i in range(10):
        write_png(tmp_path / "ab"[i % 2] / f"{i}.png", torch.full((3, 20, 24), 20 * i, dtype=torch.uint8))
    return UnlabelledImages(tuple(sorted(tmp_path.rglob("*.png"))))


def test_an_epoch_shows_every_row_once_in_an_order_of_its_own():
    order = EpochOrder(10, 4, seed=1)
    seen = [row for step in range(5) for row in order.rows(step)]
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))
    assert seen[:10] != seen[10:]
    assert EpochOrder(10, 4, seed=1).rows(2) == order.rows(2) != EpochOrder(10, 4, seed=2).rows(2)


def test_a_batch_may_be_larger_than_the_data():
    rows = EpochOrder(3, 8, seed=0).rows(0)
    assert [rows.count(row) >= 2 for row in range(3)] == [True] * 3
    assert len(rows) == 8


@pytest.mark.parametrize("copied", [False, True])
def test_the_average_moves_towards_the_weights(copied):
    net = nn.BatchNorm1d(2)
    average = WeightAverage(net, copy_buffers=copied)
    with torch.no_grad():
        net.weight.fill_(3.0)
        net.running_mean.fill_(1.0)
        net.num_batches_tracked.fill_(7)
    average.update(0.75)
    assert average.module.weight.tolist() == [1.5, 1.5]
    assert average.module.running_mean.tolist() == ([1.0, 1.0] if copied else [0.25, 0.25])
    assert int(average.module.num_batches_tracked) == 7
    again = WeightAverage(nn.BatchNorm1d(2))
    again.load_state_dict(average.state_dict())
    assert again.updates == 1
    assert torch.equal(again.module.weight, average.module.weight)


def test_the_decay_rises():
    assert [rising_decay(0.9, n) for n in (0, 8, 1000)] == [0.1, 0.5, 0.9]


def test_a_bank_in_memory_and_one_on_disk_give_the_same(images, tmp_path):
    ctx = RunContext(tmp_path / "run")
    inside = ImageBank(images, (16, 16), "squash", ctx, num_classes=2)
    beyond = ImageBank(images, (16, 16), "squash", ctx, num_classes=2, limit=100)
    assert (inside.in_memory, beyond.in_memory) == (True, False)
    assert inside.labels.tolist() == beyond.labels.tolist() == [0] * 5 + [1] * 5
    for a, b in ((inside, beyond), (inside.resized((8, 8)), beyond.resized((8, 8)))):
        assert torch.equal(a.batch([3, 3, 9]), b.batch(torch.tensor([3, 3, 9])))


def test_unreadable_photographs_are_skipped_up_to_a_share(images, tmp_path):
    images.paths[4].write_bytes(b"no image")
    ctx = RunContext(tmp_path / "run")
    bank = ImageBank(images, (16, 16), "squash", ctx, max_broken=0.1, num_classes=2)
    assert len(bank) == len(bank.labels) == 9
    with pytest.raises(DataError, match=f"1 of 10 photographs cannot be read.*{images.paths[4].name}"):
        ImageBank(images, (16, 16), "squash", ctx)
    with pytest.raises(DataError, match="10 photographs are too few"):
        ImageBank(images, (16, 16), "squash", ctx, least=11)


def test_coins_flip():
    pixels = torch.arange(8).view(2, 1, 2, 2)
    flipped = flip_where(pixels, torch.tensor([True, False]), torch.tensor([False, True]))
    assert flipped.flatten().tolist() == [1, 0, 3, 2, 6, 7, 4, 5]


def test_r1_is_the_squared_gradient():
    assert float(r1_penalty(lambda x: 3 * x.sum(dim=(1, 2, 3)), torch.zeros(2, 3, 2, 2))) == 9 * 12


def test_the_watch_keeps_running_means_of_every_twentieth_step():
    watch, reals = GanWatch(), torch.randn(64, 3, 4, 4)
    for step in range(60):
        watch.see(step, reals, 0.5 * reals, {"real_logit": 2.0})
    assert watch.variety == pytest.approx(0.9**3 + 0.5 * (1 - 0.9**3))
    assert watch.certainty == pytest.approx(2.0 * (1 - 0.9**3))
