"""A model with its clusterer: imported once, then classes come as often as their clusters are large."""

import pickle
import sys
import types

import numpy as np
import pytest
import torch
from gsegkit_resgan.readers import sample

from gsegkit import api
from gsegkit.errors import ArtifactError
from gsegkit.parts import CARD_FILE, save_part
from gsegkit.plugins import installed
from gsegkit.storage import read_json
from gsegkit.tensors import state_hash

SEEDS = torch.arange(300)


class Clusterer:
    """Pickled under the name that the original class has."""


def write_clusterer(path, labels):
    module = types.ModuleType("clusterers.selfcondgan")
    module.Clusterer = Clusterer
    Clusterer.__module__ = module.__name__
    sys.modules["clusterers"], sys.modules[module.__name__] = types.ModuleType("clusterers"), module
    try:
        thing = Clusterer()
        thing.x_labels = np.array(labels, dtype=np.int64)
        path.write_bytes(pickle.dumps(thing, 3))
    finally:
        del sys.modules["clusterers"], sys.modules[module.__name__]


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "selfcondgan_i_model.pt"
    sample.write_selfcondgan(path)
    return path


def generator(**options):
    return installed().build("generator", "selfcondgan", options)


def test_the_clusterer_beside_the_model_is_stored_with_the_import(model, tmp_path):
    write_clusterer(tmp_path / "selfcondgan_i_clusterer.pkl", [0, 0, 0, 2])
    folder = api.import_checkpoint(model)
    assert any("selfcondgan_i_clusterer.pkl" in note for note in read_json(folder / CARD_FILE)["notes"])
    (tmp_path / "selfcondgan_i_clusterer.pkl").unlink()
    labels = generator(weights=str(folder)).labels(SEEDS)
    assert set(labels.tolist()) == {0, 2}
    assert 0.65 < float((labels == 0).float().mean()) < 0.85


def test_without_it_classes_are_alike_and_a_note_says_so(model, tmp_path):
    alike = generator(weights=str(model))
    assert any("drawn alike" in note for note in alike.notes)
    assert set(alike.labels(SEEDS).tolist()) == {0, 1, 2}
    write_clusterer(tmp_path / "later.pkl", [1, 1])
    assert set(generator(weights=str(model), clusterer=str(tmp_path / "later.pkl")).labels(SEEDS).tolist()) == {1}


def test_a_clusterer_of_another_model_is_refused(model, tmp_path):
    write_clusterer(tmp_path / "selfcondgan_i_clusterer.pkl", [0, 9])
    with pytest.raises(ArtifactError, match="9, but the generator has 3 classes") as caught:
        api.import_checkpoint(model)
    assert caught.value.hint
    assert not (tmp_path / "selfcondgan_i_model").exists()


def test_a_generator_stored_with_a_clusterer_needs_its_file_no_more(model, tmp_path):
    write_clusterer(tmp_path / "c.pkl", [1, 1])
    first = generator(weights=str(model), clusterer=str(tmp_path / "c.pkl"))
    save_part(first, tmp_path / "part", "generator", "selfcondgan")
    (tmp_path / "c.pkl").unlink()
    other = generator(weights=str(tmp_path / "part"))
    assert torch.equal(other.labels(SEEDS), first.labels(SEEDS))


def test_other_clusters_are_another_generator(model, tmp_path):
    write_clusterer(tmp_path / "c.pkl", [0, 0, 2])
    write_clusterer(tmp_path / "d.pkl", [0, 2, 2])
    alike = generator(weights=str(model))
    one, two = (generator(weights=str(model), clusterer=str(tmp_path / name)) for name in ("c.pkl", "d.pkl"))
    assert len({state_hash(part) for part in (alike, one, two)}) == 3
    save_part(one, tmp_path / "part", "generator", "selfcondgan")
    assert state_hash(generator(weights=str(tmp_path / "part"))) == state_hash(one)


def test_a_clusterer_that_came_later_is_not_passed_over(model, tmp_path):
    folder = api.import_checkpoint(model, tmp_path / "out")
    assert api.import_checkpoint(model, tmp_path / "out") == folder
    write_clusterer(tmp_path / "selfcondgan_i_clusterer.pkl", [0, 0, 2])
    with pytest.raises(ArtifactError, match="prior") as caught:
        api.import_checkpoint(model, tmp_path / "out")
    assert "--out" in caught.value.hint
    assert read_json(folder / CARD_FILE)["prior"] == []
