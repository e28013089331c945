from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from gsegkit_klish.config import KlishConfig
from gsegkit_klish.klish import Klish, cut_by_iou, fit_softmax, snowball_share, unusual
from gsegkit_klish.svm import SVMSolver, cholesky, lower_gram, signs

from gsegkit.builtin.config import ToyConfig
from gsegkit.builtin.toy import Toy
from gsegkit.clustering.config import KMeansConfig
from gsegkit.clustering.kmeans import TorchKMeans
from gsegkit.clustering.points import Points
from gsegkit.config import build_config
from gsegkit.context import RunContext
from gsegkit.errors import CapabilityError, ConfigError, DataError, InterruptedRunError
from gsegkit.parts import load_part, save_part
from gsegkit.rundir import CHECKPOINT_FILE
from gsegkit.testing import fixtures

spec = importlib.util.spec_from_file_location("klish_plain", Path(__file__).with_name("plain.py"))
plain = importlib.util.module_from_spec(spec)
spec.loader.exec_module(plain)


def blobs(
    n: int = 1500, d: int = 12, classes: int = 5, seed: int = 0, spread: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Elongated clusters that overlap."""
    g = torch.Generator().manual_seed(seed)
    truth = torch.randint(classes, (n,), generator=g)
    centres = 2.2 * torch.randn(classes, d, generator=g)
    axes = spread * torch.randn(classes, 3, d, generator=g)
    x = centres[truth] + torch.einsum("nk,nkd->nd", torch.randn(n, 3, generator=g), axes[truth])
    return x + 0.5 * torch.randn(n, d, generator=g), truth


def points(x: torch.Tensor) -> Points:
    n = len(x)
    return Points(x=x, image=torch.zeros(n, dtype=torch.int64), pixel=torch.arange(n), size=(1, n), layers=("f",))


def context(folder: Path, **options) -> RunContext:
    return RunContext(folder, seed=3, **options)


# ---- the solver ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("C", "d"), [(50.0, 6), (5000.0, 12), (0.5, 40)])
def test_svms_are_optimal(C, d):
    x, _ = blobs(d=d)
    labels = TorchKMeans(KMeansConfig()).fit(x, 6, 0)[1]
    V, scores, values = SVMSolver(x, C, 1e-7).solve_all(labels, 6)
    assert torch.allclose(scores, V[:, :-1] @ x.T + V[:, -1:], atol=1e-3)
    for k in range(6):
        v, f = plain.solve(x.double().numpy(), np.where(labels == k, 1.0, -1.0), C)
        assert values[k] == pytest.approx(f, rel=1e-5)
        assert np.abs(V[k].numpy() - v).max() < 2e-3 * max(1.0, np.abs(v).max())


def test_svm_equals_liblinear():
    """liblinear penalises the bias through its synthetic feature; a large one makes that nothing."""
    svm = pytest.importorskip("sklearn.svm")
    x, _ = blobs(600, 5)
    y = signs(x[:, 0] > 1)
    C = 300.0
    other = svm.LinearSVC(C=C / 600, intercept_scaling=1000, tol=1e-9, max_iter=1_000_000, dual=False).fit(x, y)
    solver = SVMSolver(x, C, 1e-8)
    v, _, _ = solver.solve(y, torch.zeros(6), torch.zeros(600))
    expected = torch.cat([torch.from_numpy(other.coef_[0]), torch.from_numpy(other.intercept_)]).float()
    assert torch.allclose(v, expected, rtol=1e-2, atol=1e-2)


def test_optimum_does_not_depend_on_the_start():
    x, truth = blobs()
    y = signs(truth == 1)
    solver = SVMSolver(x, 5000.0, 1e-7)
    zero = solver.solve(y, torch.zeros(13), torch.zeros(len(x)))
    wild = torch.randn(13, generator=torch.Generator().manual_seed(1))
    other = solver.solve(y, wild, solver.scores(wild[None])[0])
    assert zero[2] == pytest.approx(other[2], rel=1e-5)


def test_separable_and_lonely_points():
    """Zero loss, and a class of a single point: nothing divides by zero."""
    x = torch.cat([torch.randn(50, 3), torch.tensor([[40.0, 40.0, 40.0]])])
    labels = torch.cat([torch.zeros(50), torch.ones(1)]).long()
    V, scores, _ = SVMSolver(x, 5000.0, 1e-6).solve_all(labels, 2)
    assert torch.isfinite(V).all()
    assert (scores[1] > 0).tolist() == [False] * 50 + [True]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_points(dtype):
    """The same optimum as of the rounded points in float32."""
    x, truth = blobs(800)
    rounded = x.to(dtype)
    exact = SVMSolver(rounded.float(), 500.0, 1e-7).solve_all(truth, 5)[2]
    half = SVMSolver(rounded, 500.0, 1e-7).solve_all(truth, 5)[2]
    assert torch.allclose(exact, half, rtol=1e-4)


def test_lower_gram_and_cholesky():
    rows = torch.randn(30, 11)
    assert torch.allclose(torch.tril(lower_gram(rows)), torch.tril(rows.T @ rows), atol=1e-5)
    thin = torch.randn(4, 11)  # rank 4: float32 alone fails or is noise
    hessian = lower_gram(thin)
    hessian.diagonal()[:-1] += 1
    factor = cholesky(hessian)
    assert torch.isfinite(factor).all()
    assert torch.allclose(torch.tril(factor @ factor.T)[:-1], torch.tril(hessian)[:-1], atol=1e-3)


# ---- the tree --------------------------------------------------------------------------------------------------------


def members_of(k0: int, levels) -> dict[int, frozenset[int]]:
    found = {}
    for level in levels.values():
        for position, name in enumerate(level.ids):
            found[name] = frozenset(leaf for leaf, p in enumerate(level.leaves) if p == position)
    return found


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("C", [20.0, 5000.0])
def test_incremental_equals_plain(tmp_path, monkeypatch, seed, C):
    """The same merges, and IoUs equal to 1e-3, as with all SVMs solved anew after each merge."""
    x, _ = blobs(900, 8, seed=seed, spread=1.4)
    config = KlishConfig(k0=9, C=C, tol=1e-7, kmeans="torch", filter=False)
    found = Klish(config).cluster(points(x), context(tmp_path))
    expected = plain.tree(x.numpy(), found.leaf.numpy(), C)
    members = members_of(9, found.levels)
    for k, (p, q, iou, all_ious) in zip(range(9, 1, -1), expected, strict=True):
        facts = found.levels[k].facts
        assert {members[facts["weakest"]], members[facts["joins"]]} == {p, q}, f"level {k}"
        assert facts["min_iou"] == pytest.approx(iou, abs=1e-3)
        for name in found.levels[k].ids:
            assert found.facts["iou"][name] == pytest.approx(all_ious[members[name]], abs=1e-3)


def three_crescents(seed: int, n: int = 900) -> tuple[torch.Tensor, np.ndarray]:
    """Three classes in the plane, linearly separable, long: their means say little about them (as in Fig. 2)."""
    rng = np.random.RandomState(seed)
    t = rng.uniform(0, 1, n)
    top = np.stack([8 * t - 4, 2.6 + 0.25 * rng.standard_normal(n)], 1)
    left = np.stack([-2.6 + 1.2 * rng.standard_normal(n // 3) * 0.35, -0.6 + 0.35 * rng.standard_normal(n // 3)], 1)
    right = np.stack([2.6 + 0.4 * rng.standard_normal(n // 3), -0.6 + 0.35 * rng.standard_normal(n // 3)], 1)
    x = np.concatenate([top, left, right]).astype(np.float32)
    return torch.from_numpy(x), np.repeat([0, 1, 2], [n, n // 3, n // 3])


def test_separable_but_not_compact(tmp_path):
    """Fig. 2: k-means cuts the long class; merging four means by separability does not. Five seeds."""
    adjusted_rand_score = pytest.importorskip("sklearn.metrics").adjusted_rand_score
    klish, kmeans = [], []
    for seed in range(5):
        x, truth = three_crescents(seed)
        ctx = RunContext(tmp_path / str(seed), seed=seed)
        config = KlishConfig(k0=4, C=100.0, kmeans="torch", filter=False)
        found = Klish(config).cluster(points(x), ctx)
        labels = torch.tensor(found.levels[3].leaves)[found.leaf]
        klish.append(adjusted_rand_score(truth, labels))
        kmeans.append(adjusted_rand_score(truth, TorchKMeans(KMeansConfig()).fit(x, 3, seed)[1]))
    assert min(klish) >= 0.95, klish
    assert sum(score < 0.6 for score in kmeans) >= 3, kmeans


def test_toy_parts(tmp_path):
    """Clusters lie within the toy's four classes: measured 0.93 to 0.96 with 24 of 60 clusters."""
    toy = Toy(ToyConfig())
    part = Klish(build_config(KlishConfig, {"k0": 60, "num_images": 48, "pixels_per_image": 128, "k": 24}, "klish"))
    part.fit(toy, context(tmp_path))
    batch = toy.sample(fixtures.seeds(16), features=part.features(toy.info))
    found, truth = part.extract(batch, toy).probs.argmax(1), toy.truth(batch)
    table = torch.zeros(4, 24).index_put_((truth.flatten().long(), found.flatten()), torch.ones(1), accumulate=True)
    assert float(table.amax(dim=0).sum() / table.sum()) > 0.9


# ---- cuts ------------------------------------------------------------------------------------------------------------


def test_cut_without_refit(tmp_path):
    toy = Toy(ToyConfig(size=33, width=47))
    options = {"k0": 12, "num_images": 12, "pixels_per_image": 100, "filter": False}
    part = Klish(build_config(KlishConfig, {**options, "k": 5}, "klish"))
    part.fit(toy, context(tmp_path / "a"))
    batch = toy.sample(fixtures.seeds(), features=part.features(toy.info))
    assert part.levels == tuple(range(2, 13))
    assert len(part.classes) == 5
    part.cut(3)
    at_three = part.extract(batch, toy).probs
    fresh = Klish(build_config(KlishConfig, {**options, "k": 3}, "klish"))
    fresh.fit(toy, context(tmp_path / "b"))
    assert torch.equal(at_three, fresh.extract(batch, toy).probs)
    save_part(part, tmp_path / "part", "extractor", "klish")
    loaded = Klish(build_config(KlishConfig, {**options, "k": 5}, "klish"))
    load_part(loaded, tmp_path / "part")
    assert loaded.k == 3
    assert torch.equal(at_three, loaded.extract(batch, toy).probs)
    with pytest.raises(ConfigError, match="no cut into 13 clusters"):
        part.cut(13)


def test_levels_are_nested_and_background_comes_first(tmp_path):
    toy = Toy(ToyConfig())
    part = Klish(
        build_config(KlishConfig, {"k0": 16, "num_images": 24, "pixels_per_image": 100, "filter": False}, "klish")
    )
    part.fit(toy, context(tmp_path))
    for k in range(3, 17):
        fine, coarse, facts = part.level(k).ids, part.level(k - 1).ids, part.level(k).facts
        assert set(coarse) == set(fine) - {facts["weakest"], facts["joins"]} | {facts["into"]}
        assert math.isclose(sum(part.level(k).shares), 1, abs_tol=1e-4)
    batch = toy.sample(fixtures.seeds(), features=part.features(toy.info))
    part.cut(6)
    first = part.extract(batch, toy).probs.argmax(1) == 0
    assert float((toy.truth(batch)[first] == 0).float().mean()) > 0.9


def test_cut_by_iou():
    least = {2: 0.99, 3: 0.9, 4: 0.92, 5: 0.7, 6: 0.5}
    assert cut_by_iou(least, 0.9) == 4
    assert cut_by_iou(least, 0.6) == 5
    assert cut_by_iou(least, 0.999) == 2


def test_softmax_refit(tmp_path):
    toy = Toy(ToyConfig(size=32))
    options = {"k0": 10, "num_images": 12, "pixels_per_image": 100, "k": 4}
    plain_part = Klish(build_config(KlishConfig, options, "klish"))
    plain_part.fit(toy, context(tmp_path / "a"))
    part = Klish(build_config(KlishConfig, {**options, "refit": "softmax"}, "klish"))
    part.fit(toy, context(tmp_path / "b"))
    batch = toy.sample(fixtures.seeds(), features=part.features(toy.info))
    one, two = part.extract(batch, toy).probs.argmax(1), plain_part.extract(batch, toy).probs.argmax(1)
    assert float((one == two).float().mean()) > 0.97
    assert not torch.equal(part.extract(batch, toy).probs, plain_part.extract(batch, toy).probs)
    part.cut(3)
    plain_part.cut(3)
    assert torch.equal(part.extract(batch, toy).probs, plain_part.extract(batch, toy).probs)


def test_softmax_lowers_the_loss():
    x, truth = blobs(500)
    weight, bias = fit_softmax(x, truth, torch.zeros(5, 12), torch.zeros(5))
    loss = torch.nn.functional.cross_entropy(x @ weight.T + bias, truth)
    assert float(loss) < 0.3


# ---- filter, guard, snowball -----------------------------------------------------------------------------------------


def test_filter_drops_the_inseparable(tmp_path):
    iou = torch.tensor([0.9, 0.92, 0.88, 0.91, 0.2, 0.95, 0.0])
    assert unusual(iou).tolist() == [False] * 6 + [True]  # 0.2 is within a standard deviation: the 0 stretches it
    assert unusual(iou[:6]).tolist() == [False] * 4 + [True, False]
    x, _ = blobs(1200, 8, spread=1.6)
    messages = []
    ctx = context(tmp_path)
    ctx.progress.message = lambda text, kind="": messages.append(text)
    found = Klish(KlishConfig(k0=12, C=100.0, filter=True, kmeans="torch")).cluster(points(x), ctx)
    kept = max(found.levels)
    assert kept < 12
    assert f"filter: {kept} of 12 initial clusters kept" in messages


def test_guard_keeps_the_largest_from_swallowing(tmp_path):
    x, _ = blobs(1500, 6, classes=8, spread=3.0)  # hardly separable
    free = Klish(KlishConfig(k0=30, C=100.0, kmeans="torch", filter=False)).cluster(points(x), context(tmp_path / "a"))
    held = Klish(KlishConfig(k0=30, C=100.0, kmeans="torch", filter=False, max_share=0.4)).cluster(
        points(x), context(tmp_path / "b")
    )

    def largest(found, k):
        return float(torch.bincount(torch.tensor(found.levels[k].leaves)[found.leaf]).max()) / len(x)

    assert largest(held, 4) < largest(free, 4)


def test_snowball_is_told(tmp_path):
    into_one = [[k, 0 if k == 1 else 28 + k, 29 + k, 0.5, 0.5] for k in range(1, 30)]
    assert snowball_share(into_one, [100] + [1] * 29) == 1.0
    in_pairs = [[2 * k, 2 * k + 1, 32 + k, 0.5, 0.5] for k in range(31)]
    assert snowball_share(in_pairs, [10] * 32) < 0.75


# ---- interruption and bad input --------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [0, 1, 5])
def test_resumes_from_the_last_merge(tmp_path, after):
    x, _ = blobs()
    config = KlishConfig(k0=10, kmeans="torch", filter=False)
    whole = Klish(config).cluster(points(x), context(tmp_path / "whole"))
    ctx = context(tmp_path / "cut")
    solved = []
    interrupted = Klish(config)
    merge = interrupted._merge

    def stop_after(tree, confidence, solver, ahead):
        if len(solved) == after:
            ctx.stop.set()
        merge(tree, confidence, solver, ahead)
        solved.append(1)

    interrupted._merge = stop_after
    with pytest.raises(InterruptedRunError):
        interrupted.cluster(points(x), ctx)
    assert (ctx.folder / CHECKPOINT_FILE).exists()
    ctx.stop.clear()
    resumed = Klish(config)
    merge_again, count = resumed._merge, []
    resumed._merge = lambda *a: (count.append(1), merge_again(*a))
    found = resumed.cluster(points(x), ctx)
    assert len(count) == 9 - after - 1
    assert torch.equal(found.weight, whole.weight)
    assert found.levels == whole.levels


def fit_error(tmp_path, generator, kind, match, **options):
    part = Klish(build_config(KlishConfig, {"k0": 6, "num_images": 4, "pixels_per_image": 50, **options}, "klish"))
    with pytest.raises(kind, match=match):
        part.fit(generator, context(tmp_path))
    assert part.classes == ()


def test_bad_input(tmp_path):
    toy = Toy(ToyConfig(size=32))
    with pytest.raises(ConfigError, match="more than the 6 clusters"):
        build_config(KlishConfig, {"k0": 6, "k": 7}, "klish")
    with pytest.raises(ConfigError, match="k or min_iou"):
        build_config(KlishConfig, {"k": 3, "min_iou": 0.5}, "klish")
    fit_error(tmp_path, fixtures.LimitedToy("features"), CapabilityError, "no feature maps")
    fit_error(tmp_path, toy, ConfigError, "memory_mib allows 1", memory_mib=1, num_images=256, pixels_per_image=1024)
    fit_error(tmp_path, toy, DataError, "cannot make 500 clusters", k0=500)
    toy.mix_full.fill_(float("nan"))
    fit_error(tmp_path, toy, DataError, "feature map 'full' holds NaN")


def test_constant_features_are_one_cluster(tmp_path):
    toy = Toy(ToyConfig(size=32))
    for name in ("quarter", "half", "full"):
        getattr(toy, f"mix_{name}").zero_()
    fit_error(tmp_path, toy, DataError, "one vector for all pixels")


def test_points_on_disk_give_the_same(tmp_path):
    toy = Toy(ToyConfig(size=32))
    options = {"k0": 6, "num_images": 6, "pixels_per_image": 60}
    parts = []
    for storage in ("memory", "disk"):
        part = Klish(build_config(KlishConfig, {**options, "storage": storage}, "klish"))
        part.fit(toy, context(tmp_path / storage))
        parts.append(part)
    assert torch.equal(parts[0].weight, parts[1].weight)
    assert list((tmp_path / "disk").glob("*.bin")) == []


def test_a_run_sharpens_its_masks_by_colours_but_not_under_the_paper():
    assert KlishConfig().suggested_refiners() == {"colours": {"smooth": 1.5}}
    assert KlishConfig(profile="paper").suggested_refiners() == {}
