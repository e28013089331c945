"""onnx-mask: the user's own file, options, and files that are refused."""

from pathlib import Path

import pytest
import torch
from PIL import Image

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import importlib.util

import gsegkit
from gsegkit.errors import ArtifactError, CapabilityError, ConfigError

spec = importlib.util.spec_from_file_location("onnx_files", Path(__file__).with_name("onnx_files.py"))
files = importlib.util.module_from_spec(spec)
spec.loader.exec_module(files)

PHOTOGRAPH = torch.zeros(1, 3, 20, 30, dtype=torch.uint8)
PHOTOGRAPH[:, :, 5:15, 10:20] = 255


def fit(model, tmp_path, **options):
    tmp_path.mkdir(exist_ok=True)
    path = files.save(model, tmp_path / "mask.onnx")
    return gsegkit.fit("onnx-mask", None, tmp_path / "fit", options={"file": str(path), **options})


def test_the_kits_file_is_this_one():
    from gsegkit_baselines import kit

    assert Path(kit.ONNX.options["file"]).read_bytes() == files.bright().SerializeToString(deterministic=True)


def test_the_file_may_be_gone_afterwards(tmp_path):
    made = fit(files.bright(), tmp_path, size=(20, 30))
    assert made.classes == ("background", "foreground")
    (tmp_path / "mask.onnx").unlink()
    loaded = gsegkit.load(tmp_path / "fit")
    mask = loaded.predict(PHOTOGRAPH)[0]
    assert mask[10, 15] == 1
    assert mask[2, 2] == 0
    assert mask.float().mean() == pytest.approx(100 / 600, abs=0.01)
    assert "unknown" in loaded.labels_consumed
    with pytest.raises(CapabilityError, match="no network to export"):
        gsegkit.export(tmp_path / "fit", tmp_path / "again.onnx", "onnx")


def test_channels_are_classes_and_logits_become_probabilities(tmp_path):
    made = fit(files.bright(3, sigmoid=False), tmp_path, size=(16, 16), values="logits")
    assert made.classes == ("background", "class-1", "class-2")
    probs = made.probs(PHOTOGRAPH)
    assert torch.allclose(probs.sum(dim=1), torch.ones(1, 20, 30), atol=1e-5)
    assert probs[0, :, 10, 15].argmax() == 2


def test_a_threshold_moves_the_border(tmp_path):
    grey = torch.full((1, 3, 8, 8), 120, dtype=torch.uint8)
    low, high = (fit(files.bright(), tmp_path / str(t), size=(8, 8), threshold=t) for t in (0.1, 0.99))
    assert low.predict(grey).all()
    assert not high.predict(grey).any()


@pytest.mark.parametrize(
    ("model", "options", "error", "words"),
    [
        (files.with_external_data(), {}, ArtifactError, "other files"),
        (files.with_external_constant(), {}, ArtifactError, "other files"),
        (files.bright(op="Evil", domain="evil.example"), {}, ArtifactError, "not plain ONNX"),
        (files.bright(inputs=4), {"size": (8, 8)}, ArtifactError, "not photographs"),
        (files.bright(), {}, ConfigError, "any size"),
        (files.bright(size=(8, 8)), {"size": (9, 9)}, ConfigError, "8 x 8 only"),
        (files.bright(), {"size": (8, 8), "input": "image"}, ConfigError, "inputs 'photo'"),
        (files.bright(), {"size": (8, 8), "output": "alpha"}, ConfigError, "no output"),
        (files.bright(sigmoid=False), {"size": (8, 8)}, None, "no probabilities"),
        (files.bright(), {"size": (8, 8), "classes": ["a", "b", "c"]}, ConfigError, "gives 2"),
    ],
)
def test_what_is_refused(model, options, error, words, tmp_path):
    if error is None:  # only a photograph shows it
        with pytest.raises(ArtifactError, match=words):
            fit(model, tmp_path, **options).predict(PHOTOGRAPH)
        return
    with pytest.raises(error, match=words):
        fit(model, tmp_path, **options)
    assert not (tmp_path / "fit" / "component.json").exists()


def test_other_files_are_refused(call, tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "photo.onnx", "PNG")
    code, err = call("fit", "onnx-mask", "--out", tmp_path / "fit", "-o", f"seg.file={tmp_path / 'photo.onnx'}")
    assert code == 2
    assert "not an ONNX file" in err
    code, err = call("fit", "onnx-mask", "--out", tmp_path / "fit")
    assert code == 2
    assert "seg.file=" in err
    code, err = call(
        "fit",
        "onnx-mask",
        "--out",
        tmp_path / "fit",
        "-o",
        f"seg.file={files.save(files.bright(), tmp_path / 'm.onnx')}",
        "-o",
        "seg.size=[16,16]",
    )
    assert code == 0, err  # what failed before left nothing that stands in the way
