import pytest
import torch
from gsegkit_labels4free.networks import AlphaNetwork, Discriminator, Equal, Level, spread, upsample

CONFIG_F = {
    1024: (9_379, [(32, 512), (64, 512), (128, 256), (256, 128), (512, 64), (1024, 32)]),
    512: (12_259, [(16, 512), (32, 512), (64, 512), (128, 256), (256, 128), (512, 64)]),
    256: (14_947, [(8, 512), (16, 512), (32, 512), (64, 512), (128, 256), (256, 128)]),
}


def levels(sizes):
    return [Level(r, r, (f"b{r}.conv0", f"b{r}.conv1"), (c, c)) for r, c in sizes]


@pytest.mark.parametrize("resolution", CONFIG_F)
def test_the_alpha_network_has_the_papers_number_of_weights(resolution):
    count, sizes = CONFIG_F[resolution]
    network = AlphaNetwork(levels(sizes), resolution, resolution)
    assert sum(p.numel() for p in network.parameters()) == count


def small(seed=0, sizes=((8, 5), (16, 4), (32, 3)), height=32, width=32):
    torch.manual_seed(seed)
    network = AlphaNetwork(levels(sizes), height, width)
    features = {f"b{r}.conv{i}": torch.randn(2, c, r, r) for r, c in sizes for i in (0, 1)}
    return network, features


def test_alpha_is_one_map_between_0_and_1_and_uses_every_tensor():
    network, features = small()
    for value in features.values():
        value.requires_grad_()
    alpha = network(features)
    assert alpha.shape == (2, 1, 32, 32)
    assert 0 < float(alpha.detach().min()) <= float(alpha.detach().max()) < 1
    gradients = torch.autograd.grad(alpha.sum(), list(features.values()))
    assert all(bool(g.abs().sum() > 0) for g in gradients)


def test_pixels_of_the_last_level_do_not_meet():
    network, features = small()
    before = network(features)
    features["b32.conv1"][:, :, 3, 4] += 1
    changed = (network(features) - before).abs().amax(dim=(0, 1)) > 0
    assert changed.sum() == 1
    assert changed[3, 4]


def test_the_networks_layers_are_the_papers():
    """Squeeze to 6, join 12 to 6 with a leaky ReLU, add at the last level, one sigmoid; computed by hand."""
    network, features = small()
    f = torch.nn.functional
    squeezed = [
        torch.cat([f.conv2d(features[f"b{r}.conv{i}"], c.weight, c.bias) for i, c in enumerate(convs)], dim=1)
        for (r, _), convs in zip(((8, 5), (16, 4), (32, 3)), network.squeeze, strict=True)
    ]
    up = f.interpolate(squeezed[0], size=(16, 16), mode="bicubic", align_corners=True)
    joined = f.conv2d(torch.cat([squeezed[1], up], dim=1), network.join[0].weight, network.join[0].bias)
    up = f.interpolate(f.leaky_relu(joined, 0.2), size=(32, 32), mode="bicubic", align_corners=True)
    alpha = torch.sigmoid(f.conv2d(squeezed[2] + up, network.alpha.weight, network.alpha.bias))
    assert torch.allclose(network(features), alpha, atol=1e-6)


def test_a_level_of_one_tensor_and_a_last_level_below_the_image():
    torch.manual_seed(0)
    network = AlphaNetwork([Level(5, 7, ("a",), (3,)), Level(10, 14, ("b", "c"), (2, 4))], 33, 47)
    features = {"a": torch.randn(3, 3, 5, 7), "b": torch.randn(3, 2, 10, 14), "c": torch.randn(3, 4, 10, 14)}
    assert network(features).shape == (3, 1, 33, 47)


def test_one_level_alone():
    network = AlphaNetwork([Level(32, 32, ("a", "b"), (3, 3))], 32, 32)
    assert network({"a": torch.randn(1, 3, 32, 32), "b": torch.randn(1, 3, 32, 32)}).shape == (1, 1, 32, 32)


def test_upsampling_leaves_maps_of_the_right_size_alone():
    maps = torch.randn(1, 2, 4, 5)
    assert upsample(maps, (4, 5)) is maps
    assert upsample(maps, (8, 10)).shape == (1, 2, 8, 10)


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (64, 128), (40, 40)])
def test_the_discriminator_takes_images_of_any_size(size):
    torch.manual_seed(0)
    discriminator = Discriminator(*size, base=64, most=8)
    images = torch.randn(6, 3, *size, requires_grad=True)
    logits = discriminator(images)
    assert logits.shape == (6,)
    (gradient,) = torch.autograd.grad(logits.sum(), images)
    assert bool(gradient.abs().sum() > 0)


def test_the_discriminator_of_a_training_stopped_under_the_old_layer_name_is_read():
    discriminator, other = Discriminator(32, 32, 64, 8), Discriminator(32, 32, 64, 8)
    stored = {name.replace("output.", "judge."): tensor for name, tensor in discriminator.state_dict().items()}
    assert any(name.startswith("judge.") for name in stored)
    other.load_state_dict(stored)
    images = torch.randn(4, 3, 32, 32)
    assert torch.equal(other(images), discriminator(images))


def test_equal_layers_keep_the_variance():
    torch.manual_seed(0)
    x = torch.randn(8, 32, 16, 16)
    with torch.no_grad():
        assert float(Equal(32, 64, 3)(x)[:, :, 1:-1, 1:-1].std()) == pytest.approx(1, rel=0.05)
        assert float(Equal(512, 256, 0)(torch.randn(64, 512)).std()) == pytest.approx(1, rel=0.05)


def test_spread_is_0_for_equal_samples_and_1_for_samples_a_deviation_apart():
    x = torch.zeros(4, 3, 5, 5)
    assert float(spread(x).max()) < 1e-3
    x[:2] = 2
    assert torch.allclose(spread(x), torch.ones(4, 1, 5, 5), atol=1e-3)
    assert spread(torch.randn(7, 3, 2, 2)).shape == (7, 1, 2, 2)


def test_a_turned_network_says_1_minus_alpha():
    network, features = small()
    before = network(features)
    network.invert()
    assert torch.allclose(network(features), 1 - before, atol=1e-6)
