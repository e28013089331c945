"""The generators as parts: same image in any batch, named activations, edits, spaces, weights from folders."""

import json

import pytest
import torch
from gsegkit_stylegan.config import PGGANConfig, StyleGAN2Config, StyleGANConfig
from gsegkit_stylegan.pggan import PGGAN
from gsegkit_stylegan.stylegan import StyleGAN
from gsegkit_stylegan.stylegan2 import StyleGAN2

from gsegkit.engine.choices import choose
from gsegkit.engine.plan import Plan
from gsegkit.errors import ArtifactError, CapabilityError, ConfigError, ContractError, UnknownPluginError
from gsegkit.parts import save_part
from gsegkit.plugins import installed
from gsegkit.seeds import sample_seeds
from gsegkit.tensors import state_hash

SMALL = {"resolution": 16, "channel_base": 128, "channel_max": 8, "z_dim": 10}
STYLED = {**SMALL, "w_dim": 9, "mapping_layers": 2}
SEEDS = sample_seeds(0, "preview", 0, 7)


def make(name, **options):
    if name == "pggan":
        return PGGAN(PGGANConfig(**{**SMALL, **options}))
    if name == "stylegan":
        part = StyleGAN(StyleGANConfig(**{**STYLED, **options}))
    else:
        part = StyleGAN2(StyleGAN2Config(**{**STYLED, **options}))
    torch.manual_seed(1)
    for key, value in part.state_dict().items():  # noise that is heard, and a mean that is not zero
        if key.endswith(("noise_strength", "w_avg")):
            value.add_(torch.randn(value.shape))
    return part


@pytest.fixture(params=["stylegan2", "stylegan", "pggan"])
def name(request):
    return request.param


def test_sample_i_is_the_same_image_in_any_batch_and_order(name):
    part = make(name, num_classes=3)
    whole = part.sample(SEEDS).images
    for rows in ([3], [6, 0], [5, 4, 3, 2, 1, 0, 6], list(range(7))):
        images = part.sample(SEEDS[rows]).images
        assert (images - whole[rows]).abs().max() < 2e-5


def test_features_are_the_declared_activations(name):
    part = make(name)
    features = tuple(spec.name for spec in part.info.features)
    first = "b4.conv1" if name == "stylegan2" else "b4.conv0"
    assert features[0] == first
    assert features[-2:] == ("b16.conv0", "b16.conv1")
    batch = part.sample(SEEDS, features=features)
    for spec in part.info.features:
        assert batch.features[spec.name].shape == (7, spec.channels, spec.height, spec.width)
    assert [spec.height for spec in part.info.features] == sorted(spec.height for spec in part.info.features)
    with pytest.raises(ContractError, match=r"b32\.conv1"):
        part.sample(SEEDS, features=("b32.conv1",))


def test_the_last_feature_makes_the_image():
    """`b16.conv1` is post-activation: toRGB of it, by hand, gives the image of an `orig` network."""
    part = make("stylegan2", architecture="orig")
    batch = part.sample(SEEDS, features=("b16.conv1",))
    block = part.network.synthesis.b16
    ws = part.layer_inputs(batch.latents, None)
    torch.testing.assert_close(block.torgb(batch.features["b16.conv1"], ws[:, -1]), batch.images)
    assert (batch.features["b16.conv1"] < 0).float().mean() < 0.9
    ratio = -batch.features["b16.conv1"].min() / batch.features["b16.conv1"].max()
    assert ratio < 1  # leaky: the negative side is five times smaller


@pytest.mark.parametrize("point", ["b4.const", "b4.conv1", "b8.conv0", "b16.conv1"])
def test_edits_reach_everything_after_them(point):
    part = make("stylegan2")
    latents = part.latents(SEEDS)
    features = tuple(spec.name for spec in part.info.features)
    plain = part.synthesize(latents, features=features)
    edited = part.synthesize(latents, features=features, edits={point: lambda x: x + 1})
    order = ["b4.const", *features]
    for feature in features:
        same = torch.allclose(plain.features[feature], edited.features[feature], atol=1e-6)
        assert same == (order.index(feature) < order.index(point)), feature
    assert not torch.allclose(plain.images, edited.images, atol=1e-3)
    torch.testing.assert_close(part.synthesize(latents).images, plain.images)


def test_the_constant_can_be_edited_per_sample():
    part = make("stylegan2")
    latents = part.latents(SEEDS)
    other = torch.randn(8, 4, 4)

    def third(x):
        return torch.where((torch.arange(len(x)) == 2)[:, None, None, None], other, x)

    plain, edited = part.synthesize(latents).images, part.synthesize(latents, edits={"b4.const": third}).images
    changed = (plain - edited).abs().amax(dim=(1, 2, 3)) > 1e-3
    assert changed.tolist() == [i == 2 for i in range(7)]


def test_unknown_edit_point(name):
    part = make(name)
    with pytest.raises(CapabilityError, match="b64"):
        part.synthesize(part.latents(SEEDS), edits={"b64.conv1": torch.zeros_like})


@pytest.mark.parametrize("space", ["w", "z", "w+"])
def test_spaces_make_the_same_images_and_carry_gradients(space):
    part = make("stylegan2", space=space, psi=0.6)
    reference = make("stylegan2", psi=0.6)
    latents = part.latents(SEEDS)
    assert latents.shape[1:] == part.info.latent_shape == {"w": (9,), "z": (10,), "w+": (6, 9)}[space]
    torch.testing.assert_close(part.sample(SEEDS).images, reference.sample(SEEDS).images, atol=2e-5, rtol=0)
    latents = latents.requires_grad_()
    images = part.synthesize(latents).images
    (gradient,) = torch.autograd.grad(images[3].sum(), latents)
    assert gradient[3].abs().min() > 0 or space == "w+"
    assert gradient[3].abs().sum() > 0
    assert gradient[:3].abs().max() == 0
    assert gradient[4:].abs().max() == 0


def test_gradient_equals_a_difference_quotient():
    part = make("stylegan2")
    latents = part.latents(SEEDS[:2]).requires_grad_()
    weights = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    (gradient,) = torch.autograd.grad((part.synthesize(latents).images * weights).sum(), latents)
    direction = gradient / gradient.norm() * 2e-3  # along the gradient, the quotient is large against rounding
    with torch.no_grad():
        ends = [(part.synthesize(latents + s * direction).images.double() * weights).sum() for s in (1, -1)]
    assert float((gradient * direction).sum()) == pytest.approx(float(ends[0] - ends[1]) / 2, rel=0.02)


def test_truncation_pulls_towards_the_mean_image():
    spread = []
    for psi in (1.0, 0.5, 0.0):
        images = make("stylegan2", psi=psi).sample(SEEDS).images
        spread.append(float(images.std(dim=0).mean()))
    assert spread[0] > spread[1] > spread[2]
    assert spread[2] < 1e-6
    assert float(make("stylegan2", psi=0.0, cutoff=2).sample(SEEDS).images.std(dim=0).mean()) > 1e-3
    with pytest.raises(ConfigError, match="cutoff=40"):
        make("stylegan2", cutoff=40)


def test_noise_modes():
    fixed, none, seed = (make("stylegan2", noise=mode) for mode in ("fixed", "none", "seed"))
    assert torch.equal(fixed.sample(SEEDS).images, fixed.sample(SEEDS).images)
    assert (fixed.sample(SEEDS).images - none.sample(SEEDS).images).abs().max() > 0.01
    own = seed.sample(SEEDS).images
    assert (own - fixed.sample(SEEDS).images).abs().max() > 0.01
    assert (seed.sample(SEEDS[[4]]).images - own[[4]]).abs().max() < 2e-5
    latents = seed.latents(SEEDS)
    assert torch.equal(seed.synthesize(latents).images, fixed.synthesize(latents).images)


def test_labels_change_the_image(name):
    part = make(name, num_classes=3, **({} if name == "pggan" else {"space": "z"}))
    latents = part.latents(SEEDS)
    a, b = (part.synthesize(latents, torch.full((7,), label)).images for label in (0, 2))
    assert (a - b).abs().max() > 1e-3
    with pytest.raises(ContractError, match="labels"):
        part.synthesize(latents)


def test_half_precision_is_close(name):
    full = make(name).sample(SEEDS).images
    for dtype, tolerance in (("bfloat16", 0.06), ("float16", 0.01)):
        half = make(name, dtype=dtype).sample(SEEDS).images
        assert half.dtype == torch.float32
        assert 0 < (half - full).abs().mean() / full.abs().mean() < tolerance


def test_bad_latents_are_refused():
    part = make("stylegan2")
    for latents in (torch.zeros(2, 10), torch.zeros(2, 9, dtype=torch.float64), torch.zeros(9)):
        with pytest.raises(ContractError, match="latents must be"):
            part.synthesize(latents)


def test_same_options_same_network_and_globals_stay():
    torch.manual_seed(11)
    before = torch.random.get_rng_state()
    a, b = make_plain(), make_plain()
    assert torch.equal(torch.random.get_rng_state(), before)
    for (key, x), y in zip(a.state_dict().items(), b.state_dict().values(), strict=True):
        assert torch.equal(x, y), key


def make_plain():
    return StyleGAN2(StyleGAN2Config(**STYLED))


# ---- weights -------------------------------------------------------------------------------------------------------


@pytest.fixture
def stored(tmp_path):
    part = make("stylegan2")
    part.licence, part.fit_rule = "CC0", "pad"
    save_part(part, tmp_path / "weights", "generator", "stylegan2")
    return part, tmp_path / "weights"


def test_a_trained_folder_needs_no_other_option(stored):
    part, folder = stored
    loaded = StyleGAN2(StyleGAN2Config(weights=str(folder)))
    assert torch.equal(loaded.sample(SEEDS).images, part.sample(SEEDS).images)
    assert (loaded.info.licence, loaded.info.fit_rule) == ("CC0", "pad")
    by_file = StyleGAN2(StyleGAN2Config(weights=str(folder / "state.safetensors")))
    assert torch.equal(by_file.sample(SEEDS).images, part.sample(SEEDS).images)


def test_a_card_is_enough(stored):
    part, folder = stored
    record = json.loads((folder / "component.json").read_text())
    card = {"generator": "stylegan2", "arch": record["facts"]["arch"], "sha256": record["sha256"], "licence": "MIT"}
    (folder / "component.json").unlink()
    (folder / "card.json").write_text(json.dumps(card))
    loaded = StyleGAN2(StyleGAN2Config(weights=str(folder)))
    assert torch.equal(loaded.sample(SEEDS).images, part.sample(SEEDS).images)
    assert loaded.info.licence == "MIT"


def test_damaged_or_foreign_weights_are_named(stored, tmp_path):
    _, folder = stored
    with pytest.raises(ArtifactError, match="use --gen stylegan2"):
        StyleGAN(StyleGANConfig(weights=str(folder)))
    with pytest.raises(UnknownPluginError, match="not a file, not a folder, not a zoo name"):
        StyleGAN2(StyleGAN2Config(weights="no-such-weights"))
    pickle = tmp_path / "network.pkl"
    pickle.write_bytes(b"x")
    with pytest.raises(ArtifactError, match="not a checkpoint: it starts with"):
        StyleGAN2(StyleGAN2Config(weights=str(pickle)))
    record = json.loads((folder / "component.json").read_text())
    record["facts"]["arch"]["w_dim"] = 12
    (folder / "component.json").write_text(json.dumps(record))
    with pytest.raises(ArtifactError, match="does not fit"):
        StyleGAN2(StyleGAN2Config(weights=str(folder)))
    data = bytearray((folder / "state.safetensors").read_bytes())
    data[-3] ^= 1
    (folder / "state.safetensors").write_bytes(data)
    with pytest.raises(ArtifactError, match="hash"):
        StyleGAN2(StyleGAN2Config(weights=str(folder)))


def test_options_of_the_shape_win_over_the_default_weights():
    part = StyleGAN2(StyleGAN2Config(resolution=32))
    assert part.info.height == 32
    assert part.arch.channel_max == 128


def test_a_resolved_plan_has_the_same_weights():
    """What `gsegkit run` builds from its written-out options is what the name alone builds."""
    pytest.importorskip("gsegkit_zoo")
    plan = Plan.from_options({"gen": "stylegan2", "extractor": "native", "seg": "any"})
    spec = choose(plan, installed()).plan.gen
    resolved = installed().build("generator", "stylegan2", spec.options)
    plain = installed().build("generator", "stylegan2")
    assert resolved.licence == plain.licence == "CC-BY-4.0"
    assert state_hash(resolved) == state_hash(plain)
    other = installed().build("generator", "stylegan2", {**spec.options, "weights": "auto", "resolution": 32})
    assert other.licence == ""
