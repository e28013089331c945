"""Import: written once, atomically, with a card; and the command."""

import json
from unittest import mock

import pytest
import safetensors.torch
import torch
import typer
from gsegkit_foreign import read_foreign
from gsegkit_stylegan.config import StyleGAN2Arch
from gsegkit_stylegan.readers import import_checkpoint, importer, sniff
from gsegkit_stylegan.readers.command import add_import_command
from typer.testing import CliRunner

from gsegkit.errors import ArtifactError, StorageError

TINY = {"resolution": 8, "channel_base": 64, "channel_max": 8, "z_dim": 6, "w_dim": 6, "mapping_layers": 2}


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
    assert sorted(item.name for item in folder.iterdir()) == ["card.json", "state.safetensors"]
    card = json.loads((folder / "card.json").read_text())
    assert card["generator"] == "stylegan2"
    assert StyleGAN2Arch(**card["arch"]) == arch
    assert card["source"] == {
        "file": path.name,
        "sha256": read_foreign(path).sha256,
        "num_bytes": path.stat().st_size,
        "container": "pickle",
    }
    assert "SynthesisLayer" in card["code_not_executed"]
    assert "torch_utils.persistence._reconstruct_persistent_obj" in card["names_not_imported"]
    state = safetensors.torch.load_file(folder / "state.safetensors")
    assert state.keys() == network.state_dict().keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in network.state_dict().items())


def test_importing_again_changes_nothing(checkpoint):
    path, _, _ = checkpoint
    folder = import_checkpoint(path)
    before = {item: item.stat().st_mtime_ns for item in folder.iterdir()}
    assert import_checkpoint(path) == folder
    assert {item: item.stat().st_mtime_ns for item in folder.iterdir()} == before


def test_a_damaged_import_is_made_again(checkpoint):
    path, _, _ = checkpoint
    folder = import_checkpoint(path)
    good = (folder / "state.safetensors").read_bytes()
    (folder / "state.safetensors").write_bytes(good[:-1] + b"\0")
    import_checkpoint(path)
    assert (folder / "state.safetensors").read_bytes() == good


def test_other_folders_are_left_alone(checkpoint, tmp_path, writers, make_network):
    path, _, _ = checkpoint
    folder = import_checkpoint(path)
    arch, network = make_network(**TINY)
    other = tmp_path / "other.pkl"
    other.write_bytes(writers.nvidia_pickle(arch, network.state_dict()))
    with pytest.raises(ArtifactError, match="another file"):
        import_checkpoint(other, folder)
    full = tmp_path / "photographs"
    full.mkdir()
    (full / "a.jpg").write_bytes(b"x")
    with pytest.raises(ArtifactError, match="not an import"):
        import_checkpoint(other, full)
    assert [item.name for item in full.iterdir()] == ["a.jpg"]


@pytest.mark.parametrize("fail_at", ["atomic_write", "atomic_write_json"])
def test_a_failed_write_leaves_no_card(checkpoint, tmp_path, fail_at):
    path, _, _ = checkpoint
    error = StorageError("no space left", "free some")
    with mock.patch.object(importer, fail_at, side_effect=error), pytest.raises(StorageError):
        import_checkpoint(path, tmp_path / "out")
    assert not (tmp_path / "out" / "card.json").exists()
    assert (import_checkpoint(path, tmp_path / "out") / "card.json").exists()  # the rest is no obstacle


def test_sniff(checkpoint):
    assert sniff(checkpoint[0]) == "stylegan2: StyleGAN2 (NVIDIA, PyTorch), 8 px, 3 classes (pickle)"


def test_command(checkpoint, tmp_path):
    app = typer.Typer()
    app.callback()(lambda: None)
    add_import_command(app)
    run = CliRunner().invoke(app, ["import", str(checkpoint[0]), "--out", str(tmp_path / "out")])
    assert run.exit_code == 0, run.output
    assert (tmp_path / "out" / "card.json").exists()
    assert "StyleGAN2 (NVIDIA, PyTorch), 8 px" in run.output
    look = CliRunner().invoke(app, ["import", "--look", str(checkpoint[0])])
    assert look.output.startswith("stylegan2: ")


def test_command_module_is_light():
    import subprocess
    import sys

    code = "import sys; import gsegkit_stylegan.readers.command; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
