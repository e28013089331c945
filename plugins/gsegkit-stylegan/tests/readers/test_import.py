"""`gsegkit import` and `-o gen.weights=FILE` for the family's files: the same tensors, a card, nothing executed."""

import json
import subprocess
import sys

import pytest
import safetensors.torch
import torch
from gsegkit_foreign import read_foreign
from gsegkit_stylegan.config import PGGANArch, StyleGAN2Arch, StyleGANArch
from gsegkit_stylegan.networks.pggan import PGGANNetwork
from gsegkit_stylegan.networks.stylegan import StyleGANNetwork
from gsegkit_stylegan.readers import sample

from gsegkit import import_checkpoint
from gsegkit.api import load, look_at_checkpoint
from gsegkit.errors import ArtifactError
from gsegkit.plugins import installed

TINY = {"resolution": 8, "channel_base": 64, "channel_max": 8, "z_dim": 6, "w_dim": 6, "mapping_layers": 2}
SEEDS = torch.arange(2)


@pytest.fixture
def checkpoint(tmp_path, writers, make_network):
    arch, network = make_network(**TINY, conv_clamp=256.0, num_classes=3)
    path = tmp_path / "network-snapshot.pkl"
    path.write_bytes(writers.nvidia_pickle(arch, network.state_dict()))
    return path, arch, network


def test_folder_and_card(checkpoint):
    path, arch, network = checkpoint
    folder = import_checkpoint(path)
    assert folder == path.with_suffix("")
    assert sorted(item.name for item in folder.iterdir()) == ["card.json", "component.json", "state.safetensors"]
    card = json.loads((folder / "card.json").read_text())
    assert card["generator"] == "stylegan2"
    assert StyleGAN2Arch(**card["arch"]) == arch
    assert card["source"] == {
        "file": path.name,
        "sha256": read_foreign(path).sha256,
        "num_bytes": path.stat().st_size,
        "container": "pickle",
    }
    assert card["licence"] == "unknown: that of the source file applies"
    assert "SynthesisLayer" in card["code_not_executed"]
    assert "torch_utils.persistence._reconstruct_persistent_obj" in card["names_not_imported"]
    state = safetensors.torch.load_file(folder / "state.safetensors")
    assert state.keys() == network.state_dict().keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in network.state_dict().items())


def test_the_import_the_file_and_the_stored_part_are_one_generator(checkpoint):
    path, _, _ = checkpoint
    direct = installed().build("generator", "stylegan2", {"weights": str(path)})
    folder = import_checkpoint(path)
    imported = installed().build("generator", "stylegan2", {"weights": str(folder)})
    stored = load(folder, "generator")
    images = direct.sample(SEEDS).images
    assert torch.equal(images, imported.sample(SEEDS).images)
    assert torch.equal(images, stored.sample(SEEDS).images)
    assert any("'G_ema' was taken" in note for note in direct.notes)
    assert direct.info.licence == imported.info.licence == "unknown: that of the source file applies"


def test_what_it_is(checkpoint):
    found = look_at_checkpoint(checkpoint[0])
    assert (found.component, found.layout) == ("stylegan2", "StyleGAN2 (NVIDIA, PyTorch)")
    assert found.summary == "8 px, 3 classes"


def files(writers, arch, state):
    return {
        "rosinality": writers.rosinality_file(arch, state),
        "rosinality-training": writers.rosinality_file(arch, state, training=True),
        "genforce": writers.genforce_file(arch, state),
    }


@pytest.mark.parametrize("kind", ["rosinality", "rosinality-training", "genforce", "genforce-training"])
def test_other_software(tmp_path, writers, make_network, kind):
    arch, network = make_network(**TINY, demod_gain_first=True)
    state = network.state_dict()
    if kind == "genforce-training":
        both = read_foreign_tensors(tmp_path, writers.genforce_file(arch, state))
        raw = {name: tensor + 1 for name, tensor in both.items()}
        data = writers.torch_saved({"models": {"generator": raw, "discriminator": {}, "generator_smooth": both}})
    else:
        data = files(writers, arch, state)[kind]
    path = tmp_path / "checkpoint.pth"
    path.write_bytes(data)
    folder = import_checkpoint(path, tmp_path / "out")
    stored = safetensors.torch.load_file(folder / "state.safetensors")
    assert torch.equal(stored["synthesis.b8.conv1.weight"], state["synthesis.b8.conv1.weight"])
    part = installed().build("generator", "stylegan2", {"weights": str(path)})
    assert torch.equal(part.state_dict()["synthesis.b8.conv0.weight"], state["synthesis.b8.conv0.weight"])
    if kind == "genforce-training":
        assert "'models.generator_smooth' was taken, whose weights are averages" in part.notes[-1]


def read_foreign_tensors(folder, data):
    (folder / "plain.pth").write_bytes(data)
    file = read_foreign(folder / "plain.pth")
    root = file.mapping(file.root, "file")
    return file.tensors(root.get("generator_smooth", file.root))


@pytest.mark.parametrize(
    ("name", "arch", "network"),
    [
        ("stylegan", StyleGANArch(**TINY), StyleGANNetwork),
        ("pggan", PGGANArch(**{k: TINY[k] for k in list(TINY)[:4]}), PGGANNetwork),
    ],
)
def test_each_file_goes_to_its_own_generator(tmp_path, writers, name, arch, network):
    path = tmp_path / "network.pkl"
    path.write_bytes(writers.grown_tf_pickle(arch, network(arch).state_dict(), lambda r: False))
    assert look_at_checkpoint(path).component == name
    part = installed().build("generator", name, {"weights": str(path)})
    assert part.info.height == 8
    with pytest.raises(ArtifactError, match=f"is for the generator '{name}', not for the generator 'stylegan2'"):
        installed().build("generator", "stylegan2", {"weights": str(path)})


def test_relatives_that_are_not_supported_are_named_by_both_ways(tmp_path, writers):
    path = tmp_path / "old.pkl"
    theano = writers.Instance(writers.Name("network", "Network"), state={"param_values": []})
    path.write_bytes(writers.dumps((theano, theano, theano)))
    for attempt in (
        lambda: import_checkpoint(path),
        lambda: installed().build("generator", "pggan", {"weights": str(path)}),
    ):
        with pytest.raises(ArtifactError, match=r"old.pkl: a Theano-era PGGAN pickle"):
            attempt()


def test_reading_files_does_not_import_torchs_compiler(tmp_path):
    """It takes seconds, and one product of tensors on the meta device imports it (see networks/layers.py)."""
    kinds = ("stylegan2", "stylegan3", "stylegan", "pggan")
    for kind in kinds:
        getattr(sample, f"write_{kind}")(tmp_path / f"{kind}.pth")
    code = (
        "import sys; from gsegkit import import_checkpoint; from gsegkit.api import load\n"
        "for path in sys.argv[1:]:\n"
        "    print(load(import_checkpoint(path), 'generator').info.height, 'torch._dynamo' in sys.modules)"
    )
    command = [sys.executable, "-c", code, *(str(tmp_path / f"{kind}.pth") for kind in kinds)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"{16 if kind == 'stylegan3' else 8} False" for kind in kinds]
