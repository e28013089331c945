"""Exported networks compute what the segmenter computes, at any size where that is promised."""

import json
import sys
from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gsegkit.config import Config
from gsegkit.errors import ConfigError, ContractError, MissingDependencyError
from gsegkit.exports.fitting import PixelsToClasses, resize
from gsegkit.exports.networks import export_model
from gsegkit.exports.traced import METADATA_FILE
from gsegkit.images import FIT_RULES, fit_pixels, fitted_size
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


def onnx_runner(path):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session, lambda batch: [torch.from_numpy(found) for found in session.run(None, {"pixels": batch.numpy()})]


def smooth(*shape):
    """Photographs: coloured waves, with noise."""
    batch, _, height, width = shape
    y, x = torch.meshgrid(torch.linspace(0, 5, height), torch.linspace(0, 7, width), indexing="ij")
    waves = torch.stack([torch.sin(y + x), torch.cos(2 * y - x), torch.sin(x * y)])
    return ((waves * 90 + 128).expand(batch, 3, height, width) + pixels(*shape) * 0.1).clamp(0, 255).to(torch.uint8)


VARIANTS = [*((rule, "uint8") for rule in FIT_RULES), ("squash", "float32"), ("crop", "float32")]
OFTEN = {("torch", "crop", "uint8"), ("torch", "squash", "float32"), *(("onnx", rule, "uint8") for rule in FIT_RULES)}
FILES = [
    pytest.param(*one, marks=() if one in OFTEN else pytest.mark.slow)
    for one in ((format, *variant) for format in ("onnx", "torch") for variant in VARIANTS)
]


@pytest.mark.parametrize(("format", "rule", "dtype"), FILES)
def test_the_file_predicts_what_the_segmenter_predicts(tmp_path, format, rule, dtype):
    """Photographs of any size go in, and labels and probabilities of that size come out, by every fit rule."""
    segmenter = Tiny()
    segmenter.fit_rule = rule
    made = export_model(segmenter, tmp_path, format, dtype=dtype)
    assert made.dynamic == ("batch", "height", "width")
    assert len({parity.shape[2] / parity.shape[3] for parity in made.parity}) == 3
    if format == "onnx":
        _, run = onnx_runner(made.path)
    else:
        run = torch.export.load(made.path).module(check_guards=False)
    for shape in ((1, 3, 192, 96), (2, 3, 77, 300), (1, 3, 768, 384), (1, 3, 16, 24), (1, 3, 9, 5)):
        for batch in (smooth(*shape), pixels(*shape)):
            labels, probs = run(batch if dtype == "uint8" else batch / 255)
            assert labels.dtype == torch.uint8
            assert (labels == segmenter.predict(batch)).float().mean() >= 0.999
            assert torch.allclose(probs, segmenter.probs(batch), atol=0.02)


def test_floats_are_read_as_8_bits_and_held_between_0_and_1():
    module = PixelsToClasses(Tiny().eval())
    batch = smooth(1, 3, 40, 60)
    nearly = batch / 255 + 0.4 / 255 * torch.linspace(-1, 1, 60)
    beyond = torch.where(batch < 40, torch.full_like(nearly, -3), torch.where(batch > 210, 7.0, nearly))
    ends = torch.where(batch < 40, 0, torch.where(batch > 210, 255, batch)).to(torch.uint8)
    with torch.no_grad():
        for given, same in ((nearly, batch), (beyond, ends)):
            assert torch.equal(module(given)[1], module(same)[1])


@pytest.mark.parametrize("rule", FIT_RULES)
@pytest.mark.parametrize("size", [(16, 24), (64, 64), (7, 5)])
def test_fitted_sizes_are_those_of_the_pixels(rule, size):
    for height, width in ((16, 24), (1, 900), (129, 64), (31, 17), (6000, 4000), (21, 14)):
        blank = torch.zeros(1, 3, min(height, 300), min(width, 300), dtype=torch.uint8)
        if rule in ("crop", "squash"):
            got = fit_pixels(blank, size, rule).shape[-2:]
            assert tuple(got) == fitted_size(*blank.shape[-2:], size, rule)
        if rule in ("crop", "pad"):
            exact = [Fraction(size[0], height), Fraction(size[1], width)]
            scale = max(exact) if rule == "crop" else min(exact)
            expected = (max(1, round(height * scale)), max(1, round(width * scale)))
            assert fitted_size(height, width, size, rule) == expected


@pytest.mark.parametrize("antialias", [True, False])
def test_resizing_by_matrices_is_torchs(antialias):
    maps = torch.rand(2, 3, 31, 50)
    for size in ((16, 24), (31, 50), (64, 20), (5, 120), (1, 1)):
        expected = F.interpolate(maps, size=size, mode="bilinear", antialias=antialias, align_corners=False)
        assert torch.allclose(resize(maps, size, antialias=antialias), expected, atol=1e-5)


def test_the_card_says_how_to_use_it(onnx_export):
    card = json.loads((onnx_export.path.parent / "net.onnx.json").read_text())
    assert card["classes"] == ["background", "cell", "nucleus"]
    assert card["input"]["shape"] == ["batch", 3, "height", "width"]
    assert [output["shape"] for output in card["outputs"]] == [
        ["batch", "height", "width"],
        ["batch", 3, "height", "width"],
    ]
    assert card["train_size"] == [16, 24]
    assert card["fit_rule"] == "crop"
    assert "16 x 24" in card["fit"]
    assert card["parity"][0]["changed"] == 0
    assert sorted(path.name for path in onnx_export.path.parent.iterdir()) == ["net.onnx", "net.onnx.json"]
    assert str(onnx_export.path) in str(onnx_export)


def test_what_a_viewer_needs_travels_inside_the_file(onnx_export, tmp_path):
    session, _ = onnx_runner(onnx_export.path)
    (given,) = session.get_inputs()
    assert (given.name, given.type, given.shape) == ("pixels", "tensor(uint8)", ["batch", 3, "height", "width"])
    assert [output.name for output in session.get_outputs()] == ["labels", "probs"]
    inside = {name: json.loads(text) for name, text in session.get_modelmeta().custom_metadata_map.items()}
    palette = torch.arange(768).reshape(256, 3).to(torch.uint8)
    made = export_model(Tiny(), tmp_path, "torch", palette=palette, dynamic=False)
    extra = {METADATA_FILE: ""}
    torch.export.load(made.path, extra_files=extra)
    other = json.loads(extra[METADATA_FILE])
    assert other["palette"] == ["#000102", "#030405", "#060708"]
    fitting, numbers = {"train_size", "fit_rule", "fit"}, {"input", "scaling", "scaling_note", "normalisation"}
    whole = {"classes", "palette", "refiners"} | fitting | numbers
    assert inside.keys() == other.keys() == whole
    assert len(inside["palette"]) == len(inside["classes"]) == 3
    assert (inside["train_size"], inside["fit_rule"]) == ([16, 24], "crop")
    form = {"name": "pixels", "layout": "NCHW", "colour": "RGB"}
    assert inside["input"] == {**form, "dtype": "uint8", "range": [0, 255]}
    card = json.loads((onnx_export.path.parent / "net.onnx.json").read_text())
    assert {name: card[name] for name in whole - {"input"}} == {name: inside[name] for name in whole - {"input"}}
    assert card["input"] == {**inside["input"], "shape": ["batch", 3, "height", "width"]}


def test_a_file_for_floats_says_so(tmp_path):
    made = export_model(Tiny(), tmp_path, dtype="float32", dynamic=False)
    session, _ = onnx_runner(made.path)
    assert session.get_inputs()[0].type == "tensor(float)"
    inside = json.loads(session.get_modelmeta().custom_metadata_map["input"])
    assert (inside["dtype"], inside["range"]) == ("float32", [0, 1])
    assert "0 .. 1" in json.loads(session.get_modelmeta().custom_metadata_map["normalisation"])


@pytest.mark.parametrize("format", ["onnx", "torch"])
def test_only_an_export_of_ours_is_replaced(tmp_path, format):
    path = tmp_path / f"mine.{'onnx' if format == 'onnx' else 'pt2'}"
    path.write_text("mine")
    for update in (False, True):
        with pytest.raises(ConfigError, match="no export made it"):
            export_model(Tiny(), path, format, update=update)
    assert path.read_text() == "mine"
    path.unlink()
    export_model(Tiny(), path, format, dynamic=False)
    export_model(Tiny(), path, format, dynamic=False)
    other = Tiny()
    with torch.no_grad():
        other.up.bias += 1
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="the export of another segmenter"):
        export_model(other, path, format, dynamic=False)
    assert path.read_bytes() == before
    export_model(other, path, format, dynamic=False, update=True)
    with pytest.raises(ConfigError, match="photographs of another dtype"):
        export_model(other, path, format, dynamic=False, dtype="float32")


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
        "gsegkit.exports.traced._store_torch",
        lambda program, path, facts: lambda batch: program.module()(255 - batch),
    )
    with pytest.raises(ContractError, match="probabilities differ by"):
        export_model(Tiny(), tmp_path, "torch", dynamic=False)
    assert list(tmp_path.iterdir()) == []


def test_what_onnxruntime_says_stays_inside(tmp_path, monkeypatch):
    import onnxruntime

    def refuse(*args, **options):
        raise onnxruntime.capi.onnxruntime_pybind11_state.Fail("[ONNXRuntimeError] : 1 : FAIL : /src/graph.cc:42")

    monkeypatch.setattr(onnxruntime, "InferenceSession", refuse)
    with pytest.raises(ContractError, match="onnxruntime cannot run what torch wrote") as caught:
        export_model(Tiny(), tmp_path, dynamic=False)
    assert "ONNXRuntimeError" not in str(caught.value)
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


@pytest.mark.parametrize(
    "options",
    [
        {"dtype": "float16"}, {"dtype": None}, {"dtype": ["uint8"]}, {"opset": 11}, {"opset": 17}, {"opset": 99},
        {"opset": "18"}, {"opset": True}, {"opset": float("nan")}, {"size": 64}, {"size": (0, 8)}, {"size": "ab"},
        {"size": (8.0, 8)}, {"size": (10**6, 8)}, {"size": (8, 8, 8)}, {"size": ()},
    ],
    ids=str,
)  # fmt: skip
def test_options_that_are_none_are_one_sentence(tmp_path, options):
    """Torch answers an old operator set with a newer one, and the others with errors of its own."""
    (name,) = options
    with pytest.raises(ConfigError, match=f"^{name}"):
        export_model(Tiny(), tmp_path / "net.onnx", **options)
    assert list(tmp_path.iterdir()) == []


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
