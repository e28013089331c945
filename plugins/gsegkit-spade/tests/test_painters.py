"""The painters `spade` and `oasis`: what their options do, and that they learn and resume."""

import pytest
import torch
from gsegkit_spade.config import OasisConfig, SpadeConfig
from gsegkit_spade.encoder import Encoder
from gsegkit_spade.oasis import OasisPainter
from gsegkit_spade.spade import SpadePainter
from gsegkit_spade.vgg import Vgg

from gsegkit.builtin.toy import Toy, ToyConfig
from gsegkit.config import build_config
from gsegkit.context import RunContext
from gsegkit.dataset import MemoryDataset
from gsegkit.errors import ArtifactError, ConfigError, InterruptedRunError
from gsegkit.images import to_pixels
from gsegkit.seeds import sample_seeds

SMALL = {"latent_dim": 4, "width": 4, "width_max": 8, "hidden": 6, "batch_size": 4, "discriminator_width": 4}
PAINTERS = {"spade": (SpadePainter, SpadeConfig), "oasis": (OasisPainter, OasisConfig)}


def pairs(count=12, size=16):
    toy = Toy(ToyConfig(size=size))
    batch = toy.sample(sample_seeds(0, "dataset", 0, count))
    return MemoryDataset(to_pixels(batch.images), toy.truth(batch), toy.info.mask_classes)


def fit(folder, name, dataset, stop_after=None, **options):
    kind, config = PAINTERS[name]
    ctx = RunContext(folder, seed=3, checkpoint_seconds=0 if stop_after else 1e9)
    painter = kind(config(**{**SMALL, "statistics_batches": 2, "steps": 3, **options}))
    if stop_after:
        ctx.progress.advance = lambda done, values: ctx.stop.set() if done >= stop_after else None
        with pytest.raises(InterruptedRunError):
            painter.fit(dataset, ctx)
        ctx.stop.clear()
        del ctx.progress.advance
        painter = kind(painter.config)
    painter.fit(dataset, ctx)
    return painter


def paint(painter, dataset, count=2):
    return painter.paint(dataset.masks[:count], painter.latents(torch.arange(count)))


@pytest.fixture
def vgg(tmp_path, monkeypatch):
    """A file with VGG-19's names and layers, an eighth as wide."""
    layers = tuple(one // 8 for one in (64, 64, 0, 128, 128, 0, 256, 256, 256, 256, 0, 512, 512, 512, 512, 0, 512))
    monkeypatch.setattr("gsegkit_spade.vgg.LAYERS", layers)
    torch.manual_seed(0)
    state, inputs, index = {"classifier.0.weight": torch.zeros(2, 2)}, 3, 0
    for outputs in layers:
        if outputs:
            state[f"features.{index}.weight"] = torch.randn(outputs, inputs, 3, 3) / (3 * inputs**0.5)
            state[f"features.{index}.bias"] = torch.randn(outputs) / 10
        inputs, index = outputs or inputs, index + (2 if outputs else 1)
    torch.save(state, tmp_path / "vgg19.pth")
    return tmp_path / "vgg19.pth"


def test_an_interrupted_training_with_encoder_and_vgg_ends_with_the_same_bits(tmp_path, vgg):
    options = {"steps": 4, "encoder": True, "perceptual_weights": str(vgg), "flip": True}
    whole = fit(tmp_path / "whole", "spade", pairs(), **options)
    again = fit(tmp_path / "again", "spade", pairs(), 2, **options)
    assert torch.equal(paint(whole, pairs()), paint(again, pairs()))
    drawn = fit(tmp_path / "drawn", "spade", pairs(), **{**options, "encoder": False})
    assert not torch.equal(paint(whole, pairs()), paint(drawn, pairs()))
    assert whole.state_dict().keys() == drawn.state_dict().keys()  # encoder and VGG serve the training alone


def test_vgg_compares_the_five_maps_with_their_weights(tmp_path, vgg):
    network = Vgg(str(vgg), (16, 16))
    one, two = torch.rand(2, 3, 16, 16, requires_grad=True), torch.rand(2, 3, 16, 16)
    x, maps = one, []
    state = torch.load(vgg)
    for index, pools in ((0, 0), (2, 1), (5, 0), (7, 1), (10, 0), (12, 0), (14, 0), (16, 1), (19, 0), (21, 0), (23, 0),
                         (25, 1), (28, 0)):  # fmt: skip
        x = torch.conv2d(x, state[f"features.{index}.weight"], state[f"features.{index}.bias"], padding=1).relu()
        if index in (0, 5, 10, 19, 28):
            maps.append(x)
        x = torch.max_pool2d(x, 2) if pools else x
    found = network.maps(one)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(found, maps, strict=True))
    distance = network.distance(one, two)
    weighted = [
        (a - b).abs().mean() / 2 ** (5 - i if i < 4 else 0)
        for i, (a, b) in enumerate(zip(found, network.maps(two), strict=True))
    ]
    assert float(distance.detach()) == pytest.approx(float(sum(weighted).detach()), rel=1e-5)
    distance.backward()
    assert bool(one.grad.any())
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_files_that_are_no_vgg_are_refused(tmp_path, vgg):
    state = torch.load(vgg)
    with pytest.raises(ConfigError, match="too small for VGG-19"):
        Vgg(str(vgg), (15, 40))
    for name, broken, message in (
        ("lacks", {key: value for key, value in state.items() if key != "features.28.weight"}, "has no 'features.28"),
        ("nan", {**state, "features.5.bias": state["features.5.bias"] * float("nan")}, "finite"),
        ("shape", {**state, "features.5.bias": torch.zeros(3)}, "expected"),
    ):
        torch.save(broken, tmp_path / f"{name}.pth")
        with pytest.raises(ArtifactError, match=message):
            Vgg(str(tmp_path / f"{name}.pth"), (16, 16))


def test_the_profile_paper_does_not_leave_its_main_term_out_in_silence():
    with pytest.raises(ConfigError, match="perceptual_weights=PATH, or perceptual=0"):
        build_config(SpadeConfig, {"profile": "paper"}, "painter")
    paper = build_config(SpadeConfig, {"profile": "paper", "perceptual_weights": "vgg19.pth"}, "painter")
    assert (paper.lr, paper.lr_discriminator, paper.kl, paper.perceptual, paper.feature_matching) == (
        1e-4, 4e-4, 0.05, 10.0, 10.0,
    )  # fmt: skip
    assert build_config(OasisConfig, {"profile": "paper"}, "painter").perceptual == 0


def test_networks_of_the_profile_paper_are_the_published_ones(tmp_path):
    spade = SpadePainter(SpadeConfig(profile="paper", perceptual=0))
    spade.classes, spade.train_size = ("a", "b"), (256, 256)
    assert spade.arch().channels == (1024, 1024, 1024, 1024, 512, 256, 128, 64)
    assert spade.arch().coarsest == (8, 8)
    oasis = OasisPainter(OasisConfig(profile="paper"))
    oasis.classes, oasis.train_size = ("a", "b"), (256, 512)
    assert oasis.arch().channels == (1024, 1024, 1024, 512, 256, 128, 64)
    assert (oasis.arch().coarsest, oasis.arch().start, oasis.arch().noise) == ((8, 16), "labels", True)


@pytest.mark.parametrize("options", [{"layout": "published"}, {"start": "labels"}, {"label_mix": 0.0}])
def test_each_option_of_oasis_changes_what_is_learned(tmp_path, options):
    default, other = fit(tmp_path / "a", "oasis", pairs()), fit(tmp_path / "b", "oasis", pairs(), **options)
    assert not torch.equal(paint(default, pairs()), paint(other, pairs()))


def test_the_encoder_gives_latents_near_the_noise_at_first_and_pays_for_distance():
    torch.manual_seed(0)
    encoder, noise = Encoder((40, 33), 6, 4, 0.05), torch.randn(3, 6)
    z, losses = encoder(torch.rand(3, 3, 40, 33), noise)
    assert torch.allclose(z, noise, atol=0.2)
    with torch.no_grad():
        encoder.mean.bias += 2
    farther = encoder(torch.rand(3, 3, 40, 33), noise)[1]["kl"]
    assert float(farther.detach()) == pytest.approx(float(losses["kl"].detach()) + 0.05 * 6 * 2, rel=0.05)


COLOURS = torch.tensor([[40, 40, 60], [220, 60, 50], [60, 210, 80]])


@pytest.mark.slow
@pytest.mark.parametrize("name", PAINTERS)
def test_it_learns_the_classes_colours(tmp_path, name):
    """As the test of class-adaptive: without a segmenter, every class gets a colour that is nearest to its own."""
    masks = torch.zeros(64, 16, 16, dtype=torch.uint8)
    random = torch.Generator().manual_seed(0)
    for index in range(64):
        y, x = torch.randint(0, 8, (2,), generator=random).tolist()
        masks[index, y : y + 8, x : x + 8] = 1 + index % 2
    brightness = torch.randint(-25, 26, (64, 1, 1, 1), generator=random)
    pixels = (COLOURS[masks.long()].permute(0, 3, 1, 2) + brightness).clamp(0, 255).to(torch.uint8)
    dataset = MemoryDataset(pixels[:56], masks[:56], ("ground", "red", "green"))
    wider = {"steps": 150, "batch_size": 8, "width": 8, "width_max": 16, "hidden": 12, "lr": 4e-3}
    painter = fit(tmp_path, name, dataset, **wider, lr_discriminator=1e-3, discriminator_width=8)
    unseen = masks[56:]
    found = to_pixels(painter.paint(unseen, painter.latents(torch.arange(8)))).permute(0, 2, 3, 1)
    for value in range(3):
        mean = found[unseen == value].float().mean(0)
        assert int((COLOURS - mean).abs().sum(1).argmin()) == value
