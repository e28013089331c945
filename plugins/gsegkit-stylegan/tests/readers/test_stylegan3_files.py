"""StyleGAN3 files: NVIDIA's pickles and state dicts with its names, read completely or refused with what differs."""

import pytest
import torch
from gsegkit_foreign.audit import audit
from gsegkit_stylegan.config import StyleGAN3Arch
from gsegkit_stylegan.networks.stylegan3 import StyleGAN3Network
from gsegkit_stylegan.readers.detect import from_names, read_generator
from gsegkit_stylegan.readers.stylegan3 import _channel_rule

from gsegkit import import_checkpoint
from gsegkit.api import look_at_checkpoint
from gsegkit.errors import ArtifactError
from gsegkit.plugins import installed

TINY = {"resolution": 16, "channel_base": 32, "channel_max": 7, "z_dim": 6, "w_dim": 5}
SEEDS = torch.arange(2)


@pytest.fixture(scope="module", params=["t", "r"])
def tiny(request):
    generator = torch.Generator().manual_seed(0)
    arch = StyleGAN3Arch(**TINY, variant=request.param, num_classes=3 if request.param == "r" else 0)
    torch.manual_seed(0)
    network = StyleGAN3Network(arch)
    for name, tensor in network.state_dict().items():
        if not name.endswith(("transform", "magnitude_ema")):
            tensor.add_(torch.randn(tensor.shape, generator=generator) * 0.1)
    return arch, network.eval().requires_grad_(False)


def test_a_pickle_is_read_exactly(tiny, writers, tmp_path):
    arch, network = tiny
    path = tmp_path / "stylegan3-x.pkl"
    path.write_bytes(writers.nvidia3_pickle(arch, network.state_dict()))
    seen = look_at_checkpoint(path)
    assert (seen.component, seen.layout) == ("stylegan3", f"StyleGAN3 (NVIDIA), config {arch.variant.upper()}")
    found = read_generator(path)
    assert found.arch.variant == arch.variant
    assert [found.arch.channel_max, found.arch.num_classes, found.arch.resolution] == [7, arch.num_classes, 16]
    assert found.state.keys() == network.state_dict().keys()
    assert all(torch.equal(found.state[name], tensor) for name, tensor in network.state_dict().items())
    assert not [note for note in found.notes if "assumed" in note]
    part = installed().build("generator", "stylegan3", {"weights": str(import_checkpoint(path))})
    labels = part.labels(SEEDS)
    made = network.synthesis(network.broadcast(network.mapping(part.z(SEEDS), labels)))
    torch.testing.assert_close(part.sample(SEEDS).images, made, atol=1e-5, rtol=0)


def test_a_state_dict_says_what_was_assumed(tiny, tmp_path):
    arch, network = tiny
    torch.save({"g_ema": network.state_dict()}, tmp_path / "three.pt")
    found = read_generator(tmp_path / "three.pt")
    assert found.arch.variant == arch.variant
    assert any("lr_multiplier=0.01, conv_clamp=256" in note for note in found.notes)


def test_every_tensor_matters(tiny):
    arch, network = tiny
    if arch.variant == "t":  # config R has the same names, and labels besides
        return
    flat = dict(network.state_dict())
    for name, tensor in flat.items():
        for changed in (None, torch.zeros(*tensor.shape, 2), torch.full_like(tensor, torch.inf), tensor.long()):
            damaged = {**flat, name: changed}
            if changed is None:
                del damaged[name]
            with pytest.raises(ArtifactError):
                from_names(damaged)
    with pytest.raises(ArtifactError, match="unexpected 'more'"):
        from_names({**flat, "more": torch.zeros(1)})


@pytest.mark.parametrize(
    ("module", "attribute", "value"),
    [
        ("L3_", "up_factor", 4),
        ("L3_", "conv_clamp", None),
        ("L3_", "padding", [9, 9, 9, 9]),
        ("L13_", "is_torgb", 1),
        ("input", "bandwidth", 4.0),
        ("", "margin_size", 5),
    ],
)
def test_modified_modules_are_refused(writers, tmp_path, module, attribute, value):
    torch.manual_seed(0)
    arch = StyleGAN3Arch(**TINY)
    state = StyleGAN3Network(arch).state_dict()
    tree = writers.nvidia3_module(arch, state)
    synthesis = tree.modules["synthesis"]
    full = next(name for name in synthesis.modules if name.startswith(module))
    (synthesis.modules[full] if module else synthesis).attributes[attribute] = value
    path = tmp_path / "changed.pkl"
    path.write_bytes(writers.nvidia3_pickle(arch, state, G_ema=tree))
    with pytest.raises(ArtifactError, match=f"changed.pkl: .*{attribute}=") as caught:
        read_generator(path)
    assert "configurations T and R" in caught.value.hint


def test_hostile_files_run_nothing(writers, tmp_path):
    torch.manual_seed(0)
    arch, canary = StyleGAN3Arch(**TINY), tmp_path / "ran"
    state = StyleGAN3Network(arch).state_dict()
    system = writers.Reduced(writers.Name("os", "system"), f"touch {canary}")

    def with_part(change):
        tree = writers.nvidia3_module(arch, state)
        change(tree.modules["synthesis"].modules["input"])
        return writers.nvidia3_pickle(arch, state, G_ema=tree)

    cases = {
        "honest": writers.nvidia3_pickle(arch, state),
        "as-generator": writers.nvidia3_pickle(arch, state, G_ema=system),
        "in-parameter": with_part(lambda m: m.parameters.__setitem__("weight", system)),
        "in-buffer": with_part(lambda m: m.buffers.__setitem__("freqs", system)),
        "in-attribute": with_part(lambda m: m.attributes.__setitem__("bandwidth", system)),
        "in-module": with_part(lambda m: m.modules.__setitem__("affine", system)),
    }
    for name, data in cases.items():
        (tmp_path / name).write_bytes(data)
    rows = audit("gsegkit_stylegan.readers.detect:read_generator", [tmp_path / "honest"], [tmp_path / n for n in cases])
    assert {n: r.outcome for n, r in rows.items()} == {n: "read" if n == "honest" else "refused" for n in cases}
    assert not [r.events for r in rows.values() if r.events]
    assert not canary.exists()


def test_other_networks_are_named(tiny):
    _, network = tiny
    flat = dict(network.state_dict())
    fewer = {name: tensor for name, tensor in flat.items() if ".L9_" not in name}
    with pytest.raises(ArtifactError, match="with the layers 0, 1, 2, 3, 4, 5, 6, 7, 8, 10"):
        from_names(fewer)
    odd = {name.replace("L14_16_3", "L14_17_3"): tensor for name, tensor in flat.items()}
    with pytest.raises(ArtifactError, match="of 17 px"):
        from_names(odd)
    grey = {name: tensor[:1] if "L14_" in name and tensor.ndim == 4 else tensor for name, tensor in flat.items()}
    with pytest.raises(ArtifactError, match="images of 1 channels"):
        from_names(grey)


@pytest.mark.parametrize(
    ("resolution", "base", "most"),
    [(256, 16384, 512), (1024, 32768, 512), (512, 65536, 1024), (64, 3000, 96), (64, 64, 9)],
)
def test_widths_give_the_rule_back(resolution, base, most):
    arch = StyleGAN3Arch(resolution=resolution, channel_base=base, channel_max=most)
    with torch.device("meta"):
        state = StyleGAN3Network(arch).state_dict()
    widths = [len(t) for name, t in state.items() if ".L" in name and t.ndim == 4][:-1]
    found = StyleGAN3Arch(
        resolution=resolution,
        **dict(zip(("channel_base", "channel_max"), _channel_rule(widths, resolution), strict=True)),
    )
    with torch.device("meta"):
        again = StyleGAN3Network(found).state_dict()
    assert {n: t.shape for n, t in again.items()} == {n: t.shape for n, t in state.items()}
    with pytest.raises(ArtifactError, match="no base / cut-off rule"):
        _channel_rule([*widths[:6], widths[6] + 40, *widths[7:]], resolution)
