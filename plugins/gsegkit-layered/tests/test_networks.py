"""Sizes of the paper's networks, what each code reaches, and how weights start."""

import pytest
import torch
from gsegkit_layered.codes import Prior
from gsegkit_layered.config import WIDTHS, LayeredConfig, PerturbGANConfig
from gsegkit_layered.generator import Layered, PerturbGAN
from gsegkit_layered.networks import Background, Discriminator, Foreground, Head, MaskHead, initialise

from gsegkit.config import build_config
from gsegkit.errors import ConfigError, ContractError


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("side", "background", "foreground"), [(64, 7_941_696, 8_591_984), (128, 7_978_688, 8_628_976)]
)
def test_sizes_of_the_papers_generators(side, background, foreground):
    """7.94 M and 8.59 M at 64 px, 7.98 M and 8.63 M at 128 px, with 200 categories, 20 parents and 100 numbers in z."""
    widths = WIDTHS["paper"][side]
    assert count(Background(100, widths)) == background
    assert count(Foreground(100, 20, 200, widths)) == foreground
    paper = Layered(LayeredConfig(profile="paper-cub", resolution=side))
    assert count(paper.average) == background + foreground


@pytest.mark.parametrize("network", ["small", "paper"])
@pytest.mark.parametrize("side", [32, 64, 128])
def test_shapes_at_every_size(network, side):
    widths = WIDTHS[network][side]
    assert 4 << (len(widths.channels) - 1) == side
    assert 4 << len(widths.discriminator) == side
    if network == "small":
        batch = Layered(LayeredConfig(resolution=side)).sample(torch.arange(2))
        assert batch.images.shape == batch.layers["background"].shape == (2, 3, side, side)
        scores, maps = Discriminator(widths)(batch.images)
        assert scores.shape == (2,)
        assert Head(widths.top, 20).eval()(maps).shape == (2, 20)
        assert MaskHead(widths, 4).eval()(batch.layers["mask"]).shape == (2, 4)


def test_what_each_code_reaches():
    """z all layers, p mask and colours, c the colours only: otherwise c could be told without a foreground."""
    generator = Layered(LayeredConfig(num_codes=6, group_size=3))
    z = generator.latents(torch.arange(4))

    def layers(latents, label):
        return generator.synthesize(latents, torch.full((4,), label)).layers

    zero, one, other = layers(z, 0), layers(z, 1), layers(z, 3)
    assert torch.equal(zero["background"], one["background"])
    assert torch.equal(zero["background"], other["background"])
    assert torch.equal(zero["mask"], one["mask"])  # same parent
    assert not torch.equal(zero["foreground"], one["foreground"])
    assert not torch.equal(zero["mask"], other["mask"])
    moved = layers(z + 1, 0)
    assert all(not torch.equal(zero[name], moved[name]) for name in ("background", "mask", "foreground"))


def test_a_normal_private_code_is_part_of_the_latent():
    generator = Layered(LayeredConfig(prior="normal", num_codes=4, z_dim=8))
    assert generator.info.latent_shape == (12,)
    assert generator.info.num_classes == 0
    latents = generator.latents(torch.arange(3))
    other = latents.clone()
    other[:, 8:] += 1
    a, b = generator.synthesize(latents).layers, generator.synthesize(other).layers
    assert torch.equal(a["background"], b["background"])
    assert not torch.equal(a["mask"], b["mask"])
    assert not torch.equal(a["foreground"], b["foreground"])


def test_perturbgan_has_no_private_code():
    generator = PerturbGAN(PerturbGANConfig())
    assert generator.q_image is None
    assert generator.q_mask is None
    assert generator.labels(torch.arange(3)) is None


def test_the_image_is_made_of_its_layers():
    batch = Layered(LayeredConfig()).sample(torch.arange(5))
    m, b, f = (batch.layers[name] for name in ("mask", "background", "foreground"))
    assert torch.allclose(batch.images, b + m * (f - b), atol=1e-6)
    assert torch.equal(batch.probs[:, 1:], m)


def test_masks_begin_small_and_in_the_middle():
    def mean_mask(**options):
        return Layered(LayeredConfig(**options)).sample(torch.arange(16)).layers["mask"].mean(dim=(0, 1))

    flat, small = mean_mask(centre=0.0), mean_mask(centre=0.0, mask_bias=-4.0)
    assert 0.1 < float(flat.mean()) < 0.3
    assert float(small.mean()) < 0.05
    assert float(flat[12:20, 12:20].mean()) == pytest.approx(float(flat.mean()), abs=0.1)
    middle = mean_mask(centre=4.0)
    assert float(middle[12:20, 12:20].mean()) > 0.8
    assert float(middle[:2].mean()) < 0.35
    assert float(middle.flip(0).sub(middle).abs().max()) < 0.3  # no side is preferred


def test_weights_start_orthogonal_also_under_spectral_norm():
    critic = Discriminator(WIDTHS["small"][32])
    weight = critic.backbone.convs[1].parametrizations.weight.original.flatten(1)
    assert torch.allclose(weight @ weight.T, torch.eye(len(weight)), atol=1e-4)
    layer = torch.nn.Linear(8, 5)
    initialise(layer)
    assert torch.allclose(layer.weight @ layer.weight.T, torch.eye(5), atol=1e-5)
    assert not layer.bias.any()


def test_spectral_norm_bounds_the_critic():
    critic = Discriminator(WIDTHS["small"][32])
    with torch.no_grad():
        critic.backbone.convs[2].parametrizations.weight.original.mul_(50)
        for _ in range(5):
            critic(torch.zeros(1, 3, 32, 32))
    weight = critic.backbone.convs[2].weight.detach()
    assert float(torch.linalg.matrix_norm(weight.flatten(1), 2)) < 1.05


def test_parents_are_consecutive_groups():
    codes = Prior(2, "categorical", 6, 3).codes(torch.zeros(6, 2), torch.arange(6))
    assert codes.p.argmax(1).tolist() == [0, 0, 0, 1, 1, 1]
    assert torch.equal(codes.c, torch.eye(6))


def test_labels_are_checked():
    generator = Layered(LayeredConfig())
    latents = generator.latents(torch.arange(2))
    for labels in (None, torch.tensor([0, 20]), torch.tensor([-1, 0])):
        with pytest.raises(ContractError, match="needs labels from 0 to 19"):
            generator.synthesize(latents, labels)


def test_options_that_contradict_are_refused():
    with pytest.raises(ConfigError, match="not a multiple"):
        build_config(LayeredConfig, {"num_codes": 20, "group_size": 3}, "gen")
    with pytest.raises(ConfigError, match="one group only"):
        build_config(LayeredConfig, {"num_codes": 20, "group_size": 20}, "gen")
    with pytest.raises(ConfigError, match="lies before"):
        build_config(PerturbGANConfig, {"binary_start": 10, "binary_end": 5}, "gen")


@pytest.mark.parametrize(
    ("profile", "codes", "parents", "gammas", "binary"),
    [
        ("paper-cub", 200, 20, (1, 1), 2),
        ("paper-dogs", 120, 12, (2, 2), 1),
        ("paper-cars", 196, 14, (1, 1), 2),
        ("paper-apc", 200, 20, (2, 2), 0),
    ],
)
def test_profiles_are_table_c1(profile, codes, parents, gammas, binary):
    config = LayeredConfig(profile=profile)
    prior = Prior(config.z_dim, config.prior, config.num_codes, config.group_size)
    assert (prior.num_classes, prior.mask_dim, config.binary_weight) == (codes, parents, binary)
    gamma_mask = config.gamma if config.gamma_mask is None else config.gamma_mask
    assert (config.gamma, gamma_mask) == gammas
    assert (config.num_images, config.round_images) == (1_000_000, 2_000_000)
    assert config.network == "paper"
    assert LayeredConfig(profile=profile, gamma=3).gamma == 3  # an option given by hand wins
