"""`gsegkit train-painter`: from a finished run to a painter and its contact sheet."""

import contextlib
import sys

import pytest
import torch

import gsegkit
from gsegkit.classes.class_map import ClassMap, NamedClass
from gsegkit.cli.main import main
from gsegkit.errors import ArtifactError, ConfigError, DataError
from gsegkit.images import list_images
from gsegkit.painting.examples import stored_examples
from gsegkit.reading.images import read_photograph

SMALL = {
    "latent_dim": 4, "width": 4, "width_max": 8, "batch_size": 4, "discriminator_width": 4, "statistics_batches": 2,
    "steps": 3,
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of three clusters without names."""
    options = ["gen.size=32", "gen.num_classes=0", "extractor.k=3", "seg.steps=2", "seg.batch_size=4", "run.device=cpu"]
    folder = tmp_path_factory.mktemp("painters") / "run"
    gsegkit.run("toy", "kmeans", "unet", out=folder, num_samples=12, options=options, refine=[])
    return folder


@pytest.fixture(scope="module")
def names(run):
    extractor = gsegkit.load(run, "extractor")
    ids = extractor.level(3).ids
    classes = (
        NamedClass(name="ground", clusters=ids[:2], colour="#102030"),
        NamedClass(name="thing", clusters=ids[2:]),
    )
    return ClassMap(extractor=extractor.fingerprint(), cut=3, classes=classes)


def test_a_painter_of_clusters(run, tmp_path):
    out = tmp_path / "painter"
    painter = gsegkit.train_painter(run, out, options=SMALL, device="cpu")
    assert painter.classes == gsegkit.load(run).classes
    assert painter.train_size == (32, 32)
    loaded = gsegkit.load(out, "painter")
    masks, z = torch.zeros(2, 32, 32, dtype=torch.uint8), painter.latents(torch.arange(2))
    assert torch.equal(loaded.paint(masks, z), painter.paint(masks, z))
    (sheet,) = list_images(out / "figures")
    assert tuple(read_photograph(sheet).pixels.shape) == (3, 6 * 34 - 2, 6 * 34 - 2)
    assert "one style a column" in sheet.with_suffix(".txt").read_text()
    examples = stored_examples(out, painter)
    assert len(examples.masks) == 12
    assert examples.licences == ("Weights of the generator: Apache-2.0 (drawn by formulas, no data).",)
    page = gsegkit.paint_page(out)
    assert page == out / "painter.html"
    assert f'"title": "{out.name}"' in page.read_text()
    (tmp_path / "mine.html").write_text("mine")
    with pytest.raises(ConfigError, match="did not write it"):
        gsegkit.paint_page(out, tmp_path / "mine.html")
    with pytest.raises(ArtifactError):
        gsegkit.paint_page(tmp_path)


def test_names_merge_the_clusters_and_stay_with_the_painter(run, names, tmp_path):
    painter = gsegkit.train_painter(run, tmp_path / "painter", classes=names, options=SMALL, device="cpu")
    assert painter.classes == ("ground", "thing")
    assert "ground" in (tmp_path / "painter" / "classes.yaml").read_text()
    sheet = read_photograph(tmp_path / "painter" / "figures" / "painted.png").pixels
    assert (16, 32, 48) in {tuple(pixel) for pixel in sheet[:, :, :32].flatten(1).T.tolist()}


def test_the_same_work_is_kept_and_other_work_is_refused(run, names, tmp_path):
    out = tmp_path / "painter"
    gsegkit.train_painter(run, out, options=SMALL, device="cpu")
    before = (out / "state.safetensors").read_bytes()
    gsegkit.train_painter(run, out, options=SMALL, device="cpu")
    assert (out / "state.safetensors").read_bytes() == before
    with pytest.raises(ConfigError, match=r"other options \(options.steps: 3 -> 4"):
        gsegkit.train_painter(run, out, options={**SMALL, "steps": 4}, device="cpu")
    with pytest.raises(ConfigError, match="classes"):
        gsegkit.train_painter(run, out, options=SMALL, classes=names, device="cpu")
    gsegkit.train_painter(run, out, options={**SMALL, "steps": 4}, update=True, device="cpu")
    assert (out / "state.safetensors").read_bytes() != before


def test_what_cannot_be_painted_from_is_refused(run, names, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArtifactError, match="holds no trained segmenter"):
        gsegkit.train_painter(tmp_path / "empty", tmp_path / "painter", options=SMALL)
    other = names.model_copy(update={"extractor": "0" * 16})
    with pytest.raises(ConfigError, match="another fit"):
        gsegkit.train_painter(run, tmp_path / "painter", classes=other, options=SMALL)
    with pytest.raises(DataError):
        gsegkit.train_painter(run, run, options=SMALL)
    assert not (tmp_path / "painter").exists()


def test_the_command(run, tmp_path, monkeypatch, capsys):
    def call(*args):
        monkeypatch.setattr(sys, "argv", ["gsegkit", "train-painter", *map(str, args)])
        try:
            main()
        except SystemExit as leaving:
            return leaving.code or 0
        return 0

    options = [word for name, value in SMALL.items() for word in ("-o", f"painter.{name}={value}")]
    assert call(run, "--out", tmp_path / "painter", "--device", "cpu", *options) == 0
    assert "painted.png" in "".join(capsys.readouterr())
    assert (tmp_path / "painter" / "figures" / "painted.png").is_file()
    monkeypatch.setattr(sys, "argv", ["gsegkit", "paint", str(tmp_path / "painter"), "--out", str(tmp_path / "p.html")])
    with contextlib.suppress(SystemExit):
        main()
    assert "in a browser" in "".join(capsys.readouterr())
    assert "<canvas" in (tmp_path / "p.html").read_text()
    assert call(run, "--out", tmp_path / "b", "-o", "painter.stepps=3") == 2
    assert "did you mean 'steps'" in capsys.readouterr().err
    assert call(run, "--out", tmp_path / "b", "--painter", "nobody") == 2
    assert "no painter 'nobody'" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()
