"""The three networks against the tables: an independent plain implementation, closed forms, parameter counts."""

import importlib.util
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from gsegkit_stylegan.config import PGGANArch, StyleGAN2Arch, StyleGANArch
from gsegkit_stylegan.networks.layers import blur, down_conv, filter_2d, normalize, up_conv, upsample
from gsegkit_stylegan.networks.pggan import PGGANNetwork
from gsegkit_stylegan.networks.stylegan import StyleGANNetwork, nearest_up_conv
from gsegkit_stylegan.networks.stylegan2 import StyleGAN2Network, truncate

spec = importlib.util.spec_from_file_location("plain", Path(__file__).parent / "plain.py")
plain = importlib.util.module_from_spec(spec)
spec.loader.exec_module(plain)

SMALL = {"resolution": 16, "channel_base": 96, "channel_max": 7, "z_dim": 10, "w_dim": 9, "mapping_layers": 2}


def stirred(network):
    """Every parameter away from its initial zero or one, in float64."""
    torch.manual_seed(3)
    for name, value in network.state_dict().items():
        if not name.endswith("noise_const"):
            value.add_(torch.randn(value.shape) * 0.3)
    return network.double()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"architecture": "orig"},
        {"architecture": "resnet"},
        {"conv_clamp": 0.5},
        {"architecture": "resnet", "conv_clamp": 0.7},
        {"demod_gain_first": True},
        {"num_classes": 3},
        {"resample_filter": (1, 1)},
        {"resample_filter": (1, 2, 1), "image_filter": (1, 3, 3, 1)},
        {"resample_filter": (1, 2, 1), "architecture": "resnet"},
        {"num_classes": 3, "embed_features": 5, "layer_features": 9},
        {"resample_filter": (1, 5, 10, 10, 5, 1)},
        {"resolution": 32, "mapping_layers": 4},
    ],
    ids=str,
)
def test_stylegan2_equals_the_plain_reading(options):
    arch = StyleGAN2Arch(**{**SMALL, **options})
    network = stirred(StyleGAN2Network(arch))
    state = network.state_dict()
    torch.manual_seed(5)
    z = torch.randn(5, arch.z_dim, dtype=torch.float64)
    labels = torch.tensor([0, 2, 1, 1, 0]) if arch.num_classes else None
    with torch.no_grad():
        w = network.mapping(z, labels)
        torch.testing.assert_close(w, plain.mapping(state, arch, z, labels), atol=1e-12, rtol=0)
        ws = torch.randn(5, arch.num_ws, arch.w_dim, dtype=torch.float64)  # another style for every layer
        images = network.synthesis(ws, dtype=torch.float64)
    reference = plain.synthesis(state, arch, ws)
    assert reference.std() > 0.05
    # toRGB's result is kept in float32 on purpose
    torch.testing.assert_close(images.double(), reference, atol=2e-5, rtol=0)


def test_eps_is_beside_the_raw_or_the_scaled_weight():
    """With tiny weights the two readings of the epsilon differ, so the test above can tell them apart."""
    arch = StyleGAN2Arch(**SMALL)
    other = StyleGAN2Arch(**SMALL, demod_gain_first=True)
    raw, scaled = StyleGAN2Network(arch), StyleGAN2Network(other)
    scaled.load_state_dict(raw.state_dict())
    for network in (raw, scaled):
        network.synthesis.b8.conv0.weight.data.mul_(1e-5)
    ws = torch.randn(2, arch.num_ws, arch.w_dim)
    assert (raw.synthesis(ws) - scaled.synthesis(ws)).abs().max() > 1e-3
    state = {k: v.double() for k, v in scaled.state_dict().items()}
    torch.testing.assert_close(
        scaled.synthesis(ws).double(), plain.synthesis(state, other, ws.double()), atol=1e-4, rtol=0
    )


@pytest.mark.parametrize(
    ("options", "millions"),
    [
        ({"resolution": 256}, 30.03),
        ({"resolution": 256, "channel_base": 16384, "mapping_layers": 2}, 23.19),
        ({"resolution": 64, "channel_base": 4096, "channel_max": 128, "w_dim": 128, "z_dim": 128, "mapping_layers": 2}, 1.40),
        ({"resolution": 32, "channel_base": 2048, "channel_max": 64, "w_dim": 64, "z_dim": 64, "mapping_layers": 2}, 0.31),
    ],
)  # fmt: skip
def test_parameter_counts_of_stylegan2(options, millions):
    with torch.device("meta"):
        network = StyleGAN2Network(StyleGAN2Arch(**options))
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.006)


@pytest.mark.parametrize(
    ("network", "arch", "resolution", "millions"),
    [
        (PGGANNetwork, PGGANArch, 128, 22.93),
        (PGGANNetwork, PGGANArch, 1024, 23.08),
        (StyleGANNetwork, StyleGANArch, 256, 26.09),
        (StyleGANNetwork, StyleGANArch, 1024, 26.22),
    ],
)
def test_parameter_counts_of_the_older_networks(network, arch, resolution, millions):
    """The published counts hold the toRGB layers of all resolutions; ours keeps the one that is used."""
    with torch.device("meta"):
        made = network(arch(resolution=resolution, z_dim=512))
    unused = sum(3 * made.arch.channels(r) + 3 for r in made.arch.resolutions[:-1])
    assert (sum(p.numel() for p in made.parameters()) + unused) / 1e6 == pytest.approx(millions, abs=0.006)


def test_names_and_shapes_are_nvidias():
    arch = StyleGAN2Arch(**SMALL, num_classes=3)
    state = StyleGAN2Network(arch).state_dict()
    assert state["synthesis.b4.const"].shape == (7, 4, 4)
    assert state["synthesis.b16.conv0.weight"].shape == (6, 7, 3, 3)
    assert state["synthesis.b16.conv0.noise_const"].shape == (16, 16)
    assert state["synthesis.b16.torgb.affine.weight"].shape == (6, 9)
    assert state["mapping.embed.weight"].shape == (9, 3)
    assert state["mapping.fc0.weight"].shape == (9, 19)
    assert "synthesis.b4.conv0.weight" not in state
    assert not [name for name in state if "filter" in name]


# ---- closed forms --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("taps", [(1, 1), (1, 2, 1), (1, 3, 3, 1), (1, 4, 6, 4, 1), (1, 5, 10, 10, 5, 1)])
def test_resampling_against_zero_insertion(taps):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    kernel, reference = filter_2d(taps).double(), plain.kernel_of(taps)
    first, last = (len(taps) + 1) // 2, len(taps) // 2
    up = plain.plain_filter(x, reference, gain=4, up=2, pads=(first, last - 1))
    torch.testing.assert_close(upsample(x, kernel), up, atol=1e-7, rtol=0)
    weight = torch.randn(4, 3, 3, 3, dtype=torch.float64)
    wide = plain.plain_filter(x, reference, pads=(first, last))
    down = F.conv2d(wide, weight)[:, :, ::2, ::2]
    torch.testing.assert_close(down_conv(x, weight, kernel), down, atol=1e-6, rtol=0)


def test_up_conv_equals_one_convolution_with_four_phases():
    """The 6x6 kernel, split into four 3x3 phases and shuffled: the other way to write the same operation."""
    torch.manual_seed(0)
    x, weight = torch.randn(2, 3, 5, 5, dtype=torch.float64), torch.randn(4, 3, 3, 3, dtype=torch.float64)
    kernel = filter_2d((1, 3, 3, 1)).double()
    wide = F.conv2d(F.pad(weight.reshape(12, 1, 3, 3), (3,) * 4), kernel[None, None] * 4).reshape(4, 3, 6, 6)
    rows = torch.tensor([[4, 2, 0], [5, 3, 1]])
    phases = wide[:, :, rows][:, :, :, :, rows].permute(0, 2, 4, 1, 3, 5).reshape(16, 3, 3, 3)
    shuffled = F.pixel_shuffle(F.conv2d(x, phases, padding=1), 2)
    torch.testing.assert_close(up_conv(x, weight, kernel), shuffled, atol=1e-7, rtol=0)


def test_a_constant_stays_constant_under_the_filters():
    kernel = filter_2d((1, 3, 3, 1))
    x = torch.full((1, 2, 8, 8), 3.0)
    torch.testing.assert_close(upsample(x, kernel)[:, :, 2:-2, 2:-2], torch.full((1, 2, 12, 12), 3.0))
    torch.testing.assert_close(blur(x, kernel, (0, 0)), torch.full((1, 2, 5, 5), 3.0))


def test_nearest_up_conv_equals_its_two_steps():
    torch.manual_seed(0)
    x, weight = torch.randn(2, 3, 5, 5, dtype=torch.float64), torch.randn(4, 3, 3, 3, dtype=torch.float64)
    steps = F.conv2d(F.interpolate(x, scale_factor=2, mode="nearest"), weight, padding=1)
    torch.testing.assert_close(nearest_up_conv(x, weight), steps, atol=1e-12, rtol=0)


def test_truncation():
    ws, mean = torch.randn(3, 6, 4), torch.randn(4)
    assert truncate(ws, mean, 1.0, None) is ws
    torch.testing.assert_close(truncate(ws, mean, 0.0, None), mean.expand(3, 6, 4))
    part = truncate(ws, mean, 0.7, 2)
    torch.testing.assert_close(part[:, :2], mean + 0.7 * (ws[:, :2] - mean))
    assert torch.equal(part[:, 2:], ws[:, 2:])


# ---- the older networks --------------------------------------------------------------------------------------------


def test_stylegan_v1_equals_its_table():
    arch = StyleGANArch(**SMALL, num_classes=2)
    network = stirred(StyleGANNetwork(arch))
    s = network.state_dict()
    z, labels = torch.randn(3, 10, dtype=torch.float64), torch.tensor([1, 0, 1])
    x = torch.cat([z, s["mapping.embed.weight"][:, labels].T], dim=1)
    x = x / (x.square().mean(dim=1, keepdim=True) + 1e-8).sqrt()
    for i in range(2):
        weight = s[f"mapping.fc{i}.weight"]
        x = F.linear(x, weight * (math.sqrt(2 / weight.shape[1]) * 0.01), s[f"mapping.fc{i}.bias"] * 0.01)
        x = F.leaky_relu(x, 0.2)
    torch.testing.assert_close(network.mapping(z, labels), x, atol=1e-12, rtol=0)
    ws = torch.randn(3, arch.num_ws, 9, dtype=torch.float64)
    x = s["synthesis.b4.const"].expand(3, -1, -1, -1)
    for j in range(arch.num_ws):
        r, name = 4 * 2 ** (j // 2), f"synthesis.b{4 * 2 ** (j // 2)}.conv{j % 2}"
        if j > 0:
            weight = s[f"{name}.weight"]
            weight = weight * math.sqrt(2) / math.sqrt(weight[0].numel())
            x = F.interpolate(x, scale_factor=2) if j % 2 == 0 else x
            x = F.conv2d(x, weight, padding=1)
            x = plain.plain_filter(x, plain.kernel_of((1, 2, 1)), pads=(1, 1)) if j % 2 == 0 else x
        x = x + s[f"{name}.noise_const"] * s[f"{name}.noise_strength"][:, None, None]
        x = F.leaky_relu(x + s[f"{name}.bias"][:, None, None], 0.2)
        x = F.instance_norm(x, eps=1e-8)
        affine = s[f"{name}.affine.weight"]
        y = F.linear(ws[:, j], affine / 3, s[f"{name}.affine.bias"])[:, :, None, None]
        channels = x.shape[1]
        x = x * (y[:, :channels] + 1) + y[:, channels:]
        assert x.shape[-1] == r
    last = s["synthesis.b16.torgb.weight"]
    x = F.conv2d(x, last / math.sqrt(last.shape[1]), s["synthesis.b16.torgb.bias"])
    made = network.double().synthesis.float()(ws.float())
    torch.testing.assert_close(made, x.float(), atol=3e-4, rtol=0)


def test_pggan_equals_its_table():
    arch = PGGANArch(resolution=16, channel_base=96, channel_max=7, z_dim=10, num_classes=3)
    network = stirred(PGGANNetwork(arch))
    s = network.state_dict()
    z, labels = torch.randn(3, 10, dtype=torch.float64), torch.tensor([1, 0, 2])
    x = normalize(torch.cat([z, F.one_hot(labels, 3).double()], dim=1))
    for k in (2, 3, 4):
        for conv in ("conv0", "conv1"):
            name = f"synthesis.b{2**k}.{conv}"
            weight = s[f"{name}.weight"]
            if name == "synthesis.b4.conv0":
                x = torch.einsum("ni,oihw->nohw", x, weight) * (math.sqrt(2) / 4 / math.sqrt(13))
            else:
                x = F.interpolate(x, scale_factor=2) if conv == "conv0" else x
                x = F.conv2d(x, weight * (math.sqrt(2) / math.sqrt(weight[0].numel())), padding=1)
            x = F.leaky_relu(x + s[f"{name}.bias"][:, None, None], 0.2)
            x = x / (x.square().mean(dim=1, keepdim=True) + 1e-8).sqrt()
    last = s["synthesis.b16.torgb.weight"]
    x = F.conv2d(x, last / math.sqrt(last.shape[1]), s["synthesis.b16.torgb.bias"])
    made = network.float()(z.float(), labels)
    torch.testing.assert_close(made, x.float(), atol=3e-4, rtol=0)
