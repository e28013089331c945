"""Exported networks compute what the segmenter computes, at any size where that is promised."""

import json
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gsegkit.config import Config
from gsegkit.errors import ConfigError, ContractError, MissingDependencyError
from gsegkit.exports.networks import PixelsToProbs, export_model
from gsegkit.interfaces import Segmenter


class Tiny(Segmenter):
    """A strided network that pads to a multiple of 4 inside, as real ones do."""

    fit_rule = "crop"

    def __init__(self, classes=("background", "cell", "nucleus")):
        super().__init__(Config())
        torch.manual_seed(0)
        self.classes, self.train_size = classes, (16, 24)
        self.down = nn.Conv2d(3, 8, 3, stride=4, padding=1)
        self.up = nn.Conv2d(8, len(classes), 1)

    def fit(self, dataset, ctx, *, val=None):
        raise AssertionError("not used")

    def logits(self, images):
        height, width = images.shape[-2:]
        padded = F.pad(images, (0, -width % 4, 0, -height % 4), mode="replicate")
        logits = self.up(torch.relu(self.down(padded)))
        return 3 * F.interpolate(logits, scale_factor=4, mode="bilinear")[..., :height, :width]


class Positional(Tiny):
    """Adds something of one size, as networks with learned positions do: it works at its own size only."""

    def __init__(self):
        super().__init__()
        self.position = nn.Parameter(torch.rand(1, 3, *self.train_size))

    def logits(self, images):
        return super().logits(images + self.position)


class Undecided(Tiny):
    """Branches on its input's content: cannot be traced at all."""

    def logits(self, images):
        return super().logits(images) if images.mean() > 0 else super().logits(-images)


def pixels(*shape):
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(5))


@pytest.fixture(scope="module")
def onnx_export(tmp_path_factory):
    return export_model(Tiny(), tmp_path_factory.mktemp("onnx") / "net.onnx")


def test_onnx_at_sizes_that_the_export_never_saw(onnx_export):
    import onnxruntime

    assert onnx_export.dynamic == ("batch", "height", "width")
    assert onnx_export.max_abs_diff < 1e-5
    assert len({parity.shape for parity in onnx_export.parity}) == 3
    session = onnxruntime.InferenceSession(str(onnx_export.path), providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    assert (given.name, given.type, given.shape) == ("pixels", "tensor(uint8)", ["batch", 3, "height", "width"])
    original = PixelsToProbs(Tiny()).eval()
    for shape in ((1, 3, 16, 24), (5, 3, 33, 47), (1, 3, 8, 9), (2, 3, 64, 64)):
        batch = pixels(*shape)
        (probs,) = session.run(None, {"pixels": batch.numpy()})
        with torch.no_grad():
            assert torch.allclose(torch.from_numpy(probs), original(batch), atol=1e-5)


def test_the_card_says_how_to_use_it(onnx_export):
    card = json.loads((onnx_export.path.parent / "net.onnx.json").read_text())
    assert card["classes"] == ["background", "cell", "nucleus"]
    assert card["input"]["shape"] == ["batch", 3, "height", "width"]
    assert card["output"]["shape"] == ["batch", 3, "height", "width"]
    assert card["train_size"] == [16, 24]
    assert card["fit_rule"] == "crop"
    assert "16 x 24" in card["fit"]
    assert card["parity"][0]["max_abs_diff"] <= 1e-5
    assert sorted(path.name for path in onnx_export.path.parent.iterdir()) == ["net.onnx", "net.onnx.json"]
    assert str(onnx_export.path) in str(onnx_export)


def test_the_classes_travel_inside_the_onnx_file(onnx_export):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(onnx_export.path), providers=["CPUExecutionProvider"])
    assert json.loads(session.get_modelmeta().custom_metadata_map["classes"]) == ["background", "cell", "nucleus"]


def test_torch_export_and_probs_agree_at_the_training_size(tmp_path):
    segmenter = Tiny()
    made = export_model(segmenter, tmp_path, "torch")
    assert made.path == tmp_path / "segmenter.pt2"
    network = torch.export.load(made.path).module(check_guards=False)
    batch = pixels(4, 3, 16, 24)
    assert torch.allclose(network(batch), segmenter.probs(batch), atol=1e-6)
    odd = pixels(1, 3, 21, 35)
    with torch.no_grad():
        assert torch.allclose(network(odd), PixelsToProbs(segmenter)(odd), atol=1e-6)


def test_a_network_of_one_size_is_exported_at_that_size(tmp_path):
    made = export_model(Positional(), tmp_path, "torch")
    assert made.dynamic == ("batch",)
    card = json.loads((tmp_path / "segmenter.pt2.json").read_text())
    assert card["input"]["shape"] == ["batch", 3, 16, 24]
    assert len(card["not_dynamic_because"]) == 1
    assert "height" in card["not_dynamic_because"][0]


def test_a_fixed_export_can_be_asked_for(tmp_path):
    made = export_model(Tiny(), tmp_path / "a.pt2", "torch", size=(12, 20), dynamic=False)
    assert made.dynamic == ()
    assert [parity.shape for parity in made.parity] == [(1, 3, 12, 20)]
    assert "fixed size" in str(made)


def test_what_cannot_be_traced_is_one_error_and_no_file(tmp_path):
    with pytest.raises(ContractError, match="Undecided cannot be exported as torch"):
        export_model(Undecided(), tmp_path, "torch")
    assert list(tmp_path.iterdir()) == []


def test_an_export_that_computes_something_else_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "gsegkit.exports.networks._store_torch", lambda program, path: lambda batch: program.module()(255 - batch)
    )
    with pytest.raises(ContractError, match="probabilities differ by"):
        export_model(Tiny(), tmp_path, "torch", dynamic=False)
    assert list(tmp_path.iterdir()) == []


def test_the_segmenter_stays_as_it_was(tmp_path):
    segmenter = Tiny().train()
    before = {name: value.clone() for name, value in segmenter.state_dict().items()}
    export_model(segmenter, tmp_path, "torch", dynamic=False)
    assert segmenter.training
    assert all(torch.equal(value, before[name]) for name, value in segmenter.state_dict().items())


def test_formats_and_suffixes(tmp_path):
    with pytest.raises(ConfigError, match="'tflite'"):
        export_model(Tiny(), tmp_path, "tflite")
    with pytest.raises(ConfigError, match=r"writes \.pt2 files"):
        export_model(Tiny(), tmp_path / "net.onnx", "torch")


@pytest.mark.parametrize("module", ["onnx", "onnxscript", "onnxruntime"])
def test_missing_extra_says_what_to_install(tmp_path, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependencyError) as caught:
        export_model(Tiny(), tmp_path / "net.onnx")
    assert caught.value.hint == "pip install 'gsegkit[export]'"


@pytest.mark.slow
@pytest.mark.parametrize("format", ["onnx", "torch"])
@pytest.mark.parametrize("name", ["unet", "deeplabv3", "segformer"])
def test_networks_of_gsegkit_smp(tmp_path, name, format):
    pytest.importorskip("gsegkit_smp")
    from gsegkit.plugins import installed

    segmenter = installed().build("segmenter", name, {})
    segmenter.restore({"classes": ["background", "thing"], "train_size": [64, 64], "fit_rule": "squash"})
    made = export_model(segmenter, tmp_path, format)
    # timm's same-size pooling in a dilated encoder computes a ceil that torch's file format cannot hold (2.15)
    fixed_size = (name, format) == ("deeplabv3", "torch")
    assert made.dynamic == (("batch",) if fixed_size else ("batch", "height", "width"))
    assert made.max_abs_diff < 1e-4
