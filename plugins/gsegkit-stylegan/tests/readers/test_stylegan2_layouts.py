"""Every layout of StyleGAN2 gives the images of the network that it was written from."""

import pytest
import torch
from gsegkit_stylegan.networks.stylegan2 import StyleGAN2Network
from gsegkit_stylegan.readers import layouts_stylegan2 as layouts
from gsegkit_stylegan.readers.detect import read_generator
from gsegkit_stylegan.readers.rules import read_layout, write_layout

TOLERANCE = 1e-4  # max abs, image range about +-3

SHAPES = {
    "tiny": {"resolution": 16, "channel_base": 128, "channel_max": 16, "z_dim": 16, "w_dim": 16, "mapping_layers": 2},
    "wide": {"resolution": 64, "channel_base": 1024, "channel_max": 24, "z_dim": 20, "w_dim": 20, "mapping_layers": 8},
    "odd": {
        "resolution": 32,
        "channel_base": 300,
        "channel_max": 40,
        "z_dim": 12,
        "w_dim": 12,
        "mapping_layers": 3,
        "lr_multiplier": 0.01,
        "resample_filter": (1.0, 2.0, 2.0, 1.0),
    },
}
CLASSES = {**SHAPES["tiny"], "num_classes": 5}


def images(network, arch, count=3):
    z = torch.randn(count, arch.z_dim, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(count) % arch.num_classes if arch.num_classes else None
    with torch.no_grad():
        return network(z, labels)


def check(path, data, arch, network, layout, **expected):
    path.write_bytes(data)
    found = read_generator(path)
    assert found.generator == "stylegan2"
    assert layout in found.layout
    same = found.arch.model_copy(update={"demod_gain_first": arch.demod_gain_first})
    base = {"channel_base", *expected}
    assert same.model_dump(exclude=base) == arch.model_dump(exclude=base)
    assert [same.channels(r) for r in arch.resolutions] == [arch.channels(r) for r in arch.resolutions]
    rebuilt = StyleGAN2Network(found.arch).eval()
    rebuilt.load_state_dict(dict(found.state))
    want, got = images(network, arch), images(rebuilt, found.arch)
    assert want.std() > 0.1
    assert (want - got).abs().max() < TOLERANCE
    assert torch.equal(rebuilt.mapping.w_avg, network.mapping.w_avg)
    return found


@pytest.mark.parametrize(("shape", "protocol"), [("tiny", 2), ("tiny", 3), ("wide", 4), ("odd", 5)])
def test_nvidia(tmp_path, writers, make_network, shape, protocol):
    arch, network = make_network(**SHAPES[shape], conv_clamp=256.0)
    data = writers.nvidia_pickle(arch, network.state_dict(), protocol)
    found = check(tmp_path / "net.pkl", data, arch, network, "NVIDIA, PyTorch")
    (note,) = found.notes
    assert note.startswith("the file holds 2 networks of this kind ('G_ema', 'G'): 'G_ema' was taken")
    assert all(len(sha256) == 64 for sha256 in found.sources.values())


@pytest.mark.parametrize("architecture", ["skip", "orig", "resnet"])
def test_nvidia_classes_and_architectures(tmp_path, writers, make_network, architecture):
    arch, network = make_network(**CLASSES, architecture=architecture)
    check(tmp_path / "net.pkl", writers.nvidia_pickle(arch, network.state_dict()), arch, network, "NVIDIA, PyTorch")


def test_nvidia_without_an_average_says_so(tmp_path, writers, make_network):
    arch, network = make_network(**SHAPES["tiny"])
    data = writers.nvidia_pickle(
        arch, network.state_dict(), G=writers.nvidia_module(arch, network.state_dict()), G_ema=None
    )
    found = check(tmp_path / "net.pkl", data, arch, network, "NVIDIA")
    assert "no averaged generator" in found.notes[0]


def test_nvidia_clamp_comes_from_the_modules(tmp_path, writers, make_network):
    arch, network = make_network(**SHAPES["tiny"], conv_clamp=0.25)
    found = check(tmp_path / "net.pkl", writers.nvidia_pickle(arch, network.state_dict()), arch, network, "NVIDIA")
    assert found.arch.conv_clamp == 0.25
    assert images(network, arch).abs().max() < 3 * 0.25 * 2  # the clamp acts, so a lost one would show


def test_bare_state_dict(tmp_path, writers, make_network):
    arch, network = make_network(**SHAPES["wide"])
    state = {f"module.{name}": tensor for name, tensor in network.state_dict().items()}
    found = check(tmp_path / "net.pt", writers.torch_saved(state), arch, network, "NVIDIA")
    assert "no clamp was assumed" in found.notes[0]


@pytest.mark.parametrize(("shape", "protocol"), [("tiny", 2), ("wide", 3), ("odd", 4)])
def test_tensorflow(tmp_path, writers, make_network, shape, protocol):
    arch, network = make_network(**SHAPES[shape], demod_gain_first=True)
    data = writers.tf_pickle(arch, network.state_dict(), protocol)
    found = check(tmp_path / "net.pkl", data, arch, network, "NVIDIA, TensorFlow")
    assert found.arch.demod_gain_first
    assert found.notes == ("the file's own truncation is psi 0.5 on all layers; here it is an option",)
    assert list(found.sources) == ["G_main"]


@pytest.mark.parametrize("joint", [False, True])
def test_tensorflow_classes(tmp_path, writers, make_network, joint):
    arch, network = make_network(**CLASSES, demod_gain_first=True, joint_labels=joint, architecture="resnet")
    check(tmp_path / "net.pkl", writers.tf_pickle(arch, network.state_dict()), arch, network, "TensorFlow")


@pytest.mark.parametrize(("shape", "zip_format"), [("tiny", False), ("wide", True), ("odd", True)])
def test_rosinality(tmp_path, writers, make_network, shape, zip_format):
    arch, network = make_network(**SHAPES[shape], demod_gain_first=True)
    data = writers.rosinality_file(arch, network.state_dict(), zip_format=zip_format)
    check(tmp_path / "net.pt", data, arch, network, "rosinality")


@pytest.mark.parametrize("zip_format", [True, False])
def test_rosinality_training_file(tmp_path, writers, make_network, zip_format):
    """It has an argparse.Namespace, numpy scalars, and no latent mean."""
    arch, network = make_network(**SHAPES["tiny"], demod_gain_first=True)
    with torch.no_grad():
        z = torch.randn(20_000, arch.z_dim)
        network.mapping.w_avg.copy_(network.mapping(z).mean(0))
    (tmp_path / "net.pt").write_bytes(writers.rosinality_file(arch, network.state_dict(), True, zip_format))
    found = read_generator(tmp_path / "net.pt")
    rebuilt = StyleGAN2Network(found.arch).eval()
    rebuilt.load_state_dict(dict(found.state))
    assert (images(network, arch) - images(rebuilt, arch)).abs().max() < TOLERANCE
    assert (found.state["mapping.w_avg"] - network.mapping.w_avg).abs().max() < 0.05
    assert any("no latent mean" in note for note in found.notes)


def test_rosinality_without_noise_images(tmp_path, writers, make_network):
    _, network = make_network(**SHAPES["tiny"], demod_gain_first=True)
    flat = write_layout(network.state_dict(), layouts.rosinality)
    average = flat.pop("latent_avg")
    flat = {name: tensor for name, tensor in flat.items() if not name.startswith("noises.")}
    (tmp_path / "net.pt").write_bytes(writers.torch_saved({"g_ema": flat, "latent_avg": average}))
    first, second = (read_generator(tmp_path / "net.pt") for _ in range(2))
    assert any("no noise images" in note for note in first.notes)
    name = "synthesis.b16.conv0.noise_const"
    assert torch.equal(first.state[name], second.state[name])  # drawn, but always the same
    assert 0.8 < first.state[name].std() < 1.2


@pytest.mark.parametrize(("shape", "zip_format"), [("tiny", False), ("wide", True), ("odd", True)])
def test_genforce(tmp_path, writers, make_network, shape, zip_format):
    arch, network = make_network(**SHAPES[shape], demod_gain_first=True)
    data = writers.genforce_file(arch, network.state_dict(), zip_format)
    check(tmp_path / "net.pth", data, arch, network, "genforce")


def test_genforce_classes(tmp_path, writers, make_network):
    arch, network = make_network(**CLASSES, demod_gain_first=True, joint_labels=True)
    check(tmp_path / "net.pth", writers.genforce_file(arch, network.state_dict()), arch, network, "genforce")


@pytest.mark.parametrize("shape", SHAPES)
def test_layouts_convert_into_each_other(tmp_path, writers, make_network, shape):
    """NVIDIA pickle -> rosinality -> genforce -> TensorFlow -> the same images."""
    arch, network = make_network(**SHAPES[shape])
    path = tmp_path / "net"
    path.write_bytes(writers.nvidia_pickle(arch, network.state_dict()))
    for write in (writers.rosinality_file, writers.genforce_file, writers.tf_pickle):
        found = read_generator(path)
        path.write_bytes(write(found.arch, dict(found.state)))
    found = read_generator(path)
    rebuilt = StyleGAN2Network(found.arch).eval()
    rebuilt.load_state_dict(dict(found.state))
    assert (images(network, arch) - images(rebuilt, arch)).abs().max() < TOLERANCE


@pytest.mark.parametrize("layout", [layouts.tensorflow, layouts.rosinality, layouts.genforce])
def test_each_layout_stores_something_else(make_network, layout):
    """A map that forgot a flip or an offset on both sides would still round-trip; these facts pin it down."""
    _, network = make_network(**SHAPES["tiny"])
    state = network.state_dict()
    flat = write_layout(state, layout)
    up, style = state["synthesis.b8.conv0.weight"], state["synthesis.b8.conv0.affine.bias"]
    rule_up, rule_style = layout("synthesis.b8.conv0.weight"), layout("synthesis.b8.conv0.affine.bias")
    stored = flat[rule_up.theirs]
    if layout is layouts.rosinality:
        assert torch.equal(stored[0], up)
        assert torch.equal(flat[rule_style.theirs], style)
        assert rule_up.theirs == "convs.0.conv.weight"
        assert layout("synthesis.b16.torgb.bias").theirs == "to_rgbs.1.bias"
    elif layout is layouts.genforce:
        assert torch.equal(stored, up.flip(2, 3))
        assert torch.allclose(flat[rule_style.theirs], style - 1)
        assert rule_up.theirs == "synthesis.layer1.weight"
        assert layout("synthesis.b16.torgb.bias").theirs == "synthesis.output2.bias"
    else:
        assert torch.equal(stored, up.flip(2, 3).permute(2, 3, 1, 0))
        assert torch.allclose(flat[rule_style.theirs], style - 1)
        assert rule_up.theirs == "synthesis/8x8/Conv0_up/weight"
        assert layout("synthesis.b16.conv1.noise_const").theirs == "synthesis/noise4"
    again = read_layout(flat, state, layout, layouts.carries_no_weights, "file")
    assert all(torch.allclose(again[name], state[name], atol=1e-6) for name in state)
