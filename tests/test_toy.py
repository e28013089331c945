"""The toy generator: exact, deterministic, and built so that every method's premise holds."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gsegkit.builtin.native import Config, Native
from gsegkit.builtin.toy import CLASSES, LIGHT, Toy, ToyConfig
from gsegkit.clustering.config import KMeansConfig
from gsegkit.clustering.kmeans import TorchKMeans
from gsegkit.config import build_config
from gsegkit.context import RunContext
from gsegkit.errors import CapabilityError, ConfigError, ContractError
from gsegkit.images import to_pixels
from gsegkit.plugins import installed
from gsegkit.seeds import sample_seeds

SEEDS = sample_seeds(0, "test", 0, 48)
LUMA = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)


@pytest.fixture(scope="module")
def toy() -> Toy:
    return Toy(ToyConfig())


def iou(found: Tensor, truth: Tensor) -> float:
    """Foreground IoU per image, then mean."""
    inter, union = (found & truth).sum((1, 2)), (found | truth).sum((1, 2))
    return float((inter / union.clamp(min=1)).mean())


def miou(found: Tensor, truth: Tensor) -> float:
    ious = [((found == k) & (truth == k)).sum() / ((found == k) | (truth == k)).sum() for k in range(len(CLASSES))]
    return float(torch.stack(ious).mean())


# ---- the drawing ---------------------------------------------------------------------------------------------------


def test_truth_is_what_the_picture_was_composed_of(toy: Toy) -> None:
    batch = toy.sample(SEEDS)
    truth = toy.truth(batch)
    assert (batch.probs.sum(1) - 1).abs().max() < 1e-6
    assert batch.probs.min() >= 0
    cover = 1 - batch.probs[:, :1]
    composed = batch.layers["foreground"] * cover + batch.layers["background"] * (1 - cover)
    assert torch.allclose(composed, batch.images, atol=1e-6)
    assert set(truth.unique().tolist()) == {0, 1, 2, 3}
    share = (truth > 0).float().mean((1, 2))
    assert 0.05 < share.min() < 0.12
    assert 0.25 < share.max() < 0.45


def test_pictures_stay_near_the_nominal_range(toy: Toy) -> None:
    images = toy.sample(SEEDS).images
    assert images.abs().max() < 1.6
    assert (images.abs() > 1).float().mean() < 0.01


def test_a_sample_is_a_function_of_its_seed_alone(toy: Toy) -> None:
    whole = toy.sample(SEEDS[:7])
    for i in (0, 3, 6):
        alone = toy.sample(SEEDS[i : i + 1])
        assert torch.equal(whole.latents[i : i + 1], alone.latents)
        assert torch.equal(whole.labels[i : i + 1], alone.labels)
        assert torch.allclose(whole.images[i : i + 1], alone.images, atol=1e-5)


@pytest.mark.parametrize(
    "options", [{"size": 33, "width": 47}, {"size": 16}, {"size": 47, "width": 20, "num_classes": 0}]
)
def test_any_size_and_labels(options: dict) -> None:
    toy = Toy(ToyConfig(**options))
    names = tuple(spec.name for spec in toy.info.features)
    batch = toy.sample(SEEDS[:7], features=names)
    assert batch.images.shape == (7, 3, options["size"], options.get("width", options["size"]))
    for spec in toy.info.features:
        assert batch.features[spec.name].shape == (7, spec.channels, spec.height, spec.width)
    assert (batch.labels is None) == (options.get("num_classes") == 0)
    assert ((toy.truth(batch) > 0).float().mean((1, 2)) > 0.02).all()


def test_the_rest_of_a_longer_latent_stirs_the_background_only() -> None:
    toy = Toy(ToyConfig(latent_dim=33))
    latents, labels = toy.latents(SEEDS[:7]), toy.labels(SEEDS[:7])
    other = latents.clone()
    other[:, 10:] += 1
    one, two = toy.synthesize(latents, labels), toy.synthesize(other, labels)
    assert torch.equal(one.probs, two.probs)
    assert torch.equal(one.layers["foreground"], two.layers["foreground"])
    assert (one.layers["background"] - two.layers["background"]).abs().mean() > 0.02


def test_every_latent_and_the_label_matter(toy: Toy) -> None:
    latents, labels = toy.latents(SEEDS), toy.labels(SEEDS)
    images = toy.synthesize(latents, labels).images
    for axis in range(10):
        moved = latents.clone()
        moved[:, axis] += 1
        assert (toy.synthesize(moved, labels).images - images).abs().mean() > 0.005, axis
    assert (toy.synthesize(latents, (labels + 1) % 3).images - images).abs().mean() > 0.005


def test_gradients_reach_the_latents_and_are_finite(toy: Toy) -> None:
    latents = toy.latents(SEEDS[:7]).requires_grad_()
    batch = toy.synthesize(latents, toy.labels(SEEDS[:7]), features=("quarter",))
    (batch.images.square().mean() + batch.features["quarter"].square().mean()).backward()
    assert torch.isfinite(latents.grad).all()
    assert (latents.grad.abs().sum(0) > 0).all()


def test_gradient_at_the_origin_is_finite() -> None:
    toy = Toy(ToyConfig(size=17))  # odd size: a pixel lies exactly on the object's centre
    latents = torch.zeros(1, 10, requires_grad=True)
    toy.synthesize(latents, torch.zeros(1, dtype=torch.int64)).images.sum().backward()
    assert torch.isfinite(latents.grad).all()


def test_wrong_calls_are_named(toy: Toy) -> None:
    latents, labels = toy.latents(SEEDS[:2]), toy.labels(SEEDS[:2])
    with pytest.raises(ContractError, match=r"latents must be \[N, 10\], got \[2, 9\]"):
        toy.synthesize(latents[:, :9], labels)
    with pytest.raises(ContractError, match="labels"):
        toy.synthesize(latents)
    with pytest.raises(ContractError, match="no feature 'b64'"):
        toy.synthesize(latents, labels, features=("b64",))
    with pytest.raises(CapabilityError, match="no edit point 'const'"):
        toy.synthesize(latents, labels, edits={"const": torch.zeros_like})
    with pytest.raises(ConfigError, match="size"):
        build_config(ToyConfig, {"size": 8}, "gen")


# ---- premises of the methods ---------------------------------------------------------------------------------------


def test_an_axis_brightens_the_object_and_darkens_the_background(toy: Toy) -> None:
    latents, labels = toy.latents(SEEDS), toy.labels(SEEDS)
    shift = torch.zeros(1, 10)
    shift[0, LIGHT] = 1.5
    light, dark = (toy.synthesize(latents + sign * shift, labels).images for sign in (1, -1))
    found = ((light - dark) * LUMA).sum(1) > 0
    assert iou(found, toy.truth(toy.sample(SEEDS)) > 0) > 0.98


def test_no_other_axis_does(toy: Toy) -> None:
    latents, labels = toy.latents(SEEDS), toy.labels(SEEDS)
    truth = toy.truth(toy.sample(SEEDS)) > 0
    for axis in range(1, 10):
        shift = torch.zeros(1, 10)
        shift[0, axis] = 1.5
        light, dark = (toy.synthesize(latents + sign * shift, labels).images for sign in (1, -1))
        found = ((light - dark) * LUMA).sum(1) > 0
        assert max(iou(found, truth), iou(~found, truth)) < 0.6, axis


def _points(toy: Toy, purpose: str, name: str) -> tuple[Tensor, Tensor]:
    batch = toy.sample(sample_seeds(0, purpose, 0, 12), features=(name,))
    features = F.interpolate(batch.features[name], (64, 64), mode="bilinear")
    return features.permute(0, 2, 3, 1).flatten(0, 2), toy.truth(batch).flatten()


@pytest.mark.parametrize(("name", "floor"), [("quarter", 0.80), ("half", 0.90), ("full", 0.97)])
def test_features_separate_linearly_but_not_by_k_means(toy: Toy, name: str, floor: float) -> None:
    points, truth = _points(toy, "fit", name)
    held_out, held_truth = _points(toy, "test", name)

    # least squares on one-hot classes: the plainest linear classifier (measured: 0.89, 0.95, 0.99)
    ones = torch.ones(len(points), 1)
    weights = torch.linalg.lstsq(torch.cat([points, ones], 1), F.one_hot(truth.long(), 4).float()).solution
    linear = (torch.cat([held_out, ones], 1) @ weights).argmax(1)
    assert miou(linear, held_truth) > floor

    # k-means with the true number of clusters, every cluster named by an oracle (measured: 0.20)
    centres, _ = TorchKMeans(KMeansConfig()).fit(points[::4].contiguous(), 4, seed=0)
    clusters = torch.cdist(held_out, centres).argmin(1)
    named = torch.zeros_like(clusters)
    for cluster in range(4):
        inside = held_truth[clusters == cluster].long()
        named[clusters == cluster] = torch.bincount(inside, minlength=4).argmax() if len(inside) else 0
    assert miou(named, held_truth) < 0.35


def test_zeroing_the_object_leaves_the_background(toy: Toy) -> None:
    latents, labels = toy.latents(SEEDS), toy.labels(SEEDS)
    full = toy.synthesize(latents, labels, features=("full",))
    empty = toy.synthesize(latents, labels, features=("full",), edits={"object": torch.zeros_like})
    assert torch.equal(empty.images, full.layers["background"])
    assert (empty.probs[:, 0] == 1).all()
    assert not torch.equal(empty.features["full"], full.features["full"])
    truth = toy.truth(full) > 0
    changed = (full.images - empty.images).abs().sum(1) > 0.1
    assert iou(changed, truth) > 0.85


def test_replacing_the_object_moves_it(toy: Toy) -> None:
    latents, labels = toy.latents(SEEDS), toy.labels(SEEDS)
    mirrored = toy.synthesize(latents, labels, edits={"object": lambda activation: activation.flip(3)})
    assert torch.equal(toy.truth(mirrored), toy.truth(toy.sample(SEEDS)).flip(2))


def test_the_background_can_be_edited_too(toy: Toy) -> None:
    latents, labels = toy.latents(SEEDS[:4]), toy.labels(SEEDS[:4])
    plain = toy.synthesize(latents, labels, edits={"background": torch.zeros_like})
    assert torch.equal(plain.probs, toy.sample(SEEDS[:4]).probs)
    assert plain.images[toy.truth(plain).unsqueeze(1).expand(-1, 3, -1, -1) == 0].abs().mean() < 0.1


# ---- what must not solve it ----------------------------------------------------------------------------------------


def test_neither_a_threshold_nor_a_centre_prior_finds_the_object(toy: Toy) -> None:
    batch = toy.sample(sample_seeds(0, "test", 0, 128))
    truth, pixels = toy.truth(batch) > 0, to_pixels(batch.images).float()
    bright = torch.stack([image > _otsu(image) for image in (pixels * LUMA).sum(1)])
    assert iou(bright, truth) < 0.4  # measured 0.16
    best = torch.maximum(_ious(bright, truth), _ious(~bright, truth))
    assert best.mean() < 0.5  # with an oracle for the polarity; measured 0.31
    prior = truth.float().mean(0)
    centre = max(iou((prior > level).expand_as(truth), truth) for level in torch.arange(0.05, 0.9, 0.05))
    assert centre < 0.5  # the best constant mask; measured 0.39


def _ious(found: Tensor, truth: Tensor) -> Tensor:
    return (found & truth).sum((1, 2)) / (found | truth).sum((1, 2)).clamp(min=1)


def _otsu(values: Tensor) -> Tensor:
    share = torch.histc(values, 256, 0, 255) / values.numel()
    below, mean = share.cumsum(0), (share * torch.arange(256)).cumsum(0)
    return ((mean[-1] * below - mean) ** 2 / (below * (1 - below)).clamp(min=1e-9)).argmax()


@pytest.mark.slow
def test_a_small_network_learns_it(toy: Toy) -> None:
    from torch import nn

    torch.manual_seed(0)
    widths = [3, 16, 32, 32, 16]
    layers = [
        layer
        for i, (a, b, dilation) in enumerate(zip(widths[:-1], widths[1:], (1, 2, 4, 8), strict=True))
        for layer in (
            nn.Conv2d(a, b, 3 if i else 5, padding=dilation if i else 2, dilation=dilation),
            nn.BatchNorm2d(b),
            nn.ReLU(),
        )
    ]
    network = nn.Sequential(*layers, nn.Conv2d(16, 4, 1))
    batch = toy.sample(sample_seeds(0, "dataset", 0, 500))
    images, masks = batch.images, toy.truth(batch).long()
    optimiser = torch.optim.AdamW(network.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-2, total_steps=300)
    for _ in range(300):
        rows = torch.randint(0, 500, (16,))
        optimiser.zero_grad()
        F.cross_entropy(network(images[rows]), masks[rows]).backward()
        optimiser.step()
        schedule.step()
    test = toy.sample(SEEDS)
    with torch.no_grad():
        found = network.eval()(test.images).argmax(1)
    assert iou(found > 0, toy.truth(test) > 0) > 0.9


@pytest.mark.gpu
def test_the_same_pictures_on_cuda(toy: Toy) -> None:
    names = tuple(spec.name for spec in toy.info.features)
    here, there = toy.sample(SEEDS, features=names), Toy(ToyConfig()).cuda().sample(SEEDS, features=names)
    assert there.images.is_cuda
    assert there.labels.is_cuda
    assert torch.equal(here.latents, there.latents.cpu())
    assert torch.allclose(here.images, there.images.cpu(), atol=1e-4)
    for name in names:
        assert torch.allclose(here.features[name], there.features[name].cpu(), atol=1e-3)


# ---- native --------------------------------------------------------------------------------------------------------


def test_native_reads_the_masks(toy: Toy, tmp_path) -> None:
    extractor = Native(Config())
    extractor.fit(toy, RunContext(tmp_path))
    assert extractor.classes == CLASSES
    batch = toy.sample(SEEDS[:7])
    found = extractor.extract(batch, toy)
    assert torch.equal(found.probs, batch.probs)
    assert torch.allclose(found.scores["coverage"], 1 - batch.probs[:, 0].mean((1, 2)))


def test_native_refuses_a_generator_without_masks(tmp_path) -> None:
    class Bare(Toy):
        def __init__(self) -> None:
            super().__init__(ToyConfig(size=16))
            self.info = self.info.__class__(**{**self.info.__dict__, "mask_classes": ()})

    with pytest.raises(CapabilityError, match="'native' needs a generator that emits masks, and Bare does not"):
        Native(Config()).fit(Bare(), RunContext(tmp_path))


def test_the_built_in_parts_are_found() -> None:
    registry = installed()
    for kind, name in (("generator", "toy"), ("extractor", "native"), ("kmeans", "torch")):
        assert registry.find(kind, f"{name}@gsegkit").component.summary
    assert "trainable" not in registry.find("generator", "toy").component.provides
