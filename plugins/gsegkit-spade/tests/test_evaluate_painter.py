"""`gsegkit evaluate-painter`: held-out masks, a scorer of its own, numbers and a contact sheet."""

import json
import sys

import pytest
import torch

import gsegkit
from gsegkit.api.painter_scores import BACKBONE
from gsegkit.api.session import Session
from gsegkit.classes.class_map import ClassMap, NamedClass
from gsegkit.cli.main import main
from gsegkit.context import RunContext
from gsegkit.engine.held_out import distance, held_out_pairs
from gsegkit.errors import ConfigError
from gsegkit.plugins import installed

SMALL = {
    "latent_dim": 4, "width": 4, "width_max": 8, "batch_size": 4, "discriminator_width": 4, "statistics_batches": 2,
    "steps": 3,
}  # fmt: skip
SCORER = {"steps": 2, "batch_size": 4}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of three clusters, which has names."""
    options = ["gen.size=32", "gen.num_classes=0", "extractor.k=3", "seg.steps=2", "seg.batch_size=4", "run.device=cpu"]
    folder = tmp_path_factory.mktemp("painters") / "run"
    gsegkit.run("toy", "kmeans", "unet", out=folder, num_samples=12, options=options, refine=[])
    return folder


@pytest.fixture(scope="module")
def painter(run, tmp_path_factory):
    extractor = gsegkit.load(run, "extractor")
    ids = extractor.level(3).ids
    classes = (NamedClass(name="ground", clusters=ids[:2]), NamedClass(name="thing", clusters=ids[2:]))
    names = ClassMap(extractor=extractor.fingerprint(), cut=3, classes=classes)
    folder = tmp_path_factory.mktemp("painters") / "painter"
    gsegkit.train_painter(run, folder, options=SMALL, classes=names, device="cpu")
    return folder


def test_scores_under_the_painters_names(run, painter, tmp_path):
    out = tmp_path / "scores"
    report = gsegkit.evaluate_painter(painter, run, num_samples=8, options=SCORER, out=out, device="cpu")
    assert set(report.per_class) == {"ground", "thing"}
    assert 0 <= report.metrics["miou"] <= 1
    assert report.metrics["distance"] > report.metrics["distance_floor"] > 0
    assert report.metrics.keys() <= report.definitions.keys()
    assert "8 masks that no pair of the run has; scored by a" in report.notes[-1]
    assert json.loads((out / "metrics.json").read_text())["miou"] == report.metrics["miou"]
    assert (out / "figures" / "held-out.png").is_file()
    assert gsegkit.load(out / "scorer").classes == ("ground", "thing")
    assert json.loads((out / "scorer" / "component.json").read_text())["name"] == "fpn"  # the run's own is a U-Net
    before = (out / "scorer" / "state.safetensors").read_bytes()
    again = gsegkit.evaluate_painter(painter, run, num_samples=8, options=SCORER, out=out, device="cpu")
    assert again.metrics == report.metrics
    assert (out / "scorer" / "state.safetensors").read_bytes() == before


def test_held_out_masks_are_those_of_no_pair(run, tmp_path):
    made = held_out_pairs(run, 20, installed(), RunContext(tmp_path))
    own = gsegkit.open_labelled(run, Session.default())
    assert made.classes == own.classes
    assert len(made) == 20
    pictures = {own[i].pixels.numpy().tobytes() for i in range(len(own))}
    assert len(pictures) == 12
    assert not pictures & {made[i].pixels.numpy().tobytes() for i in range(len(made))}


def test_the_distance_of_a_set_to_itself_is_nothing(tmp_path):
    pictures = torch.randint(0, 256, (16, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    evaluator = installed().build("generator-evaluator", "frechet", {"num_samples": 16, "backbone": BACKBONE})
    ctx = RunContext(tmp_path, seed=3)
    same, notes = distance(evaluator, pictures, pictures, ctx)
    assert same["distance"] == pytest.approx(0, abs=1e-4)
    other, _ = distance(evaluator, pictures // 4, pictures, ctx)
    assert other["distance"] > 1
    assert "random weights" in notes[0]


def test_what_cannot_score_is_refused(run, painter, tmp_path):
    def refused(match, **options):
        with pytest.raises(ConfigError, match=match):
            gsegkit.evaluate_painter(painter, run, **{"num_samples": 8, "out": tmp_path / "x", **options})

    refused("learned through this very segmenter", scorer=run)
    refused("omit --seg", scorer=run, seg="fpn")
    refused("too few to score on", num_samples=2)
    gsegkit.train(run, "fpn", tmp_path / "clusters", options=SCORER, device="cpu")
    refused("the scoring segmenter has the classes cluster", scorer=tmp_path / "clusters")
    other = tmp_path / "other"
    gsegkit.train_painter(run, other, options=SMALL, device="cpu")  # of clusters
    with pytest.raises(ConfigError, match="the class names that the painter was trained with"):
        gsegkit.evaluate_painter(
            other, run, num_samples=8, classes=painter / "classes.yaml", options=SCORER, device="cpu"
        )


def test_the_command(run, painter, tmp_path, monkeypatch, capsys):
    def call(*args):
        monkeypatch.setattr(sys, "argv", ["gsegkit", "evaluate-painter", *map(str, args)])
        try:
            main()
        except SystemExit as leaving:
            return leaving.code or 0
        return 0

    options = ["--samples", 8, "--device", "cpu", "-o", "seg.steps=2", "-o", "seg.batch_size=4"]
    assert call(painter, run, *options) == 0
    assert "distance_floor" in capsys.readouterr().err
    assert (painter / "evaluation" / "metrics.json").is_file()
    assert call(painter, run, *options, "--json") == 0
    assert json.loads(capsys.readouterr().out)["diversity"] > 0
    assert call(painter, run, "--scorer", tmp_path / "nobody") == 2
    assert "omit --scorer" in capsys.readouterr().err
    assert call(run, run) == 2
    assert "name a folder with --out" in capsys.readouterr().err
    assert call(painter.parent, run, "--out", tmp_path / "x") == 2
    assert "holds no trained extractor" in capsys.readouterr().err
