"""Networks that unmodified code makes with other options than the usual: read, or refused with the true reason."""

import pytest
import torch
from gsegkit_stylegan.networks.stylegan2 import StyleGAN2Network
from gsegkit_stylegan.readers.detect import from_names, read_generator

from gsegkit.errors import ArtifactError

TINY = {"resolution": 16, "channel_base": 128, "channel_max": 8, "z_dim": 6, "w_dim": 8, "mapping_layers": 3}


def pictures(network, arch):
    z = torch.randn(3, arch.z_dim, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(3) % arch.num_classes if arch.num_classes else None
    with torch.no_grad():
        return network(z, labels)


def read(path, data):
    path.write_bytes(data)
    found = read_generator(path)
    network = StyleGAN2Network(found.arch).eval()
    network.load_state_dict(dict(found.state))
    return found, pictures(network, found.arch)


@pytest.mark.parametrize(
    "options",
    [
        {"resample_filter": (1.0, 1.0)},  # the unused buffers of conv1 keep the usual filter
        {"resample_filter": (1.0, 2.0, 1.0), "architecture": "resnet"},
        {"resample_filter": (1.0, 4.0, 6.0, 4.0, 1.0)},
        {"layer_features": 5},
        {"num_classes": 3, "embed_features": 4},
        {"num_classes": 3, "embed_features": 4, "layer_features": 12, "lr_multiplier": 1.0},
    ],
    ids=str,
)
def test_nvidia(tmp_path, writers, make_network, options):
    arch, network = make_network(**TINY, **options)
    found, got = read(tmp_path / "net.pkl", writers.nvidia_pickle(arch, network.state_dict()))
    assert found.arch.model_dump(exclude={"channel_base"}) == arch.model_dump(exclude={"channel_base"})
    assert (got - pictures(network, arch)).abs().max() < 1e-4


@pytest.mark.parametrize("joint", [True, False])
def test_tensorflow_labels_where_z_and_w_differ(tmp_path, writers, make_network, joint):
    """StyleGAN2 before ADA embeds a label in as many numbers as z has: LabelConcat is [labels, z]."""
    options = {"num_classes": 3, "embed_features": 6 if joint else 5, "demod_gain_first": True, "joint_labels": joint}
    arch, network = make_network(**TINY, **options)
    found, got = read(tmp_path / "net.pkl", writers.tf_pickle(arch, network.state_dict()))
    assert (found.arch.z_dim, found.arch.w_dim, found.arch.embed_features) == (6, 8, 6 if joint else 5)
    assert (got - pictures(network, arch)).abs().max() < 1e-4


@pytest.mark.parametrize("classes", [0, 3])
def test_nvidia_without_a_tracked_mean(tmp_path, writers, make_network, classes):
    """w_avg_beta=None: no mean in the file, so it is estimated, over all classes."""
    arch, network = make_network(**TINY, num_classes=classes)
    tree = writers.nvidia_module(arch, network.state_dict())
    del tree.modules["mapping"].buffers["w_avg"]
    data = writers.nvidia_pickle(arch, network.state_dict(), G=None, G_ema=tree)
    found, got = read(tmp_path / "net.pkl", data)
    assert found.notes == ("the file holds no latent mean: estimated from 10000 samples",)
    assert torch.equal(got, pictures(network, arch))
    with torch.no_grad():
        w = network.mapping(torch.randn(20_000, 6), torch.arange(20_000) % classes if classes else None)
    assert (found.state["mapping.w_avg"] - w.mean(dim=0)).abs().max() < 0.05


def test_nvidia_without_noise(tmp_path, writers, make_network):
    """use_noise=False: neither strengths nor images, and nothing that could differ."""
    arch, network = make_network(**TINY)
    state = {name: tensor for name, tensor in network.state_dict().items() if ".noise_" not in name}
    for name, tensor in network.state_dict().items():
        if name.endswith("noise_strength"):
            tensor.zero_()
    found, got = read(tmp_path / "net.pkl", writers.nvidia_pickle(arch, state, G=None))
    assert found.notes == ("the network was trained without noise: its strength is zero",)
    assert (got - pictures(network, arch)).abs().max() < 1e-5


def test_lost_noise_images_matter_only_where_there_is_noise(make_network):
    _, network = make_network(**TINY)
    state = {name: t.clone() for name, t in network.state_dict().items() if not name.endswith("noise_const")}
    assert any("details differ" in note for note in from_names(state).notes)
    silent = {name: t * 0 if name.endswith("noise_strength") else t for name, t in state.items()}
    assert not any("details differ" in note for note in from_names(silent).notes)


def test_some_noise_missing_is_an_incomplete_file(make_network):
    _, network = make_network(**TINY)
    for leaf in ("noise_strength", "noise_const"):
        state = dict(network.state_dict())
        del state[f"synthesis.b8.conv1.{leaf}"]
        with pytest.raises(ArtifactError, match=f"missing 'synthesis.b8.conv1.{leaf}'"):
            from_names(state)


@pytest.mark.parametrize("architecture", ["skip", "orig"])
def test_grey_networks_make_three_equal_channels(tmp_path, writers, make_network, architecture):
    arch, network = make_network(**TINY, architecture=architecture)
    state = network.state_dict()
    grey = {name: t[:1] if ".torgb." in name and ".affine." not in name else t for name, t in state.items()}
    found, got = read(tmp_path / "net.pkl", writers.nvidia_pickle(arch, grey, G=None))
    want = pictures(network, arch)[:, :1].expand(-1, 3, -1, -1)
    assert (got - want).abs().max() < 1e-5
    assert found.notes == ("the network makes grey images: its channel was repeated to RGB",)


@pytest.mark.parametrize("channels", [0, 2, 4])
def test_other_colours_are_refused_in_a_sentence(make_network, channels):
    _, network = make_network(**TINY, architecture="orig")
    state = dict(network.state_dict())
    for leaf in ("weight", "bias"):
        tensor = state[f"synthesis.b16.torgb.{leaf}"]
        state[f"synthesis.b16.torgb.{leaf}"] = torch.zeros(channels, *tensor.shape[1:])
    with pytest.raises(ArtifactError, match=f"makes images of {channels} channels") as caught:
        from_names(state)
    assert caught.value.hint == "RGB and grey ones are read"


@pytest.mark.parametrize("leaf", ["weight", "bias"])
def test_one_grey_layer_among_others_is_a_damaged_file(make_network, leaf):
    _, network = make_network(**TINY)
    state = dict(network.state_dict())
    state[f"synthesis.b8.torgb.{leaf}"] = state[f"synthesis.b8.torgb.{leaf}"][:1]
    with pytest.raises(ArtifactError, match=rf"'synthesis.b8.torgb.{leaf}' has shape \[1"):
        from_names(state)


def tree_with(writers, arch, network, change):
    tree = writers.nvidia_module(arch, network.state_dict())
    change(tree)
    return writers.nvidia_pickle(arch, network.state_dict(), G_ema=tree)


def relu(part):
    def change(tree):
        for module in tree.modules[part].modules.values():
            for inner in (module, *module.modules.values()):
                if inner.attributes.get("activation") == "lrelu":
                    inner.attributes["activation"] = "relu"

    return change


def lengthen(kernel):
    def change(tree):
        for block in tree.modules["synthesis"].modules.values():
            block.buffers["resample_filter"] = kernel
            if "conv0" in block.modules:
                block.modules["conv0"].buffers["resample_filter"] = kernel

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (relu("synthesis"), "synthesis layers with the activation 'relu'"),
        (relu("mapping"), "mapping layers with the activation 'relu'"),
        (lengthen(torch.ones(1)), r"resampling filter of shape \[1\]"),
        (lengthen(torch.ones(12) / 12), r"resampling filter of shape \[12\]"),
        (lengthen(torch.tensor([0.75, 0.25])), "not symmetric"),
        (lengthen(torch.tensor([-0.25, 0.75, 0.75, -0.25])), "taps that are not positive"),
    ],
)
def test_options_that_our_networks_lack(tmp_path, writers, make_network, change, message):
    arch, network = make_network(**TINY)
    (tmp_path / "net.pkl").write_bytes(tree_with(writers, arch, network, change))
    with pytest.raises(ArtifactError, match=message) as caught:
        read_generator(tmp_path / "net.pkl")
    assert "supported" in caught.value.hint
    assert "modified" not in str(caught.value)


def test_a_network_of_four_pixels(tmp_path, writers, make_network):
    arch, network = make_network(**TINY)

    def change(tree):
        blocks = tree.modules["synthesis"].modules
        for name in [name for name in blocks if name != "b4"]:
            del blocks[name]
        blocks["b4"].attributes["is_last"] = True

    (tmp_path / "net.pkl").write_bytes(tree_with(writers, arch, network, change))
    with pytest.raises(ArtifactError, match="a StyleGAN2 of 4 px") as caught:
        read_generator(tmp_path / "net.pkl")
    assert caught.value.hint == "8 to 2048 px are supported"


def test_one_w_for_each_layer_is_refused(originals):
    """genforce, repeat_w=False: the mapping makes as many w as there are layers."""
    original = originals.StyleGAN2("genforce", 8, 64, 8, 6, 8)
    state = original.v.stored()
    state["mapping.dense1.weight"], state["mapping.dense1.bias"] = torch.ones(32, 8), torch.ones(32)
    state["truncation.w_avg"] = torch.ones(32)
    with pytest.raises(ArtifactError, match="makes 32 numbers, where each layer takes 8") as caught:
        from_names(state)
    assert "repeat_w=True" in caught.value.hint


def test_a_bare_state_dict_says_what_was_assumed(make_network):
    _, network = make_network(**TINY)
    notes = from_names(network.state_dict()).notes
    assert any("no clamp was assumed" in note for note in notes)
    assert any("lr_multiplier=0.01, activation=lrelu" in note for note in notes)
    assert any("no resampling filter" in note for note in notes)
