"""StyleGAN3 against the reference's outputs, its filters against their closed forms, its features against its pictures."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from gsegkit_stylegan.config import StyleGAN3Arch, StyleGAN3Config
from gsegkit_stylegan.networks import alias_free
from gsegkit_stylegan.networks.stylegan2 import truncate
from gsegkit_stylegan.networks.stylegan3 import StyleGAN3Network, plans
from gsegkit_stylegan.stylegan3 import StyleGAN3

from gsegkit import run
from gsegkit.api import load
from gsegkit.errors import ContractError
from gsegkit.seeds import sample_seeds

sys.path.insert(0, str(Path(__file__).parent))
import golden_cases as golden

GOLDEN = golden.read("stylegan3.json")
CASES = {case["name"]: case for case in GOLDEN["cases"]}
TINY = {"resolution": 16, "channel_base": 64, "channel_max": 6, "z_dim": 5, "w_dim": 4}
SEEDS = sample_seeds(0, "preview", 0, 5)


def arch_of(case):
    config = case["config"]
    synthesis = config["synthesis"]
    return StyleGAN3Arch(
        resolution=config["img_resolution"], z_dim=config["z_dim"], w_dim=config["w_dim"], num_classes=config["c_dim"],
        channel_base=synthesis["channel_base"], channel_max=synthesis["channel_max"],
        variant="r" if synthesis["use_radial_filters"] else "t",
    )  # fmt: skip


def network_of(case):
    network = StyleGAN3Network(arch_of(case)).double().eval().requires_grad_(False)
    network.load_state_dict(golden.state(case))
    return network


def made(case, network, dtype=torch.float64):
    count, arch = case["output"]["shape"][0], network.arch
    labels = torch.zeros(count, dtype=torch.int64) if arch.num_classes else None
    w = network.mapping(golden.latents(count, arch.z_dim).to(dtype), labels)
    ws = truncate(network.broadcast(w), network.mapping.w_avg, case["truncation_psi"], None)
    return ws, network.synthesis(ws, dtype=dtype)


def worst(images, output):
    return max(abs(float(images[n, c, y, x]) - value) for n, c, y, x, value in output["pixels"])


@pytest.mark.parametrize("name", CASES)
def test_golden_outputs(name):
    case = CASES[name]
    network, output = network_of(case), case["output"]
    taps, seen = network.synthesis.taps(), {}
    for tap in taps:
        taps[tap].register_forward_hook(lambda module, inputs, result, tap=tap: seen.__setitem__(tap, result))
    ws, images = made(case, network)
    assert list(images.shape) == output["shape"]
    assert np.allclose(ws[0, 0, :4].numpy(), output["w"], atol=1e-8)
    assert worst(images, output) < 1e-9
    assert float(images.abs().sum()) == pytest.approx(output["abs_sum"], rel=1e-8)
    for full, (shape, mean, std, middle) in output["features"].items():
        value = seen["rgb" if full == "L14_64_3" else full.partition("_")[0]]
        assert list(value.shape[1:]) == shape, full
        assert [float(value.mean()), float(value.std(correction=0))] == pytest.approx([mean, std], abs=1e-8), full
        assert float(value.contiguous().flatten()[value.numel() // 2]) == pytest.approx(middle, abs=1e-8), full
    assert worst(made(case, network.float(), torch.float32)[1], output) < 2e-4


@pytest.mark.parametrize("name", CASES)
def test_names_shapes_and_layers_are_the_references(name):
    case = CASES[name]
    with torch.device("meta"):
        network = StyleGAN3Network(arch_of(case))
    order = [line.split()[0] for line in case["tensors"]]
    state = network.state_dict()
    assert golden.digest([(name, state[name].shape) for name in order]) == case["digest"]
    assert len(state) == len(order) == case["entries"]
    assert sum(p.numel() for p in network.parameters()) == case["parameters"]
    for (full, plan), layer in zip(plans(network.arch).items(), case["layers"], strict=True):
        assert full == layer["name"]
        first, last = plan.padding
        assert [plan.up, plan.down, plan.up_taps, plan.down_taps, plan.rate] == [
            layer[key] for key in ("up", "down", "up_taps", "down_taps", "tmp_rate")
        ]
        assert (plan.radial and plan.down_taps > 1) == layer["radial"]
        assert [first, last, first, last] == layer["padding"]
        halves = [plan.before.cutoff, plan.after.cutoff, plan.before.half_width, plan.after.half_width]
        assert halves == pytest.approx([layer[k] for k in ("in_cutoff", "out_cutoff", "in_half", "out_half")], rel=1e-8)


@pytest.mark.parametrize("name", GOLDEN["full_size"])
def test_full_size_networks_have_the_references_names(name):
    case = GOLDEN["full_size"][name]
    with torch.device("meta"):
        network = StyleGAN3Network(arch_of(case))
    assert list(plans(network.arch)) == case["layer_names"]
    assert sum(p.numel() for p in network.parameters()) == case["parameters"]
    assert len(network.state_dict()) == case["entries"]


# ---- filters -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GOLDEN["designed_filters"])
def test_designed_filters_are_the_references(name):
    case = CASES[f"stylegan3-{name[0]}-tiny"]
    synthesis = StyleGAN3Network(arch_of(case)).synthesis
    for layer, filters in GOLDEN["designed_filters"][name].items():
        module = getattr(synthesis, layer)
        assert {n for n, _ in module.named_buffers() if n.endswith("_filter")} == set(filters)
        for which, facts in filters.items():
            taps = getattr(module, which).double()
            assert list(taps.shape) == facts["shape"]
            assert taps.flatten()[:3].tolist() == pytest.approx(facts["first"], abs=1e-7), (layer, which)
            assert float(taps.sum()) == pytest.approx(1, abs=1e-6)
            assert float(taps.square().sum()) == pytest.approx(facts["sumsq"], rel=1e-6)


@pytest.mark.parametrize("width", [0.01, 3.0, 30.0])  # the three shapes of the window
def test_separable_filters_are_scipys(width):
    signal = pytest.importorskip("scipy.signal")
    made = alias_free.low_pass(24, 5.0, width, 128)
    theirs = signal.firwin(24, 5.0, width=2 * width, fs=128)
    assert np.allclose(made, theirs, atol=1e-12)


def test_radial_filters_are_round():
    special = pytest.importorskip("scipy.special")
    x = np.linspace(0, 50, 400)
    assert np.allclose(alias_free._bessel_j1(x), special.j1(x), atol=1e-12)
    taps = alias_free.low_pass(12, 2.0, 6.0, 32, radial=True)
    assert taps.sum() == pytest.approx(1)
    assert np.allclose(taps, taps.T)
    assert np.allclose(taps, taps[::-1])


def zeros_between(x, up, first, last):
    n, c, h, w = x.shape
    grown = x.new_zeros(n, c, h * up, w * up)
    grown[:, :, ::up, ::up] = x
    return F.pad(grown, (first, last, first, last))


@pytest.mark.parametrize(
    ("side", "up", "first", "size"), [(38, 2, 9, 82), (38, 4, -6, 114), (86, 2, -11, 138), (5, 2, 3, 6)]
)
def test_resampling_is_convolution_with_the_filter(side, up, first, size):
    """Zeros inserted and padded, then a true convolution: the filter is not symmetric here."""
    torch.manual_seed(0)
    x = torch.randn(2, 3, side, side, dtype=torch.float64, requires_grad=True)
    taps = torch.rand(6 * up, dtype=torch.float64)
    kernel = torch.outer(taps, taps).flip(0, 1).expand(3, 1, -1, -1)
    last = size - 1 + len(taps) - side * up - first
    expected = F.conv2d(zeros_between(x, up, first, last), kernel * up * up, groups=3)
    made = alias_free.upsample(x, taps, up, first, size)
    torch.testing.assert_close(made, expected, atol=1e-10, rtol=0)
    (gradient,) = torch.autograd.grad(made.square().sum(), x, retain_graph=True)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected.square().sum(), x)[0], atol=1e-7, rtol=0)


@pytest.mark.parametrize("radial", [False, True])
def test_downsampling_keeps_every_second_pixel(radial):
    torch.manual_seed(0)
    x, taps = torch.randn(2, 3, 82, 82, dtype=torch.float64), torch.rand(12, dtype=torch.float64)
    taps_2d = torch.rand(12, 12, dtype=torch.float64) if radial else torch.outer(taps, taps)
    expected = F.conv2d(x, taps_2d.flip(0, 1).expand(3, 1, -1, -1), groups=3)[:, :, ::2, ::2]
    made = alias_free.downsample(x, taps_2d if radial else taps, 2, 36)
    torch.testing.assert_close(made, expected, atol=1e-10, rtol=0)


# ---- the part ------------------------------------------------------------------------------------------------------


def test_features_lie_over_the_picture():
    """A picture of one wave: the cropped features have its phase at every sampling rate."""
    part = StyleGAN3(StyleGAN3Config(**{**TINY, "resolution": 64}))
    names = tuple(spec.name for spec in part.info.features)
    assert names == tuple(f"L{i}" for i in range(14))
    batch = part.sample(SEEDS, features=names)
    for spec in part.info.features:
        assert batch.features[spec.name].shape == (5, spec.channels, spec.height, spec.width)
    assert [spec.height for spec in part.info.features] == [16] * 4 + [32] * 4 + [64] * 6
    synthesis = part.network.synthesis
    wave = synthesis.input.signal

    def seen(rate, size):
        place = (torch.arange(size) * 2 + 1 - size) / (2 * rate)  # in pictures, from the middle
        return torch.sin(2 * math.pi * 0.7 * place)

    x = seen(wave.rate, wave.size).expand(1, 1, wave.size, -1)
    for name, layer in list(synthesis.plans.items())[:-1]:
        module, (rate, size) = getattr(synthesis, name), (layer.after.rate, layer.after.size)
        x = F.pad(x, (1, 1, 1, 1))  # as the convolution does, which is left out
        x = alias_free.upsample(x, module.up_filter, layer.up, layer.padding[0], layer.inner)
        x = alias_free.downsample(x, module.down_filter, layer.down, size)
        margin = (size - rate) // 2
        inner = slice(margin + rate // 4, size - margin - rate // 4)  # away from the zeros around the map
        line, expected = x[0, 0, size // 2, inner], seen(rate, rate)[rate // 4 : rate - rate // 4]
        assert F.cosine_similarity(line, expected, dim=0) > 0.999, name
    with pytest.raises(ContractError, match="L14"):
        part.sample(SEEDS, features=("L14",))


def test_a_moved_input_moves_the_picture():
    """What StyleGAN3 is for: a translation of the input by whole pixels of the picture translates the picture."""
    part = StyleGAN3(StyleGAN3Config(**{**TINY, "resolution": 32, "variant": "r"}))
    latents = part.latents(SEEDS[:1])
    still = part.synthesize(latents).images
    part.network.synthesis.input.transform[0, 2] = 4 / 32
    moved = part.synthesize(latents).images
    inner = slice(8, 24)
    shifted = still[:, :, inner, 12:28]
    assert (moved[:, :, inner, 8:24] - shifted).square().mean() < 0.01 * shifted.var()
    assert (moved - still)[:, :, inner, inner].square().mean() > 0.1 * shifted.var()


def test_truncation_and_gradients():
    part = StyleGAN3(StyleGAN3Config(**TINY, psi=0.0))
    assert float(part.sample(SEEDS).images.std(dim=0).max()) < 1e-5
    part = StyleGAN3(StyleGAN3Config(**TINY))
    whole = part.sample(SEEDS).images
    assert (part.sample(SEEDS[[3]]).images - whole[[3]]).abs().max() < 2e-5
    latents = part.latents(SEEDS[:1]).requires_grad_()
    (gradient,) = torch.autograd.grad(part.synthesize(latents).images.square().sum(), latents)
    step = 1e-2 * gradient / gradient.norm()
    with torch.no_grad():
        ends = [part.synthesize(latents + s * step).images.double().square().sum() for s in (1, -1)]
    assert float((gradient * step).sum()) == pytest.approx(float(ends[0] - ends[1]) / 2, rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["t", "r"])
def test_klish_works_on_it(tmp_path, variant):
    """The whole way to a segmenter; the clusters come from the cropped maps."""
    small = {"resolution": 32, "channel_base": 128, "channel_max": 8, "z_dim": 8, "w_dim": 8, "variant": variant}
    options = [f"gen.{name}={value}" for name, value in small.items()]
    options += ["extractor.k=3", "extractor.num_images=24", "seg.steps=6", "seg.batch_size=4"]
    run("stylegan3", "klish", "unet", out=tmp_path / "run", num_samples=24, options=options)
    made = load(tmp_path / "run", "extractor")
    part = load(tmp_path / "run", "generator")
    labels = made.masks(part.sample(SEEDS, features=made.features(part.info)), part, (32, 32))
    assert labels.shape == (5, 32, 32)
    assert len(labels.unique()) > 1
