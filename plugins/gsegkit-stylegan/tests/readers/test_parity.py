"""Files in the layouts of other software, built from the facts alone: our network makes the pictures of their code."""

import pytest
import torch
import torch.nn.functional as F
from gsegkit_stylegan.networks.pggan import PGGANNetwork
from gsegkit_stylegan.networks.stylegan import StyleGANNetwork
from gsegkit_stylegan.networks.stylegan2 import StyleGAN2Network
from gsegkit_stylegan.readers.detect import read_generator

TOLERANCE = 1e-4  # max abs; float32 against float64, pictures with a standard deviation of about 1
NETWORKS = {"pggan": PGGANNetwork, "stylegan": StyleGANNetwork, "stylegan2": StyleGAN2Network}
SMOOTH = ("models", "generator_smooth")


def same_pictures(path, original, labels=0):
    """Read the file, compare pictures of a few latents, and give back what was found."""
    found = read_generator(path)
    network = NETWORKS[found.generator](found.arch).eval()
    network.load_state_dict(dict(found.state))
    z = torch.randn(3, original.z_dim, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    numbers = torch.arange(3) % labels if labels else None
    want = original(z) if numbers is None else original(z, F.one_hot(numbers, labels).double())
    with torch.no_grad():
        got = network(z.float()) if numbers is None else network(z.float(), numbers)
    assert want.std() > 0.1
    assert (want.flatten(1).std(dim=0) > 0).any()  # the latents reach the pictures
    assert (want.float() - got).abs().max() < TOLERANCE * max(1.0, float(want.std()))
    return found


def save(path, variables, keys=SMOOTH):
    content = variables.stored()
    for key in reversed(keys):
        content = {key: content}
    torch.save(content, path)
    return path


def notes_of(found):
    return " / ".join(found.notes)


# ---- Progressive GAN -----------------------------------------------------------------------------------------------

WIDTHS = [
    (128, 8),
    (256, 32),
]  # the same channels in all layers, where a wrong order of axes is silent, and different ones


def pggan_pickle(writers, original):
    def network(name, variables):
        state = {"version": 2, "name": name, "static_kwargs": original.kwargs(), "build_module_src": "-"}
        state |= {"build_func_name": "G_paper", "variables": list(variables.items())}
        return writers.Instance(writers.Name("tfutil", "Network"), state=state)

    return writers.dumps((network("G", {}), network("D", {}), network("Gs", original.v.arrays())), 2)


@pytest.mark.parametrize(("base", "most"), WIDTHS)
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("labels", [0, 3])
def test_pggan_of_tensorflow(tmp_path, writers, originals, base, most, fused, labels):
    original = originals.TensorFlowPGGAN(16, base, most, 6, fused, labels)
    (tmp_path / "net.pkl").write_bytes(pggan_pickle(writers, original))
    found = same_pictures(tmp_path / "net.pkl", original, labels)
    assert found.notes == ()


@pytest.mark.parametrize(("base", "most"), WIDTHS)
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("old", [True, False])
def test_pggan_of_genforce(tmp_path, originals, base, most, fused, old):
    original = originals.GenforcePGGAN(16, base, most, 6, fused, old)
    path = save(tmp_path / "net.pth", original.v)
    if fused and not old and base == 128:  # the file cannot say it: equal channels, equal names
        assert "fused_scale=False" in notes_of(read_generator(path))
        return
    notes = notes_of(same_pictures(path, original))
    assert ("fused_scale=False" in notes) == (base == 128 and not old)
    assert "label_size=0" in notes
    assert "final_tanh=False" in notes
    assert "all 6 inputs" in notes


# ---- StyleGAN ------------------------------------------------------------------------------------------------------

FUSED = {"auto": lambda r: r >= 128, "True": lambda r: True, "False": lambda r: False}


@pytest.mark.parametrize("fused", ["True", "False", "auto"])
@pytest.mark.parametrize(("labels", "hidden", "w_dim"), [(0, 0, 8), (3, 0, 10), (0, 5, 8)])
def test_stylegan_of_tensorflow(tmp_path, writers, originals, fused, labels, hidden, w_dim):
    original = originals.StyleGAN("tensorflow", 16, 128, 8, 6, w_dim, FUSED[fused], 3, hidden, labels)
    arrays = original.v.arrays()
    kwargs = {"resolution": 16, "label_size": labels, "mapping_lrmul": 0.01}
    kwargs["fused_scale"] = {"True": True, "False": False}.get(fused, fused)
    parts = {}
    for part in ("mapping", "synthesis"):
        inside = {name.removeprefix(f"{part}/"): a for name, a in arrays.items() if name.startswith(f"{part}/")}
        parts[part] = writers.tf_network(part, inside, kwargs, version=3)
    top = writers.tf_network("Gs", {"dlatent_avg": arrays["dlatent_avg"]}, kwargs, parts, version=3)
    first = writers.tf_network("G", {}, {}, version=3)
    (tmp_path / "net.pkl").write_bytes(writers.dumps((first, first, top)))
    same_pictures(tmp_path / "net.pkl", original, labels)


@pytest.mark.parametrize(
    ("code", "fused", "resolution", "labels"),
    [
        ("genforce", "auto", 16, 0),
        ("genforce", "auto", 16, 3),
        ("genforce", "auto", 128, 0),
        ("genforce, older", "auto", 128, 0),
        ("genforce, older", "True", 16, 0),
        ("genforce, older", "False", 16, 0),
    ],
)
def test_stylegan_of_genforce(tmp_path, originals, code, fused, resolution, labels):
    original = originals.StyleGAN(code, resolution, 8 * resolution, 8, 6, 10, FUSED[fused], labels=labels)
    notes = notes_of(same_pictures(save(tmp_path / "net.pth", original.v), original, labels))
    assert ("fused_scale=auto" in notes) == (code == "genforce")
    assert "mapping_lr_mul=0.01" in notes
    assert "probably wrong" not in notes


# ---- StyleGAN2 -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("taps", [(1.0, 3.0, 3.0, 1.0), (1.0, 1.0), (1.0, 2.0, 1.0), (1.0, 4.0, 6.0, 4.0, 1.0)])
def test_stylegan2_of_rosinality(tmp_path, originals, taps):
    """Its option blur_kernel reaches the convolutions and not the images."""
    original = originals.StyleGAN2("rosinality", 16, 128, 8, 8, 8, taps)
    found = same_pictures(save(tmp_path / "net.pt", original.v, ("g_ema",)), original)
    assert found.arch.resample_filter == taps
    assert found.arch.image_filter == (None if taps == (1.0, 3.0, 3.0, 1.0) else (1.0, 3.0, 3.0, 1.0))
    assert "lr_mlp=0.01" in notes_of(found)


@pytest.mark.parametrize(
    ("labels", "conditioning", "w_dim", "hidden"),
    [(0, "", 8, 0), (3, "joint", 8, 0), (3, "joint", 10, 0), (3, "apart", 8, 0), (3, "apart", 10, 5), (0, "", 8, 5)],
)
def test_stylegan2_of_genforce(tmp_path, originals, labels, conditioning, w_dim, hidden):
    original = originals.StyleGAN2(
        "genforce", 16, 128, 8, 8, w_dim, hidden=hidden, labels=labels, conditioning=conditioning, layers=3
    )
    found = same_pictures(save(tmp_path / "net.pth", original.v), original, labels)
    assert (found.arch.z_dim, found.arch.w_dim, found.arch.num_classes) == (8, w_dim, labels)
    assert "mapping_lr_mul=0.01, final_tanh=False" in notes_of(found)


@pytest.mark.parametrize("code", ["rosinality", "genforce"])
def test_weights_that_contradict_the_assumed_multiplier(tmp_path, originals, code):
    original = originals.StyleGAN2(code, 8, 64, 8, 8, 8, lr=1.0)
    found = read_generator(save(tmp_path / "net.pt", original.v))
    assert "'mapping.fc0.weight' has a standard deviation of" in notes_of(found)
    assert "multiplier 0.01 that was assumed: the images are probably wrong" in notes_of(found)


def test_weights_that_contradict_the_assumed_scaling(tmp_path, originals):
    original = originals.GenforcePGGAN(8, 256, 32, 32, False)
    for name, tensor in original.v.items():
        if tensor.ndim == 4:  # use_wscale=False: the scale is in the weights
            original.v[name] = tensor * (2 / tensor[0].numel()) ** 0.5
    notes = notes_of(read_generator(save(tmp_path / "net.pth", original.v)))
    assert "use_wscale) that was assumed: the images are probably wrong" in notes
