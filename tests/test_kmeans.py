import math

import numpy as np
import pytest
import torch

from gsegkit.clustering.config import KMeansConfig
from gsegkit.clustering.kmeans import TorchKMeans, squared_distances
from gsegkit.errors import ContractError, DataError


def blobs(count=3000, dims=17, groups=12, spread=0.6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(groups, dims, generator=generator)
    which = torch.randint(groups, (count,), generator=generator)
    return centres[which] + spread * torch.randn(count, dims, generator=generator), which


def make(**options):
    return TorchKMeans(KMeansConfig(**options))


def test_inertia_is_that_of_scikit_learn():
    cluster = pytest.importorskip("sklearn.cluster")
    points, _ = blobs()
    ours, theirs = [], []
    for seed in range(4):
        kmeans = make()
        kmeans.fit(points, 12, seed)
        ours.append(kmeans.inertia)
        theirs.append(cluster.KMeans(12, n_init=1, random_state=seed).fit(points.numpy()).inertia_)
    assert np.mean(ours) < 1.02 * np.mean(theirs)
    assert min(ours) < 1.01 * min(theirs)


def test_lloyd_reaches_the_fixed_point_of_scikit_learn_from_the_same_start():
    cluster = pytest.importorskip("sklearn.cluster")
    points, _ = blobs(spread=1.0)
    kmeans = make(tol=0, iterations=500)
    start = points[:9].clone()
    mean = points.mean(dim=0)
    centres, found, _ = kmeans._lloyd(points, mean, start - mean, 0.0)
    reference = cluster.KMeans(9, init=start.numpy(), n_init=1, tol=0, max_iter=500, algorithm="lloyd")
    reference.fit(points.numpy())
    assert torch.equal(found.labels, torch.from_numpy(reference.labels_).long())
    torch.testing.assert_close(centres + mean, torch.from_numpy(reference.cluster_centers_), atol=1e-4, rtol=0)
    assert found.inertia == pytest.approx(reference.inertia_, rel=1e-5)


def test_separated_groups_are_found_exactly():
    points, which = blobs(spread=0.01)
    _, labels = make().fit(points, 12, 3)
    pairs = {(int(a), int(b)) for a, b in zip(which, labels, strict=True)}
    assert len(pairs) == 12


def test_same_seed_same_result_and_the_global_rng_is_left_alone():
    points, _ = blobs()
    state = torch.random.get_rng_state()
    first = make().fit(points, 7, 5)
    second = make().fit(points, 7, 5)
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not torch.equal(first[0], make().fit(points, 7, 6)[0])


def test_result_is_consistent_nearest_centres_and_means_of_clusters():
    points, _ = blobs(count=999)
    kmeans = make(tol=0, iterations=1000)
    centres, labels = kmeans.fit(points, 5, 0)
    assert centres.shape == (5, 17)
    assert centres.dtype == torch.float32
    assert labels.dtype == torch.int64
    assert torch.equal(labels, squared_distances(points, centres).argmin(dim=1))
    for cluster in range(5):
        torch.testing.assert_close(centres[cluster], points[labels == cluster].mean(dim=0), atol=1e-5, rtol=1e-5)
    inertia = float((points - centres[labels]).square().sum())
    assert kmeans.inertia == pytest.approx(inertia, rel=1e-5)


def test_chunks_do_not_change_the_labels():
    points, _ = blobs(count=20_000, dims=30, spread=0.2)
    whole, small = make(chunk_mib=512), make(chunk_mib=1)
    assert len(list(small._chunks(20_000, 12 + 60))) > 5
    assert torch.equal(whole.fit(points, 12, 1)[1], small.fit(points, 12, 1)[1])


def test_a_large_common_offset_does_no_harm():
    points, _ = blobs(spread=0.2)
    _, plain = make().fit(points, 12, 0)
    _, moved = make().fit(points + 300.0, 12, 0)
    assert (plain == moved).float().mean() > 0.999


def test_empty_clusters_take_the_farthest_points():
    points = torch.tensor([[0.0], [1.0], [2.0], [10.0], [50.0]])
    kmeans = make()
    far = torch.tensor([[0.0], [1000.0], [2000.0]])
    found = kmeans._assign(points, torch.zeros(1), far)
    assert found.counts.tolist() == [5, 0, 0]
    moved = kmeans._update(points, torch.zeros(1), far, found)
    assert moved.flatten().tolist() == pytest.approx([12.6, 50.0, 10.0])
    mean = torch.full((1,), 5.0)  # centres are kept about the mean
    moved = kmeans._update(points, mean, far - mean, kmeans._assign(points, mean, far - mean))
    assert (moved + mean).flatten().tolist() == pytest.approx([12.6, 50.0, 10.0])


def test_no_cluster_is_empty_when_there_are_enough_distinct_points():
    points = torch.cat([torch.zeros(500, 3), torch.eye(3) * torch.tensor([1.0, 2.0, 3.0])])
    for seed in range(5):
        _, labels = make(init="random", iterations=1).fit(points, 4, seed)
        assert sorted(labels.unique().tolist()) == [0, 1, 2, 3]


def test_fewer_distinct_points_than_clusters():
    centres, labels = make().fit(torch.ones(6, 2), 3, 0)
    assert torch.equal(centres, torch.ones(3, 2))
    assert labels.tolist() == [0] * 6


def test_more_starts_are_never_worse():
    points, _ = blobs(spread=1.2)
    one, many = make(), make(num_starts=5)
    one.fit(points, 12, 4)
    many.fit(points, 12, 4)
    assert many.inertia <= one.inertia


def test_plus_plus_beats_random_points():
    points, _ = blobs(groups=30, spread=0.1)

    def mean_inertia(init):
        total = 0.0
        for seed in range(4):
            kmeans = make(init=init, init_points=500)
            kmeans.fit(points, 30, seed)
            total += kmeans.inertia
        return total

    assert mean_inertia("k-means++") < 0.7 * mean_inertia("random")


def test_used_device_and_attributes():
    kmeans = make()
    assert kmeans.used_device == "none"
    assert math.isnan(kmeans.inertia)
    kmeans.fit(blobs(count=50)[0], 1, 0)
    assert kmeans.used_device == "cpu"
    assert kmeans.iterations >= 1


def test_as_many_clusters_as_points():
    points, _ = blobs(count=8)
    _, labels = make().fit(points, 8, 0)
    assert sorted(labels.tolist()) == list(range(8))


@pytest.mark.parametrize("k", [0, 6])
def test_impossible_number_of_clusters(k):
    with pytest.raises(DataError, match=f"cannot make {k} clusters of 5 points"):
        make().fit(torch.randn(5, 2), k, 0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_broken_points(bad):
    points, _ = blobs(count=20)
    points[3, 4] = bad
    with pytest.raises(DataError, match="NaN or infinity"):
        make().fit(points, 3, 0)


def test_wrong_points():
    with pytest.raises(ContractError):
        make().fit(torch.zeros(4, 2, dtype=torch.float64), 2, 0)


@pytest.mark.gpu
def test_cuda_agrees_with_the_cpu_and_with_itself():
    points, _ = blobs(count=20_000, spread=0.2)
    device = points.cuda()
    kmeans = make()
    centres, labels = kmeans.fit(device, 12, 0)
    again, _ = make().fit(device, 12, 0)
    on_cpu, cpu_labels = make().fit(points, 12, 0)
    assert kmeans.used_device == "cuda:0"
    assert torch.equal(centres, again)
    assert torch.equal(labels.cpu(), cpu_labels)
    torch.testing.assert_close(centres.cpu(), on_cpu, atol=1e-4, rtol=1e-4)
