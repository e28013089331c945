"""otsu and two-means: from a folder to scores, and what they refuse."""

import json

import pytest
import torch

import gsegkit
from gsegkit.errors import CapabilityError, ConfigError
from gsegkit.plugins import installed

FOUND_ALONE = ["otsu", "two-means", "grabcut"]


@pytest.mark.parametrize("name", FOUND_ALONE)
def test_from_a_folder_to_scores_and_masks(name, photographs, tmp_path):
    made = gsegkit.fit(name, photographs, tmp_path / "fit")
    assert made.classes == ("background", "foreground")
    assert made.labels_consumed == "none"
    for refine in ((), "colours"):
        report = gsegkit.evaluate(tmp_path / "fit", photographs, refine=refine)
        assert report.metrics["iou_foreground"] > 0.95, refine
        assert "labels consumed by the segmenter: none" in report.notes
    gsegkit.predict(tmp_path / "fit", photographs / "images", tmp_path / "masks")
    assert len(list((tmp_path / "masks").rglob("*.png"))) == 16  # labels and overlays
    with pytest.raises(CapabilityError, match="no network to export"):
        gsegkit.export(tmp_path / "fit", tmp_path / "x.onnx", "onnx")
    assert not (tmp_path / "x.onnx").exists()


@pytest.mark.parametrize("name", FOUND_ALONE)
def test_of_one_colour_nothing_is_foreground(name):
    plain = torch.full((2, 3, 9, 7), 120, dtype=torch.uint8)
    assert not installed().build("segmenter", name).predict(plain).any()


def test_two_means_on_some_of_the_pixels_finds_the_same(photographs):
    pixels = torch.stack([gsegkit.open_labelled(photographs, gsegkit.Session.default())[i].pixels for i in range(3)])
    whole, some = (installed().build("segmenter", "two-means", {"pixels": n}).predict(pixels) for n in (65_536, 200))
    assert (whole != some).float().mean() < 0.01


def test_it_needs_no_photographs_and_takes_no_labels(photographs, tmp_path):
    gsegkit.fit("otsu", None, tmp_path / "none")
    assert gsegkit.load(tmp_path / "none").classes == ("background", "foreground")
    with pytest.raises(ConfigError, match="no use for labels"):
        gsegkit.fit("otsu", photographs, tmp_path / "labels", labels=3)


def test_pairs_are_refused_by_train_and_by_run(call, photographs, tmp_path):
    code, err = call("train", "--data", photographs, "--seg", "otsu", "--out", tmp_path / "t")
    assert code == 2
    assert "gsegkit fit otsu" in err
    code, err = call("run", "--gen", "toy", "--extractor", "native", "--seg", "otsu", "--out", tmp_path / "r")
    assert code == 2
    assert "gsegkit fit otsu" in err
    assert not (tmp_path / "t").exists()
    assert not (tmp_path / "r").exists()


def test_the_command(call, photographs, tmp_path):
    out = tmp_path / "fit"
    code, err = call("fit", "two-means", "--data", photographs, "--out", out, "-o", "seg.pixels=500")
    assert code == 0, err
    assert "labels consumed: none" in err
    assert json.loads((out / "component.json").read_text())["config"]["pixels"] == 500
    code, err = call("fit", "two-means", "--data", photographs, "--out", out)
    assert code == 2
    assert "--update" in err
    code, err = call("fit", "unet", "--data", photographs, "--out", tmp_path / "unet")
    assert code == 2
    assert "gsegkit train --seg unet" in err


def test_the_report_shows_photographs_and_how_to_repeat_it(call, photographs, tmp_path):
    out = tmp_path / "fit"
    code, err = call("fit", "grabcut", "--data", photographs, "--out", out, "-o", "seg.inset=0.1", "--seed", "3")
    assert code == 0, err
    code, err = call("report", out)
    assert code == 0, err
    page = (out / "report" / "index.html").read_text()
    assert "Predictions on photographs" in page
    assert f"gsegkit fit grabcut --data {photographs} --seed 3 --out NEW_FOLDER" in page
    assert "seg.inset=0.1" in page
    assert "labels consumed" in page
    assert "Generated pairs" not in page
    assert "finished" in page
    gsegkit.fit("grabcut", None, out, seed=3, options={"inset": 0.1}, update=True)
    assert not (out / "report").exists(), "predictions of an earlier fit are gone"
