"""Folders that gsegkit wrote are read like any other checkpoint, by the record beside the tensors."""

import json
import shutil

import pytest
import torch
from gsegkit_stylegan.config import PGGANConfig, StyleGAN2Config, StyleGANConfig
from gsegkit_stylegan.pggan import PGGAN
from gsegkit_stylegan.readers import import_checkpoint, read_generator
from gsegkit_stylegan.stylegan import StyleGAN
from gsegkit_stylegan.stylegan2 import StyleGAN2

from gsegkit.errors import ArtifactError
from gsegkit.parts import save_part

SMALL = {"resolution": 8, "channel_base": 64, "channel_max": 8, "z_dim": 6}
PARTS = {
    "stylegan2": (StyleGAN2, StyleGAN2Config(**SMALL, w_dim=6, mapping_layers=2, conv_clamp=256.0)),
    "stylegan": (StyleGAN, StyleGANConfig(**SMALL, w_dim=6, mapping_layers=2)),
    "pggan": (PGGAN, PGGANConfig(**SMALL)),
}


@pytest.fixture(params=PARTS)
def stored(request, tmp_path):
    cls, config = PARTS[request.param]
    part = cls(config)
    save_part(part, tmp_path / "run", "generator", request.param)
    return request.param, part, tmp_path / "run"


def test_trained_folders_are_read(stored, tmp_path):
    name, part, folder = stored
    found, _ = read_generator(folder / "state.safetensors")
    assert found.generator == name
    assert found.arch == part.arch
    assert all(torch.equal(found.state[key], value) for key, value in part.state_dict().items())
    imported = import_checkpoint(folder / "state.safetensors", tmp_path / "imported")
    again, _ = read_generator(imported / "state.safetensors")
    assert again.arch == part.arch
    cls, config = PARTS[name]
    loaded = cls(type(config)(weights=str(imported)))
    seeds = torch.arange(2)
    assert torch.equal(loaded.sample(seeds).images, part.sample(seeds).images)


def test_changed_folders_are_refused(stored):
    name, _, folder = stored
    record = json.loads((folder / "component.json").read_text())
    path = folder / "state.safetensors"

    def refused(changes, words):
        (folder / "component.json").write_text(json.dumps({**record, **changes}))
        with pytest.raises(ArtifactError, match=words):
            read_generator(path)

    refused({"sha256": "0" * 64}, "do not match the hash")
    refused({"name": "kmeans"}, "of 'kmeans'")
    refused({"facts": {}}, f"of '{name}'")
    refused({"facts": [1]}, f"of '{name}'")
    arch = record["facts"]["arch"]
    refused({"facts": {"arch": {**arch, "channel_max": 4}}}, "has shape")
    refused({"facts": {"arch": {**arch, "resolution": 12}}}, "power of two")
    (folder / "component.json").write_text("[]")
    with pytest.raises(ArtifactError, match="do not match"):
        read_generator(path)


def test_tensors_alone(stored, tmp_path):
    name, _, folder = stored
    shutil.copy(folder / "state.safetensors", tmp_path / "alone.safetensors")
    if name == "stylegan2":
        found, _ = read_generator(tmp_path / "alone.safetensors")
        assert "no clamp was assumed" in found.notes[0]
    else:
        with pytest.raises(ArtifactError, match="without their record"):
            read_generator(tmp_path / "alone.safetensors")
