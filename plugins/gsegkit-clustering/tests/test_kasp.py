import numpy as np
import pytest
import torch
from gsegkit_clustering.kasp import group_centres, neighbour_graph
from sklearn.cluster import SpectralClustering
from sklearn.metrics import adjusted_rand_score

from gsegkit.errors import ConfigError

SMALL = {"num_images": 16, "pixels_per_image": 100, "kmeans": "torch", "k0": 25}


@pytest.fixture
def centres(collect):
    return collect(16, 10).x[:60].double().numpy()


@pytest.mark.filterwarnings("ignore:Graph is not fully connected")
@pytest.mark.parametrize("k", [2, 5, 9])
def test_groups_are_those_of_scikit_learn(centres, k):
    expected = SpectralClustering(
        k, affinity="nearest_neighbors", n_neighbors=3, assign_labels="discretize", random_state=4
    ).fit_predict(centres)
    labels, rule = group_centres(neighbour_graph(centres, 3), k, 4)
    assert rule == "discretize"
    assert adjusted_rand_score(expected, labels) == 1.0


def test_no_cluster_is_empty(centres):
    graph = neighbour_graph(centres, 3)
    rules = set()
    for k in range(2, 60):
        labels, rule = group_centres(graph, k, 0)
        assert sorted(set(labels)) == list(range(k))
        rules.add(rule)
    assert "cluster_qr" in rules  # the published rounding would have left some empty


def test_a_pixel_takes_the_cluster_of_its_nearest_centre(fit, pixels):
    part = fit("kasp", k=6, **SMALL)
    batch, x = pixels(part)
    nearest = torch.cdist(x.double(), part.weight.double()).argmin(dim=1)
    for k in (2, 6, 24):
        owners = torch.tensor(part.entry(k)["owners"])
        found = part.scores(batch.features, (32, 32), k).argmax(dim=1).flatten()
        assert (found == owners[nearest]).float().mean() > 0.9995
    assert part.levels == tuple(range(2, 25))


def test_shares_and_border_follow_the_grouping(fit):
    part = fit("kasp", k=6, **SMALL)
    for k in part.levels:
        level = part.entry(k)
        assert sum(level["shares"]) == pytest.approx(1, abs=1e-4)
        assert level["shares"][1:] == sorted(level["shares"][1:], reverse=True)
        assert sorted(set(level["owners"])) == list(range(k))


def test_equal_clusters_of_two_levels_have_one_id(fit):
    part = fit("kasp", k=6, **SMALL)
    sets = {}
    for k in part.levels:
        level = part.entry(k)
        for place, name in enumerate(level["ids"]):
            members = frozenset(np.flatnonzero(np.array(level["owners"]) == place).tolist())
            assert sets.setdefault(name, members) == members
    assert len(set(sets.values())) == len(sets)


def test_reproducible(fit):
    one, two, other = (fit("kasp", k=6, seed=seed, **SMALL) for seed in (0, 0, 1))
    assert torch.equal(one.weight, two.weight)
    assert one.facts() == two.facts()
    assert one.facts() != other.facts()


def test_probabilities_of_grouped_centres(fit, pixels):
    part = fit("kasp", k=3, **SMALL)
    batch, _ = pixels(part)
    found = part.extract(batch, None)
    assert torch.allclose(found.probs.sum(dim=1), torch.ones(3, 32, 32), atol=1e-5)
    labels = part.scores(batch.features, (32, 32)).argmax(dim=1)
    assert torch.equal(found.probs.argmax(dim=1), labels)


def test_bad_options(make):
    with pytest.raises(ConfigError, match="k=30 clusters cannot be made of k0=30"):
        make("kasp", k=30, k0=30)
    with pytest.raises(ConfigError, match="num_neighbours=11 is more than k0=10"):
        make("kasp", k=4, k0=10, num_neighbours=11)
