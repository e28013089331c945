"""What several processes are predicted to take: bytes against real processes, times against arithmetic."""

import json

import pytest
import torch

from gsegkit.builtin.config import ToyConfig
from gsegkit.builtin.toy import Toy
from gsegkit.clustering.config import FeatureConfig, KMeansConfig
from gsegkit.clustering.extractor import fit_kmeans
from gsegkit.clustering.kmeans import TorchKMeans
from gsegkit.clustering.points import collect_points
from gsegkit.context import RunContext
from gsegkit.distributed.tally import Exchange, Tally, Traffic, traffic
from gsegkit.engine.estimate import estimate
from gsegkit.engine.plan import Plan
from gsegkit.engine.rehearsal import Rehearsal
from gsegkit.engine.scaling import (
    COMPUTE,
    MESSAGES,
    ONE_PROCESS,
    TOO_FEW,
    Link,
    Load,
    Piece,
    Workers,
    bottleneck,
    merges_a_round,
    predict,
    stage_time,
)
from gsegkit.engine.workers import predicted, started
from gsegkit.errors import ConfigError
from gsegkit.testing.processes import overheard, together


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def read_and_cluster(team, folder):
    """Features by batches, k-means by blocks, some words: every kind of exchange."""
    points = collect_points(
        Toy(ToyConfig(size=16)),
        FeatureConfig(num_images=20, pixels_per_image=40, mirrored="x"),
        RunContext(folder, batch_size=4, team=team),
    )
    kmeans = TorchKMeans(KMeansConfig(chunk_mib=1, iterations=4))
    kmeans.team = team
    kmeans.fit(points.x.repeat(30, 1), 5, 0)
    fit_kmeans("torch", points.x, 7, 1, team)
    team.told({"text": "é" * 40})
    team.gather(team.size * 0)
    team.sum(torch.zeros(30))
    team.wait()


@pytest.mark.parametrize("size", [2, 3])
def test_the_bytes_of_a_rehearsal_are_those_that_real_processes_send(size, tmp_path):
    rehearsed = Tally()
    read_and_cluster(rehearsed, tmp_path)

    def work(team):
        with overheard() as heard:
            read_and_cluster(team, tmp_path)
        return heard

    said = traffic(rehearsed.exchanges, size)
    for heard in together(size, work):
        assert sum(heard, Traffic()) == said
    assert min(vars(said).values()) > 0, "every kind of operation took part"


def test_the_tree_of_a_rehearsal_sends_the_bytes_of_two_processes(tmp_path):
    """KLiSH: the first SVMs; its merges depend on the number of processes, and are counted by the benchmark."""
    klish = pytest.importorskip("gsegkit_klish.svm")
    draw = torch.Generator().manual_seed(0)
    x, labels = torch.randn(900, 6, generator=draw), torch.randint(5, (900,), generator=draw)

    def work(team):
        with overheard() as heard:
            klish.SVMSolver(x, 50.0, 1e-6, team=team).solve_all(labels, 5)
        return heard

    rehearsed = Tally()
    klish.SVMSolver(x, 50.0, 1e-6, team=rehearsed).solve_all(labels, 5)
    for heard in together(2, work):
        assert sum(heard, Traffic()) == traffic(rehearsed.exchanges, 2)


# ---- arithmetic ------------------------------------------------------------------------------------------------------


def test_operations_take_what_rings_and_trees_take():
    ring, pipelined = Link(1.0, 100.0), Link(1.0, 100.0, pipelined=True)
    assert ring.broadcast(200, 8) == 3 * (1 + 2)
    assert pipelined.broadcast(200, 8) == 3 + 2
    assert ring.all_gather(200, 8) == 7 * (1 + 2)
    assert ring.all_reduce(800, 8) == 14 + 2 * 7 / 8 * 8
    assert pipelined.all_reduce(800, 8) == 6 + 2 * 7 / 8 * 8
    assert ring.all_reduce(800, 1) == 0


def test_items_are_whole_and_the_slowest_process_counts():
    piece = Piece(seconds=80.0, items=8)
    assert [piece.compute(size) for size in (1, 2, 3, 8, 64)] == [80, 40, 30, 10, 10]
    assert piece.messages(8, Link(1.0, 1.0)) == 0, "shards are written, not sent"
    assert Piece(60.0, rounds=60, ahead=True).compute(4) == 60 / merges_a_round(4)
    rounds = [merges_a_round(size) for size in range(1, 600)]
    assert rounds == sorted(rounds)
    assert rounds[0] == 1


def test_a_result_goes_to_all_once_and_heads_in_every_turn():
    piece = Piece(seconds=0.0, items=4, rounds=10, item_bytes=100, gathered_bytes=20)
    link = Link(0.0, 1.0)
    assert piece.messages(2, link) == 10 * (4 * 100 + 2 * (8 + 20))
    assert piece.sent(2) == 4000
    assert piece.messages(1, link) == piece.sent(1) == 0


@pytest.mark.parametrize(
    ("load", "size", "limit"),
    [
        (Load(10.0, [Piece(8.0, items=8)]), 4, ONE_PROCESS),
        (Load(0.1, [Piece(8.0, items=8)]), 4, COMPUTE),
        (Load(0.1, [Piece(8.0, items=2)]), 64, TOO_FEW),
        (Load(0.1, [Piece(8.0, items=800, rounds=10, reduced_bytes=100)]), 8, MESSAGES),
    ],
)
def test_the_limit_of_a_stage_is_named(load, size, limit):
    found = stage_time(load, Workers(size, Link(0.0, 10.0)))
    assert found.limit == limit
    assert found.seconds == pytest.approx(found.alone + found.compute + found.messages)
    assert found.one == load.seconds


def test_speed_and_crowd_change_computing_alone():
    load = Load(10.0, [Piece(40.0, items=100, reduced_bytes=1.0)])
    slow, fast = stage_time(load, Workers(4, Link(1.0, 1.0))), stage_time(load, Workers(4, Link(1.0, 1.0), speed=10))
    assert (fast.alone, fast.compute, fast.messages) == (slow.alone / 10, slow.compute / 10, slow.messages)
    crowded = stage_time(load, Workers(4, Link(1.0, 1.0), crowd=2))
    assert (crowded.alone, crowded.compute) == (slow.alone, 2 * slow.compute)
    assert bottleneck(predict({"a": Load(1.0), "b": load}, Workers(2))) == "b"


# ---- a smoke run -----------------------------------------------------------------------------------------------------


def heard(clock, kind, items, seconds=0.0):
    clock.tally.exchanges.append(Exchange(kind, [seconds] * items, [100] * items, [2] * items, [10] * items))


def test_a_longer_loop_has_more_items_or_more_rounds():
    clock = Rehearsal()
    clock.start("extractor: reading", 2, 0, 64)
    heard(clock, "map", 2)
    for done in (1, 2):
        clock.advance(done, {})
    clock.finish()
    clock.larger(32.0, 5, 7)
    clock.start("extractor: k-means", 1, 0, 2)
    heard(clock, "map", 3)
    clock.advance(1, {})
    clock.finish()
    clock.start("extractor: merging", 4, 0, 40)
    for done in range(1, 5):
        heard(clock, "map", 1)
        clock.advance(done, {})
    clock.finish()
    clock.start("segmenter: training", 2, 0, 100)
    for done in (1, 2):
        heard(clock, "sum", 1)
        clock.advance(done, {})
    clock.finish()
    reading, kmeans, *merges = clock.load("extractor", 1.0).pieces
    assert (reading.items, reading.rounds, reading.item_bytes) == (64, 1, 100)
    assert (kmeans.items, kmeans.item_bytes) == (3 * 2 * 32, 100), "a pass over more points has more blocks"
    assert len(merges) == 4
    assert all((piece.items, piece.rounds, piece.item_bytes) == (1, 10, 3200) for piece in merges)
    (sums,) = clock.load("segmenter", 1.0).pieces
    assert (sums.rounds, sums.reduced_bytes, sums.seconds) == (100, 100, 0)
    assert (clock.ram_bytes, clock.disk_bytes) == (5, 7)


@pytest.fixture
def with_klish(registry):
    plugin = pytest.importorskip("gsegkit_klish")
    registry.add(plugin, "gsegkit-klish", "0")
    return registry


def test_a_run_of_clusters_is_predicted_for_several_processes(with_klish, tmp_path):
    registry = with_klish
    base = {"gen": "toy", "extractor": "klish", "seg": "tiny", "eval": "count", "num_samples": 1000}
    options = ["gen.size=16", "extractor.kmeans=torch", "extractor.k0=16", "extractor.num_images=64"]
    plan = Plan.from_options(base, options, device="cpu")
    found = estimate(plan, registry, tmp_path / "run")
    assert found.total_seconds == pytest.approx(sum(load.seconds for load in found.loads.values()))
    two = predicted(found, started(2, "cpu", per_machine=1))
    for name, stage in two.stages.items():
        assert stage.one == pytest.approx(found.seconds[name])
    assert two.stages["dataset"].compute == pytest.approx(found.seconds["dataset"] / 2), "four shards"
    assert two.stages["extractor"].sent_bytes > 64 * 256 * 4 * 10, "at least the points"
    assert two.stages["extractor"].compute < found.seconds["extractor"]
    assert two.ram_bytes == found.ram_bytes
    shared = predicted(found, started(2, "cpu", per_machine=2))
    assert shared.machine_ram_bytes == 2 * found.ram_bytes
    many = predicted(found, started(4096, "cpu", per_machine=1))
    assert many.stages["dataset"].limit == TOO_FEW
    json.dumps({**found.record(), "workers": many.record()})


def test_points_on_disk_are_of_each_process(with_klish, tmp_path):
    registry = with_klish
    base = {"gen": "toy", "extractor": "klish", "seg": "tiny", "eval": "count", "num_samples": 8}
    options = ["gen.size=16", "extractor.kmeans=torch", "extractor.k0=8", "extractor.storage=disk"]
    found = estimate(Plan.from_options(base, options, device="cpu"), registry, tmp_path / "run")
    points = 256 * 256 * 28 * 4  # images, pixels of each, channels of the maps, bytes
    assert found.own_disk_bytes == pytest.approx(points, rel=0.05)
    three = predicted(found, started(3, "cpu"))
    assert three.disk_peak_bytes == found.disk_peak_bytes + 2 * found.own_disk_bytes


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without a GPU")
def test_gpus_that_are_not_here_need_a_speed():
    with pytest.raises(ConfigError, match="no CUDA device here"):
        started(8, "cuda")
    who = started(64, "cuda", speed=50.0)
    assert (who.per_machine, who.machines, who.speed, who.crowd) == (8, 8, 50.0, 1.0)
    assert started(8, "cuda", speed=1.0).link.bandwidth > who.link.bandwidth, "between machines it is slower"
    assert started(2, "cuda", speed=1.0, gigabytes=3, microseconds=7).link == Link(7e-6, 3e9, pipelined=True)
