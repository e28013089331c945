"""`gsegkit layered cluster` as a user meets it."""

import csv
import json

import pytest
import torch
from gsegkit_layered.config import LayeredConfig, PerturbGANConfig
from gsegkit_layered.generator import Layered, PerturbGAN
from typer.testing import CliRunner

from gsegkit.builtin.config import ToyConfig
from gsegkit.builtin.toy import Toy
from gsegkit.cli.main import app
from gsegkit.errors import CapabilityError, ConfigError, DataError
from gsegkit.images import read_image, to_images, to_pixels, write_png
from gsegkit.parts import save_part
from gsegkit.plugins import installed

pytest.importorskip("gsegkit_datasets")

SMALL = {"z_dim": 4, "num_codes": 6, "group_size": 3}


@pytest.fixture(scope="module")
def command():
    if not any(group.name == "layered" for group in app.registered_groups):
        installed().manager.hook.gsegkit_commands(app=app)

    def run(*arguments):
        words = ["layered", "cluster", *map(str, arguments), "--device", "cpu", "--quiet"]
        return CliRunner().invoke(app, words, catch_exceptions=True)

    return run


def stored(folder, part, name, seen=640):
    part.seen.fill_(seen)
    save_part(part, folder, "generator", name)
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A network that was not trained, but says so; its heads read something in every picture."""
    return stored(tmp_path_factory.mktemp("weights"), Layered(LayeredConfig(**SMALL)), "layered")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """70 pictures of two sizes in two folders: more than one batch."""
    folder = tmp_path_factory.mktemp("photos")
    for side, name, start in ((40, "round", 0), (24, "square", 35)):
        for i, row in enumerate(to_pixels(Toy(ToyConfig(size=side)).sample(torch.arange(start, start + 35)).images)):
            write_png(folder / name / f"{i:02d}.png", row)
    return folder


def test_the_table_is_what_the_head_reads(command, weights, photos, tmp_path):
    done = command(weights, photos, "--out", tmp_path / "c.csv", "--sheet", tmp_path / "c.png", "--json")
    assert done.exit_code == 0, done.output
    with open(tmp_path / "c.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows][:2] == ["round/00.png", "round/01.png"]
    assert len(rows) == 70
    generator = Layered(LayeredConfig(**SMALL, weights=str(weights)))
    for row in (rows[3], rows[69]):
        pixels = read_image(photos / row["file"])[None].float()
        small = torch.nn.functional.interpolate(pixels, (32, 32), mode="bilinear", antialias=True).round().byte()
        probs = generator.clusters(to_images(small))[0].exp()
        assert int(row["cluster"]) == int(probs.argmax())
        assert float(row["confidence"]) == pytest.approx(float(probs.max()), abs=2e-2)
    found = json.loads(done.stdout)
    assert sum(found["clusters"].values()) == 70
    assert "nmi" not in found
    sheet = read_image(tmp_path / "c.png")
    assert tuple(sheet.shape) == (3, len(found["clusters"]) * 34 - 2, 8 * 34 - 2)


def test_nmi_with_the_folders(command, weights, photos, tmp_path):
    from gsegkit_layered.clustering import normalised_mutual_information

    done = command(weights, photos, "--out", tmp_path / "c.csv", "--by-folder", "--json")
    found = json.loads(done.stdout)
    with open(tmp_path / "c.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    clusters = torch.tensor([int(row["cluster"]) for row in rows])
    truth = torch.tensor([row["file"].startswith("square") for row in rows]).long()
    assert found["classes"] == 2
    assert found["nmi"] == pytest.approx(normalised_mutual_information(clusters, truth))
    said = command(weights, photos, "--out", tmp_path / "c.csv", "--by-folder")
    assert "NMI with the folders" in said.output
    assert "photographs" in said.output


def test_bad_input_writes_nothing(command, weights, photos, tmp_path):
    out = tmp_path / "c.csv"
    perturb = stored(tmp_path / "perturb", PerturbGAN(PerturbGANConfig(z_dim=4)), "perturbgan")
    normal = stored(tmp_path / "normal", Layered(LayeredConfig(**SMALL, prior="normal")), "layered")
    cases = [
        ((perturb, photos), CapabilityError, "has no private code"),
        ((normal, photos), ConfigError, "normal private code"),
        (("layered", photos), DataError, "never trained"),
        ((weights, photos / "round", "--by-folder"), DataError, "one folder"),
        ((weights, tmp_path / "absent"), DataError, "does not exist"),
    ]
    for arguments, kind, words in cases:
        done = command(*arguments, "--out", out)
        assert isinstance(done.exception, kind), arguments
        assert words in str(done.exception)
        assert done.exception.exit_code == 2
    assert not out.exists()
