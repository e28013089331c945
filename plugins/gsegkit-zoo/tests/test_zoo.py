"""The zoo's files: complete, unchanged, small, and with a card that says where they come from."""

import json
import re

import pytest
from gsegkit_zoo import gsegkit_components
from gsegkit_zoo.samples import PHOTOGRAPHS
from gsegkit_zoo.weights import DATA, ZooWeights
from typer.testing import CliRunner

from gsegkit.cli.main import app
from gsegkit.errors import ArtifactError
from gsegkit.images import read_image
from gsegkit.plugins import installed
from gsegkit.storage import file_hash
from gsegkit.tensors import read_safetensors

NAMES = [component.name for component in gsegkit_components() if component.kind == "weights"]
SAMPLES = [component.name for component in gsegkit_components() if component.kind == "samples"]
CARD = {
    "generator", "licence", "data", "data_source", "data_licence", "attribution", "fitted", "command", "seed",
    "images_shown", "device", "sha256",
}  # fmt: skip


@pytest.fixture(params=NAMES)
def folder(request):
    return installed().build("weights", request.param).folder()


def test_files_are_unchanged_and_small(folder):
    card = json.loads((folder / "card.json").read_text())
    path = folder / "state.safetensors"
    assert file_hash(path) == card["sha256"] == json.loads((folder / "component.json").read_text())["sha256"]
    assert path.stat().st_size < 15e6
    state, _ = read_safetensors(path)
    assert sum(tensor.numel() for tensor in state.values()) > 100_000


def test_the_card_is_shown():
    found = CliRunner().invoke(app, ["show", "blood-cells-64", "--json"])
    assert found.exit_code == 0
    assert "Acevedo" in json.loads(found.stdout)["card"]["attribution"]


def test_the_card_is_complete(folder):
    card = json.loads((folder / "card.json").read_text())
    assert card.keys() >= CARD
    assert all(str(card[key]) for key in CARD)
    assert card["images_shown"] > 10_000


def test_entries_say_how_their_photographs_were_mirrored(folder):
    """The generator, the card, and the command that the card gives."""
    pytest.importorskip("gsegkit_stylegan")
    card = json.loads((folder / "card.json").read_text())
    generator = installed().build("generator", "stylegan2", {"weights": folder.name})
    assert generator.info.mirrored == card["mirrored"]
    assert card["mirrored"] in re.findall(r"gen\.mirror=(\w+)", card["command"])


def test_every_entry_has_its_folder():
    assert sorted(NAMES) == sorted(path.name for path in DATA.iterdir() if path.is_dir())


def test_there_is_a_picture_of_samples(folder):
    assert read_image(folder / "samples.png").float().std() > 20


def test_missing_files_are_told():
    class Missing(ZooWeights):
        name = "missing"

    with pytest.raises(ArtifactError, match="no files of 'missing'"):
        Missing(None).folder()


@pytest.mark.parametrize("name", SAMPLES)
def test_sample_photographs_are_few_small_and_attributed(name):
    folder = installed().build("samples", name).folder()
    photographs = [path for path in folder.iterdir() if path.suffix == ".jpg"]
    assert len(photographs) == 24  # as many as may be shipped
    assert sum(path.stat().st_size for path in photographs) < 500_000
    assert len({file_hash(path) for path in photographs}) == 24
    text = (folder / "ATTRIBUTION.txt").read_text()
    assert "Changed:" in text
    assert "Chosen by name" in text
    assert len(folder.relative_to(PHOTOGRAPHS).parts) == 1


def test_weights_name_samples_that_are_there():
    named = {name: installed().build("weights", name).samples for name in NAMES}
    assert named["blood-cells-64"] == "blood-cells"
    assert {samples for samples in named.values() if samples} == set(SAMPLES)


def test_what_start_says_of_our_generators_is_what_their_cards_say():
    from gsegkit.starting.experience import ZOO

    for name, photographs, images_shown in ZOO:
        card = json.loads((DATA / name / "card.json").read_text())
        assert card["data"].startswith(f"{photographs:,} ")
        assert card["images_shown"] == images_shown
