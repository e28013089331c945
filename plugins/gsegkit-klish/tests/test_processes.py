"""The tree of several processes is that of one, bit for bit."""

import pytest
import torch
from gsegkit_klish.config import KlishConfig
from gsegkit_klish.klish import Klish

from gsegkit.builtin.config import ToyConfig
from gsegkit.builtin.toy import Toy
from gsegkit.clustering.points import Points
from gsegkit.context import RunContext
from gsegkit.testing.processes import outcomes, together


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def points():
    draw = torch.Generator().manual_seed(0)
    centres = torch.randn(9, 12, generator=draw)
    x = centres[torch.randint(9, (2400,), generator=draw)] + 0.8 * torch.randn(2400, 12, generator=draw)
    return Points(x, torch.arange(2400) // 300, torch.arange(2400) % 300, (15, 20), ("a",))


def tree(points, folder, team, **more):
    found = Klish(KlishConfig(k0=24, kmeans="torch")).cluster(points, RunContext(folder, team=team, **more))
    merges = [(k, level.leaves, dict(level.facts)) for k, level in found.levels.items()]
    return merges, found.leaf.numpy().tobytes(), found.weight.numpy().tobytes(), found.bias.numpy().tobytes()


def test_the_tree_is_the_same_bits_whatever_the_number_of_processes(points, tmp_path):
    alone = tree(points, tmp_path, RunContext(tmp_path).team)
    assert len(alone[0]) > 10
    for size in (2, 3):
        for found in together(size, lambda team: tree(points, tmp_path, team)):
            assert found == alone


def test_merges_are_solved_ahead_and_used(points, tmp_path, monkeypatch):
    import gsegkit_klish.klish as module

    def work(team):
        solved = []
        plain = module._solve_pair
        monkeypatch.setattr(module, "_solve_pair", lambda tree, *rest: solved.append(1) or plain(tree, *rest))
        merges = len(tree(points, tmp_path, team)[0])
        return merges - 1, len(solved)

    (merges, first), (_, second) = together(2, work)
    assert first < merges, "the other process has solved some of them"
    assert first + second <= 1.5 * merges


def test_a_stopped_fit_goes_on_with_another_number_of_processes(points, tmp_path):
    from gsegkit.testing import StopAfter

    alone = tree(points, tmp_path / "one", RunContext(tmp_path).team)

    def stopped(team):
        stop = StopAfter(5)
        tree(points, tmp_path / "two", team, progress=stop, stop=stop.event, checkpoint_seconds=0)

    outcomes(2, stopped)
    assert (tmp_path / "two/checkpoint.safetensors").exists()
    assert all(found == alone for found in together(3, lambda team: tree(points, tmp_path / "two", team)))


@pytest.mark.parametrize("storage", ["memory", "disk"])
def test_features_are_read_in_shares_and_the_whole_fit_is_the_same(tmp_path, storage):
    config = KlishConfig(k0=10, kmeans="torch", num_images=20, pixels_per_image=40, storage=storage, mirrored="x")

    def fit(team):
        extractor = Klish(config)
        extractor.fit(Toy(ToyConfig(size=16)), RunContext(tmp_path, batch_size=4, team=team))
        return extractor.facts(), extractor.weight.numpy().tobytes()

    assert together(3, fit)[0] == together(1, fit)[0]
    assert not list(tmp_path.glob("*points.bin"))
