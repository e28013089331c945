"""StyleGAN v1 and PGGAN: every layout gives the images of the network that it was written from."""

import pytest
import torch
import torch.nn.functional as F
from gsegkit_stylegan.config import PGGANArch, StyleGANArch
from gsegkit_stylegan.networks.pggan import PGGANNetwork
from gsegkit_stylegan.networks.stylegan import StyleGANNetwork
from gsegkit_stylegan.readers import layouts_grown as layouts
from gsegkit_stylegan.readers.detect import from_names, read_generator
from gsegkit_stylegan.readers.rules import write_layout

from gsegkit.errors import ArtifactError

TOLERANCE = 1e-4
STYLE = {
    "tiny": {"resolution": 16, "channel_base": 64, "channel_max": 8, "z_dim": 10, "w_dim": 12, "mapping_layers": 2},
    "fused": {"resolution": 128, "channel_base": 512, "channel_max": 8, "z_dim": 8, "w_dim": 8, "mapping_layers": 8},
    "classes": {
        "resolution": 32, "channel_base": 200, "channel_max": 12, "z_dim": 6, "w_dim": 6, "mapping_layers": 3,
        "num_classes": 4,
    },
}  # fmt: skip
GROWN = {
    "tiny": {"resolution": 8, "channel_base": 64, "channel_max": 12, "z_dim": 10},
    "large": {"resolution": 64, "channel_base": 512, "channel_max": 16, "z_dim": 16},
    "odd": {"resolution": 32, "channel_base": 200, "channel_max": 30, "z_dim": 7},
}


def network_of(arch):
    torch.manual_seed(0)
    network = StyleGANNetwork(arch) if isinstance(arch, StyleGANArch) else PGGANNetwork(arch)
    for tensor in network.state_dict().values():
        tensor.add_(torch.randn(tensor.shape) * 0.1)
    return network.eval()


def images(network, arch, count=3):
    z = torch.randn(count, arch.z_dim, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(count) % arch.num_classes if arch.num_classes else None
    with torch.no_grad():
        return network(z, labels)


def check(path, data, arch, network, generator, layout):
    path.write_bytes(data)
    found = read_generator(path)
    assert found.generator == generator
    assert layout in found.layout
    assert found.arch.model_dump(exclude={"channel_base"}) == arch.model_dump(exclude={"channel_base"})
    rebuilt = type(network)(found.arch).eval()
    rebuilt.load_state_dict(dict(found.state))
    want = images(network, arch)
    assert want.std() > 0.1
    assert (want - images(rebuilt, arch)).abs().max() < TOLERANCE
    return found


def auto(r):
    return r >= 128


@pytest.mark.parametrize("shape", STYLE)
@pytest.mark.parametrize(("protocol", "fused_scale"), [(2, None), (4, True), (4, False)])
def test_stylegan_tensorflow(tmp_path, writers, shape, protocol, fused_scale):
    arch = StyleGANArch(**STYLE[shape])
    network = network_of(arch)
    options = {} if fused_scale is None else {"fused_scale": fused_scale}
    fused = auto if fused_scale is None else lambda r: fused_scale
    data = writers.grown_tf_pickle(arch, network.state_dict(), fused, protocol, truncation_psi=0.7, **options)
    found = check(tmp_path / "net.pkl", data, arch, network, "stylegan", "TensorFlow")
    assert any("truncation is psi 0.7" in note for note in found.notes)
    assert torch.equal(found.state["mapping.w_avg"], network.mapping.w_avg)


@pytest.mark.parametrize("shape", STYLE)
@pytest.mark.parametrize("old", [False, True])
def test_stylegan_genforce(tmp_path, writers, shape, old):
    arch = StyleGANArch(**STYLE[shape])
    network = network_of(arch)
    data = writers.grown_genforce_file(arch, network.state_dict(), auto, old, zip_format=shape != "tiny")
    check(tmp_path / "net.pth", data, arch, network, "stylegan", "older" if old else "genforce")


@pytest.mark.parametrize("shape", GROWN)
@pytest.mark.parametrize(("protocol", "fused"), [(2, True), (4, False)])
def test_pggan_tensorflow(tmp_path, writers, shape, protocol, fused):
    arch = PGGANArch(**GROWN[shape])
    network = network_of(arch)
    data = writers.grown_tf_pickle(arch, network.state_dict(), lambda r: fused, protocol)
    check(tmp_path / "net.pkl", data, arch, network, "pggan", "TensorFlow")


def test_pggan_classes(tmp_path, writers):
    arch = PGGANArch(**GROWN["tiny"], num_classes=3)
    network = network_of(arch)
    data = writers.grown_tf_pickle(arch, network.state_dict(), lambda r: True)
    check(tmp_path / "net.pkl", data, arch, network, "pggan", "TensorFlow")


@pytest.mark.parametrize("shape", GROWN)
@pytest.mark.parametrize("old", [False, True])
def test_pggan_genforce(tmp_path, writers, shape, old):
    arch = PGGANArch(**GROWN[shape])
    network = network_of(arch)
    data = writers.grown_genforce_file(arch, network.state_dict(), lambda r: False, old)
    check(tmp_path / "net.pth", data, arch, network, "pggan", "older" if old else "genforce")


def test_fused_kernels_are_what_their_code_runs():
    """TensorFlow's fused layer: kernel summed over four shifts, then a transposed convolution of stride 2."""
    arch = StyleGANArch(**STYLE["tiny"])
    network = network_of(arch)
    rule = layouts.tensorflow(16, lambda r: True, style=True)("synthesis.b16.conv0.weight")
    plain = network.state_dict()["synthesis.b16.conv0.weight"]
    stored = rule.op.write(plain).permute(2, 3, 0, 1)  # HWIO -> IOHW, what a transposed convolution takes
    padded = F.pad(stored, (1, 1, 1, 1))
    summed = padded[..., 1:, 1:] + padded[..., :-1, 1:] + padded[..., 1:, :-1] + padded[..., :-1, :-1]
    x = torch.randn(2, plain.shape[1], 5, 5)
    want = F.conv2d(F.interpolate(x, scale_factor=2), plain, padding=1)
    assert torch.allclose(F.conv_transpose2d(x, summed, stride=2, padding=1), want, atol=1e-4)


def test_dense_layer_is_what_their_code_runs():
    """TensorFlow: a matrix whose rows are (channel, y, x). genforce: a 4x4 correlation of one padded pixel."""
    arch = PGGANArch(**GROWN["tiny"])
    layer = network_of(arch).synthesis.b4.conv0
    z = torch.randn(3, 10)
    with torch.no_grad():
        want = layer(z)
    key = "synthesis.b4.conv0.weight"
    matrix = layouts.tensorflow(8, lambda r: True, style=False)(key).op.write(layer.weight.data)
    kernel = layouts.genforce(8, lambda r: False, style=False)(key).op.write(layer.weight.data)
    flat = (z @ matrix * layer.scale).reshape(3, -1, 4, 4)
    spread = F.conv2d(z[:, :, None, None], kernel * layer.scale, padding=3)
    for x in (flat, spread):
        assert torch.allclose(F.leaky_relu(x + layer.bias[:, None, None], 0.2), want, atol=1e-5)


def test_a_network_that_still_grows_is_refused(tmp_path, writers):
    arch = PGGANArch(**GROWN["tiny"])
    (tmp_path / "net.pkl").write_bytes(
        writers.grown_tf_pickle(arch, network_of(arch).state_dict(), lambda r: True, lod=1)
    )
    with pytest.raises(ArtifactError, match="not finished growing"):
        read_generator(tmp_path / "net.pkl")


@pytest.mark.parametrize(
    ("arch", "option"),
    [
        (StyleGANArch(**STYLE["tiny"]), {"use_instance_norm": False}),
        (StyleGANArch(**STYLE["tiny"]), {"fused_scale": "maybe"}),
        (StyleGANArch(**STYLE["tiny"]), {"blur_filter": None}),
        (PGGANArch(**GROWN["tiny"]), {"tanh_at_end": True}),
        (PGGANArch(**GROWN["tiny"]), {"label_size": -1}),
        (PGGANArch(**GROWN["tiny"]), {"label_size": True}),
        (PGGANArch(**GROWN["tiny"]), {"latent_size": 4}),
        (PGGANArch(**GROWN["tiny"]), {"pixelnorm_epsilon": 1e-4}),
    ],
)
def test_other_options_are_refused(tmp_path, writers, arch, option):
    data = writers.grown_tf_pickle(arch, network_of(arch).state_dict(), auto, **option)
    (tmp_path / "net.pkl").write_bytes(data)
    with pytest.raises(ArtifactError, match=next(iter(option))):
        read_generator(tmp_path / "net.pkl")


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("arch", [StyleGANArch(**STYLE["tiny"]), PGGANArch(**GROWN["tiny"])])
def test_every_tensor_matters(arch, old):
    network = network_of(arch)
    layout = (layouts.genforce_old if old else layouts.genforce)(
        arch.resolution, lambda r: False, style=isinstance(arch, StyleGANArch)
    )
    flat = write_layout(network.state_dict(), layout)
    assert from_names(flat).state.keys() == network.state_dict().keys()
    for name, tensor in flat.items():
        for changed in (None, torch.zeros(*tensor.shape, 2), tensor * torch.nan, tensor.long()):
            damaged = {key: value for key, value in flat.items() if key != name}
            if changed is not None:
                damaged[name] = changed
            with pytest.raises(ArtifactError):
                from_names(damaged)
