import gsegkit_eval
import numpy as np
import pytest
import torch
from gsegkit_eval.frechet import Backbone, frechet_distance

from gsegkit.builtin.config import ToyConfig
from gsegkit.builtin.toy import Toy
from gsegkit.context import RunContext
from gsegkit.dataset import UnlabelledImages
from gsegkit.errors import ConfigError, DataError
from gsegkit.images import to_pixels, write_png
from gsegkit.plugins import Registry
from gsegkit.seeds import sample_seeds

REGISTRY = Registry()
REGISTRY.add(gsegkit_eval, "gsegkit-eval")
SIDE = 32


@pytest.fixture
def toy():
    return Toy(ToyConfig(size=SIDE))


def photographs(folder, pixels):
    for i, row in enumerate(pixels):
        write_png(folder / f"{i:03d}.png", row)
    return UnlabelledImages(tuple(sorted(folder.glob("*.png"))))


def compare(generator, images, tmp_path, seed=0, **options):
    part = REGISTRY.build("generator-evaluator", "frechet", {"num_samples": 64, **options})
    return part.evaluate(generator, images, RunContext(tmp_path / "never-written", seed=seed))


# ---- the distance ------------------------------------------------------------------------------------------------


def test_distance_of_two_gaussians_is_the_formula():
    """Samples that are whitened exactly, then given means and diagonal covariances: (m1 - m2)^2 + (s1 - s2)^2."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((500, 3))
    x -= x.mean(0)
    x = x @ np.linalg.inv(np.linalg.cholesky(np.cov(x, rowvar=False))).T
    one, two = np.array([1.0, 2.0, 0.5]), np.array([3.0, 2.0, 1.0])
    shift = np.array([0.0, 1.0, -2.0])
    assert frechet_distance(x * one, x * two + shift) == pytest.approx(5 + 4 + 0.25, abs=1e-9)
    turned = np.linalg.qr(rng.standard_normal((3, 3)))[0]  # neither mean nor scale depend on the axes
    assert frechet_distance(x * one @ turned, (x * two + shift) @ turned) == pytest.approx(9.25, abs=1e-9)


def test_distance_of_covariances_that_do_not_commute():
    """tr (A B)^(1/2) = tr (A^(1/2) B A^(1/2))^(1/2), by symmetric square roots."""
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((300, 4)) @ rng.standard_normal((4, 4)), rng.standard_normal((200, 4)) + 1

    def root(matrix):
        values, vectors = np.linalg.eigh(matrix)
        return vectors * np.sqrt(values.clip(0)) @ vectors.T

    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    inner = root(root(cov_a) @ cov_b @ root(cov_a))
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov_a + cov_b - 2 * inner)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)


def test_more_features_than_rows():
    """Singular covariances: a set has distance 0 from itself, and the shift's square from a shifted one."""
    x = np.random.default_rng(2).standard_normal((20, 50))
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-4)
    assert frechet_distance(x, x + 1) == pytest.approx(50, abs=1e-4)


# ---- the backbone ------------------------------------------------------------------------------------------------


def test_random_backbone_depends_on_its_seed_alone():
    images = torch.rand(3, 3, 40, 32) * 2 - 1
    before = torch.get_rng_state()
    one, two, other = Backbone(seed=3), Backbone(seed=3), Backbone(seed=4)
    assert torch.equal(before, torch.get_rng_state())
    assert one(images).shape == (3, 64 + 128 + 256)
    assert one(images).dtype == torch.float64
    assert torch.equal(one(images), two(images))
    assert not torch.allclose(one(images), other(images))
    assert torch.equal(one(images * 5), one((images * 5).clamp(-1, 1)))
    assert "resnet18, random weights of seed 3" in one.title


def test_a_backbone_of_another_name_and_stage():
    backbone = Backbone("mobilenetv3_small_050", stages=(0, 2))
    assert backbone(torch.zeros(2, 3, 64, 64)).shape == (2, sum(backbone.network.feature_info.channels()))
    assert "mobilenetv3_small_050" in backbone.title
    assert "stages 0, 2" in backbone.title


@pytest.mark.parametrize("options", [{"backbone": "no-such-network"}, {"stages": (1, 99)}])
def test_a_backbone_that_timm_does_not_have(options, toy, tmp_path):
    images = photographs(tmp_path, to_pixels(toy.sample(sample_seeds(0, "fit", 0, 8)).images))
    with pytest.raises(ConfigError, match="timm has no backbone") as caught:
        compare(toy, images, tmp_path, **options)
    assert "timm.list_models()" in caught.value.hint


def test_pretrained_weights_without_a_network_are_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # as HF_HUB_OFFLINE=1 does
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ConfigError, match="timm has no backbone") as caught:
        Backbone("resnet10t", pretrained=True)
    assert "pretrained=false" in caught.value.hint


# ---- the evaluator -----------------------------------------------------------------------------------------------


def test_own_pictures_are_near_and_a_bare_layer_is_far(toy, tmp_path):
    """Photographs are other pictures of the toy: its composites are as near as halves of them, its grounds are not."""
    images = photographs(tmp_path, to_pixels(toy.sample(sample_seeds(5, "validation", 0, 64)).images))
    report = compare(toy, images, tmp_path)
    m = report.metrics
    assert {"distance_background", "distance_foreground"} < set(m)
    assert m["distance"] < m["distance_halves"]  # 64 with 64 against 32 with 32
    assert m["distance_background"] > 2 * m["distance"]
    assert m["distance_background"] / m["distance"] == pytest.approx(m["frechet_background"] / m["frechet"])
    assert m["num_samples"] == m["num_images"] == 64
    assert set(report.definitions) == set(m)
    assert "bare layer 'background'" in report.definitions["distance_background"]
    assert any("no" in note and "FID" in note for note in report.notes)
    assert not (tmp_path / "never-written").exists()


def test_all_as_background_shows(toy, tmp_path):
    """Photographs of bare grounds: the background is nearer to them than the picture, which is what bg-FID is for."""
    grounds = toy.sample(sample_seeds(5, "validation", 0, 64)).layers["background"]
    m = compare(toy, photographs(tmp_path, to_pixels(grounds)), tmp_path).metrics
    assert m["distance_background"] < m["distance"]


def test_count_seed_and_generator_without_layers(toy, tmp_path):
    pixels = to_pixels(toy.sample(sample_seeds(5, "validation", 0, 40)).images)
    images = photographs(tmp_path, pixels)
    few = compare(toy, images, tmp_path, num_samples=20).metrics
    assert (few["num_samples"], few["num_images"]) == (20, 20)
    assert compare(toy, images, tmp_path).metrics["num_images"] == 40
    assert (
        compare(toy, images, tmp_path, seed=1).metrics["distance"] != compare(toy, images, tmp_path).metrics["distance"]
    )

    class Flat(Toy):
        def synthesize(self, *args, **kwargs):
            batch = super().synthesize(*args, **kwargs)
            return type(batch)(batch.images, batch.latents, batch.labels, batch.seeds)

    flat = compare(Flat(ToyConfig(size=SIDE)), images, tmp_path)
    assert not [name for name in flat.metrics if "ground" in name]


def test_too_few_and_equal_photographs(toy, tmp_path):
    pixels = to_pixels(toy.sample(sample_seeds(5, "validation", 0, 7)).images)
    with pytest.raises(DataError, match="7 photographs are too few") as caught:
        compare(toy, photographs(tmp_path / "few", pixels), tmp_path)
    assert "at least 8" in caught.value.hint
    with pytest.raises(DataError, match="the same features"):
        compare(toy, photographs(tmp_path / "same", pixels[:1].expand(9, -1, -1, -1)), tmp_path)


def test_pictures_that_are_not_finite(toy, tmp_path):
    images = photographs(tmp_path, to_pixels(toy.sample(sample_seeds(5, "validation", 0, 8)).images))

    class Broken(Toy):
        def synthesize(self, *args, **kwargs):
            batch = super().synthesize(*args, **kwargs)
            batch.images[0, 0, 3] = float("nan")
            return batch

    with pytest.raises(DataError, match="not finite"):
        compare(Broken(ToyConfig(size=SIDE)), images, tmp_path)
