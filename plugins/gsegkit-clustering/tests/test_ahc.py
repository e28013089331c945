import numpy as np
import pytest
import torch
import torch.nn.functional as F
from gsegkit_clustering.ahc import Cuts, grow, tree_bytes
from gsegkit_clustering.softmax import Softmax, adam, class_means
from sklearn.cluster import AgglomerativeClustering
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import adjusted_rand_score

from gsegkit.context import RunContext
from gsegkit.errors import ConfigError

SMALL = {"num_images": 16, "pixels_per_image": 40, "max_levels": 12}
SKLEARN = {
    "ward": {"linkage": "ward"},
    "arccos": {"linkage": "average", "metric": "cosine"},
    "euclidean": {"linkage": "average", "metric": "euclidean"},
}


@pytest.mark.parametrize("metric", SKLEARN)
def test_every_cut_is_that_of_scikit_learn(collect, metric):
    x = collect(16, 40).x.numpy()
    cuts = Cuts.of(grow(x, metric), 12)
    assert list(cuts.ids) == list(range(2, 13))
    for k in cuts.ids:
        expected = AgglomerativeClustering(n_clusters=k, **SKLEARN[metric]).fit_predict(x)
        assert adjusted_rand_score(expected, np.array(cuts.leaves[k])[cuts.leaf]) == 1.0


def test_clusters_keep_their_number_until_they_are_split(collect):
    x = collect(16, 40).x.numpy()
    cuts = Cuts.of(grow(x, "ward"), 12)
    assert cuts.ids[2] == (1, 2)
    for k in range(3, 13):
        old, new = set(cuts.ids[k - 1]), set(cuts.ids[k])
        (split,) = old - new
        assert new - old == {2 * k - 3, 2 * k - 2}
        assert all(cuts.parent[part] == split for part in new - old)
        parents = [cuts.ids[k - 1][place] for place in cuts.parents(k)]
        assert parents == [split if cluster in new - old else cluster for cluster in cuts.ids[k]]
    sizes = np.bincount(np.array(cuts.leaves[2])[cuts.leaf])
    assert sizes[0] >= sizes[1]


def test_as_many_clusters_as_points():
    cuts = Cuts.of(grow(np.array([[0.0], [1.0], [5.0]], dtype=np.float32), "ward"), 3)
    assert sorted(cuts.leaf) == [0, 1, 2]
    assert cuts.leaves[2][cuts.leaf[0]] == cuts.leaves[2][cuts.leaf[1]] != cuts.leaves[2][cuts.leaf[2]]


# ---- classifiers -------------------------------------------------------------------------------------------------


def loss(x, labels, theta, decay):
    entropy = F.cross_entropy(x @ theta[:, :-1].T + theta[:, -1], labels)
    return float(entropy + decay * theta[:, :-1].square().mean())


@pytest.fixture
def problem(collect):
    x = collect(16, 30).x
    x = x / x.norm(dim=1).mean()
    cuts = Cuts.of(grow(x.numpy(), "ward"), 6)
    return x, torch.from_numpy(cuts.leaf)


@pytest.mark.parametrize("bias", [True, False])
def test_the_classifier_is_the_optimum_that_scikit_learn_finds(problem, bias):
    x, labels = problem
    decay, k, dim = 0.05, 6, x.shape[1]
    found = Softmax(x, decay, bias, 1e-9).fit(labels, class_means(x, labels, k, bias))
    # scikit-learn: C * sum of losses + |W|^2 / 2, here mean loss + decay / (k dim) |W|^2
    other = LogisticRegression(C=k * dim / (2 * decay * len(x)), fit_intercept=bias, tol=1e-6, max_iter=5000)
    other.fit(x.double().numpy(), labels.numpy())
    best = torch.from_numpy(np.column_stack([other.coef_, other.intercept_ * np.ones(k)])).float()
    assert loss(x, labels, found, decay) == pytest.approx(loss(x, labels, best, decay), rel=2e-4)
    if not bias:
        assert not found[:, -1].any()


def test_the_default_tolerance_is_close_to_the_optimum(problem):
    x, labels = problem
    start = class_means(x, labels, 6, True)
    exact, quick = (Softmax(x, 0.01, True, tolerance).fit(labels, start) for tolerance in (1e-9, 1e-5))
    assert loss(x, labels, quick, 0.01) == pytest.approx(loss(x, labels, exact, 0.01), rel=2e-3)


def test_the_published_optimiser_comes_closer_to_its_optimum(problem):
    x, labels = problem
    start = class_means(x, labels, 6, True)
    after = adam(x, labels, start, 1e-3, True)
    best = Softmax(x, 1e-3, True, 1e-5).fit(labels, start)
    assert loss(x, labels, best, 1e-3) < loss(x, labels, after, 1e-3) < loss(x, labels, start, 1e-3)


def test_the_start_is_the_nearest_class_mean(problem):
    x, labels = problem
    means = torch.stack([x[labels == i].mean(dim=0) for i in range(6)])
    theta = class_means(x, labels, 6, True)
    assert torch.equal((x @ theta[:, :-1].T + theta[:, -1]).argmax(dim=1), torch.cdist(x, means).argmin(dim=1))


@pytest.mark.parametrize("metric", ["ward", "arccos"])
def test_classifiers_repeat_most_labels(fit, metric):
    part = fit("ahc", k=4, metric=metric, **SMALL)
    assert part.levels == tuple(range(2, 13))
    assert all(part.level(k).facts["agreement"] > 0.9 for k in part.levels)


@pytest.mark.parametrize(("metric", "optimizer"), [("ward", "lbfgs"), ("arccos", "lbfgs"), ("arccos", "adam")])
def test_scores_of_raw_features_give_the_labels_that_were_learnt(fit, collect, metric, optimizer):
    part = fit("ahc", k=4, metric=metric, optimizer=optimizer, num_images=16, pixels_per_image=20, max_levels=4)
    x = collect(16, 20).x
    rows = part.entry(4)["rows"]
    labels = (x @ part.weight[rows].T + part.bias[rows]).argmax(dim=1)
    source = F.normalize(x, dim=1) if metric == "arccos" else x
    cuts = Cuts.of(grow(source.numpy(), metric), 4)
    ids = np.array([int(name.removeprefix("cluster-")) for name in part.classes])[labels]
    true = np.array(cuts.ids[4])[np.array(cuts.leaves[4])[cuts.leaf]]
    agreement = float((ids == true).mean())
    assert agreement == pytest.approx(part.level(4).facts["agreement"], abs=2e-3)


def test_a_cut_needs_no_refit(fit, pixels):
    part = fit("ahc", k=4, **SMALL)
    batch, _ = pixels(part)
    part.cut(9)
    assert part.extract(batch, None).probs.shape == (3, 9, 32, 32)
    with pytest.raises(ConfigError, match="no cut into 13 clusters"):
        part.cut(13)


# ---- refusals ----------------------------------------------------------------------------------------------------


def test_distances_that_do_not_fit_are_refused_before_anything_is_read(make, toy, tmp_path, monkeypatch):
    monkeypatch.setattr(type(toy), "synthesize", lambda *args, **options: pytest.fail("the generator ran"))
    with pytest.raises(ConfigError, match=r"a tree of 25,600 points needs 5,\d+ MiB") as caught:
        make("ahc", num_images=256, pixels_per_image=100).fit(toy, RunContext(tmp_path))
    fitting = int(caught.value.hint.removeprefix("lower pixels_per_image to ").split(",")[0])
    assert tree_bytes(256 * fitting, 52) <= 2048 << 20 < tree_bytes(256 * (fitting + 1), 52)
    with pytest.raises(ConfigError, match="lower num_images") as caught:
        make("ahc", num_images=5000, pixels_per_image=100, memory_mib=1).fit(toy, RunContext(tmp_path))


def test_the_published_setting_is_refused_by_default(make, toy, tmp_path):
    part = make("ahc", profile="paper", resolution=32)  # the toy of these tests has 32 pixels a side
    assert (part.config.num_images, part.config.max_levels, part.config.decay, part.config.optimizer) == (
        32,
        100,
        1e-3,
        "adam",
    )
    with pytest.raises(ConfigError, match="a tree of 32,768 points"):
        part.fit(toy, RunContext(tmp_path))


def test_more_clusters_than_levels(make):
    with pytest.raises(ConfigError, match="k=40 is more than max_levels=30"):
        make("ahc", k=40)
