"""Position is taken out of the features by symmetry, and the classifiers know it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from gsegkit.clustering.config import ClusterConfig, KMeansConfig
from gsegkit.clustering.extractor import ClusterExtractor, Clustering, Partition, centre_classifiers
from gsegkit.clustering.kmeans import TorchKMeans
from gsegkit.clustering.points import Points, collect_points, mirrored_axes, select_layers
from gsegkit.clustering.position import PlaceMeans, fold, position_directions, project_out
from gsegkit.config import Config
from gsegkit.context import RunContext
from gsegkit.interfaces import Generator
from gsegkit.parts import load_part, save_part
from gsegkit.seeds import normals
from gsegkit.testing.fixtures import seeds
from gsegkit.types import FeatureSpec, GeneratedBatch, GeneratorInfo

SIDE, CONTENT, PLACE, NOISE, GRID = 32, 6, 10, 0.05, 16


class Placed(Generator):
    """Two kinds of stripes at random; its features know the kind, and more strongly where the pixel is.

    Half of its pictures are flipped, so that content is symmetric on average; position is not.
    """

    def __init__(self, mirrored: str = "x") -> None:
        super().__init__(Config())
        spec = FeatureSpec("f", CONTENT + PLACE, SIDE, SIDE)
        self.info = GeneratorInfo(SIDE, SIDE, (4,), features=(spec,), mirrored=mirrored)
        random = torch.Generator().manual_seed(0)
        mix, _ = torch.linalg.qr(torch.randn(CONTENT + PLACE, CONTENT + PLACE, generator=random))
        ramp = torch.linspace(-1, 1, SIDE)
        self.place = 3 * torch.stack([ramp, ramp.sign(), ramp**3]).repeat(4, 1)[:PLACE]  # [PLACE, W], odd in x
        self.register_buffer("mix", mix)

    def latents(self, seeds: Tensor) -> Tensor:
        return normals(seeds, (4,))

    def truth(self, batch: GeneratedBatch) -> Tensor:
        across = torch.linspace(-1, 1, SIDE).expand(len(batch), 1, SIDE)
        phase, flip = batch.latents[:, 0].view(-1, 1, 1), batch.latents[:, 1].view(-1, 1, 1) > 0
        across = torch.where(flip, -across, across)
        return (torch.sin(5 * across + 4 * phase) > 0).expand(-1, SIDE, SIDE).to(torch.uint8)

    def synthesize(self, latents, labels=None, *, features=(), edits=None):
        n = len(latents)
        empty = GeneratedBatch(torch.zeros(n, 3, SIDE, SIDE), latents)
        kind = self.truth(empty).float()[:, None] * 2 - 1
        content = torch.cat([kind, 0.2 * latents[:, :, None, None].expand(-1, -1, SIDE, SIDE), 0 * kind], dim=1)
        place = self.place[None, :, None, :].expand(n, -1, SIDE, SIDE)
        maps = torch.einsum("cd,ndhw->nchw", self.mix, torch.cat([content, place], dim=1))
        noise = NOISE * normals(torch.arange(n), (CONTENT + PLACE, SIDE, SIDE))
        return replace(empty, features={"f": maps + noise} if features else {})


class Means(ClusterExtractor):
    """Plain k-means."""

    def cluster(self, points: Points, ctx: RunContext) -> Clustering:
        k = self.config.k
        centres, leaf = TorchKMeans(KMeansConfig(num_starts=4)).fit(points.x, k, 0)
        level = Partition(tuple(range(k)), tuple(range(k)), tuple(range(k)))
        return Clustering(leaf, {k: level}, *centre_classifiers(centres))


def fitted(folder, k=2, generator=None, **options) -> Means:
    part = Means(ClusterConfig(num_images=64, pixels_per_image=200, k=k, **options))
    part.fit(generator or Placed(), RunContext(folder, seed=1))
    return part


def agreement(part: Means, truth_of: str) -> float:
    """How well two clusters follow the kind of stripe, or the half of the picture: .5 (not) to 1."""
    generator = Placed()
    batch = generator.sample(seeds(32), features=("f",))
    found = part.extract(batch, generator).probs.argmax(dim=1)
    left = (torch.arange(SIDE) < SIDE // 2).expand(len(batch), SIDE, SIDE)
    truth = generator.truth(batch) > 0 if truth_of == "kind" else left
    same = float(((found > 0) == truth).float().mean())
    return max(same, 1 - same)


def test_clusters_stop_depending_on_position(tmp_path):
    before = fitted(tmp_path / "a", mirrored="none")
    after = fitted(tmp_path / "b", mirrored="x")
    assert agreement(before, "half") > 0.95
    assert agreement(before, "kind") < 0.7
    assert agreement(after, "kind") > 0.98
    assert agreement(after, "half") < 0.7


def test_the_classifiers_are_those_of_projected_features(tmp_path):
    part = fitted(tmp_path, k=5, mirrored="x")
    generator = Placed()
    points = collect_points(generator, part.config, RunContext(tmp_path, seed=1))
    assert points.position is not None
    assert torch.allclose(part.weight @ points.position, torch.zeros(()), atol=1e-5)
    raw = collect_points(generator, part.config.model_copy(update={"mirrored": "none"}), RunContext(tmp_path, seed=1))
    assert not torch.allclose(raw.x, points.x, atol=0.1)
    scores = raw.x @ part.weight.T
    assert torch.allclose(scores, points.x @ part.weight.T, atol=1e-4 * float(scores.abs().max()))


def test_off_changes_nothing(tmp_path):
    """Bit for bit: without mirrored axes no pass over the points is made, and no fact is stored."""
    one, two = fitted(tmp_path / "a", mirrored="none"), fitted(tmp_path / "b", mirrored="auto", generator=Placed(""))
    assert torch.equal(one.weight, two.weight)
    assert torch.equal(one.bias, two.bias)
    assert "position_rank" not in two.fit_facts


def test_auto_takes_the_generators_word(tmp_path):
    assert mirrored_axes(Placed("xy").info, ClusterConfig(mirrored="auto")) == "xy"
    assert mirrored_axes(Placed("xy").info, ClusterConfig(mirrored="none")) == ""
    assert mirrored_axes(Placed("").info, ClusterConfig(mirrored="y")) == "y"
    auto, given = fitted(tmp_path / "a", mirrored="auto"), fitted(tmp_path / "b", mirrored="x")
    assert torch.equal(auto.weight, given.weight)


def test_rank_is_chosen_by_what_both_halves_show(tmp_path):
    """The places differ by three functions, which lie in a few directions; 64 pictures' noise lies in all."""
    part = fitted(tmp_path, mirrored="x")
    assert 3 <= part.fit_facts["position_rank"] <= 6
    assert fitted(tmp_path / "c", mirrored="x", position_rank=1).fit_facts["position_rank"] == 1
    nothing = fitted(tmp_path / "d", mirrored="x", position_rank=0)
    assert torch.equal(nothing.weight, fitted(tmp_path / "e", mirrored="none").weight)


def test_noise_alone_has_few_directions():
    halves = torch.randn(2, GRID, GRID, 40, generator=torch.Generator().manual_seed(0))
    assert position_directions(halves, "xy").shape[1] <= 4
    assert position_directions(halves * 0, "x").shape == (40, 0)


def test_directions_are_orthonormal_and_projection_is_exact():
    halves = torch.randn(1, GRID, GRID, 12, generator=torch.Generator().manual_seed(0)).expand(2, -1, -1, -1)
    directions = position_directions(halves, "x", 5)
    assert torch.allclose(directions.T @ directions, torch.eye(5), atol=1e-5)
    x, weight = torch.randn(50, 12), torch.randn(3, 12)
    projected = x.clone()
    project_out(projected, directions)
    assert float((projected @ directions).abs().max()) < 1e-5
    assert torch.allclose(projected @ weight.T, x @ fold(weight, directions).T, atol=1e-5)


@pytest.mark.parametrize("sizes", [(7,), (3, 4), (1, 5, 1)])
def test_means_do_not_depend_on_the_batches(sizes):
    maps = torch.randn(7, 5, 20, 24, generator=torch.Generator().manual_seed(0))
    means, first = PlaceMeans(5, torch.device("cpu"), GRID), 0
    for part in torch.split(maps, list(sizes)):
        means.add(means.pooled({"f": part}, ("f",)), first)
        first += len(part)
    assert means.counts == [4, 3]
    pooled = torch.nn.functional.adaptive_avg_pool2d(maps, GRID).permute(0, 2, 3, 1).double()
    assert torch.allclose(means.halves(), torch.stack([pooled[::2].mean(0), pooled[1::2].mean(0)]), atol=1e-6)


def test_old_parts_load_and_new_ones_come_back(tmp_path):
    part = fitted(tmp_path / "fit", k=3, mirrored="x")
    save_part(part, tmp_path / "part", "extractor", "means")
    again = Means(ClusterConfig(k=3))
    load_part(again, tmp_path / "part")
    assert torch.equal(part.weight, again.weight)
    assert again.fit_facts["position_rank"] == part.fit_facts["position_rank"]


@pytest.mark.parametrize(
    ("side", "options", "read"),
    [
        (1024, {}, [32, 64, 1024]),  # a floor in pixels, not a share of the image
        (64, {}, [32, 64]),
        (28, {}, [14, 28]),  # small images keep their map of half the size
        (64, {"min_size": None}, [32, 64]),
        (64, {"min_scale": 0}, [4, 8, 16, 32, 64]),  # the paper's rule
        (64, {"min_size": 16}, [16, 32, 64]),
    ],
)
def test_which_maps_are_read(side, options, read):
    sizes = sorted({4, 8, 16, 32, 64, side} if side > 28 else {7, 14, 28})
    specs = tuple(FeatureSpec(str(s), 10, s, s) for s in sizes if s <= side)
    info = GeneratorInfo(side, side, (4,), features=specs)
    assert [int(name) for name in select_layers(info, ClusterConfig(**options))] == read


def test_the_coarse_cut_has_no_tiny_cluster(tmp_path):
    part = fitted(tmp_path, k=4, coarse_share=0.01)
    ids = tuple(range(9))
    rows = {k: {"ids": list(ids[:k]), "shares": shares, "rows": list(ids[:k]), "owners": [], "scale": 1.0, "facts": {}}
            for k, shares in ((2, [0.6, 0.4]), (3, [0.5, 0.3, 0.2]), (4, [0.5, 0.3, 0.195, 0.005]), (9, [1 / 9] * 9))}  # fmt: skip
    part._set_table(rows)
    assert part.coarse == 3
    part.config = part.config.model_copy(update={"coarse_share": 0.0})
    assert part.coarse == 4
    assert part.facts()["coarse"] == 4
    part.cut(part.coarse)
    assert len(part.classes) == 4
