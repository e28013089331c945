"""Photographs whose probabilities would not fit into memory."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from gsegkit import images
from gsegkit.config import Config
from gsegkit.exports import png
from gsegkit.exports.predictions import predict_files
from gsegkit.interfaces import Segmenter
from gsegkit.refining import Predictor, large
from gsegkit.refining.large import label_one, shrunk, strips, working_size
from gsegkit.storage import read_json


class Stripes:
    """Three classes by the red channel, and what sizes it was asked for."""

    classes = ("dark", "middle", "bright")

    def __init__(self):
        self.sizes = []

    def probs(self, pixels):
        self.sizes.append(tuple(pixels.shape[2:]))
        red = pixels[:, 0].float() / 255
        return torch.stack([-20 * (red - centre).abs() for centre in (0.0, 0.5, 1.0)], dim=1).softmax(dim=1)


def scene(height, width):
    """Smooth in both directions, so that a smaller size shows the same classes."""
    down, across = torch.linspace(0, 1, height).view(-1, 1), torch.linspace(0, 1, width).view(1, -1)
    return ((down + across) * 127.5).round().to(torch.uint8).expand(3, height, width).contiguous()


class Coarse(Segmenter):
    """Random logits that vary from pixel to pixel of what it sees."""

    classes = ("a", "b", "c", "d")
    train_size = (24, 40)

    def __init__(self, rule):
        super().__init__(Config())
        self.fit_rule = rule
        torch.manual_seed(2)
        self.net = nn.Conv2d(3, 4, 5, padding=2, bias=False)

    def fit(self, dataset, ctx, *, val=None):
        raise AssertionError("not used")

    def logits(self, images):
        return 9 * self.net(images)


def noise(height, width):
    """Squares of 16 x 16 px in random colours."""
    generator = torch.Generator().manual_seed(4)
    small = torch.randint(0, 256, (3, height // 16 + 1, width // 16 + 1), dtype=torch.uint8, generator=generator)
    return small.repeat_interleave(16, dim=1).repeat_interleave(16, dim=2)[:, :height, :width].contiguous()


@pytest.fixture
def little_memory(monkeypatch):
    """Photographs of more than 2,000 pixels are large, and strips have a few rows."""
    monkeypatch.setattr(large, "MOST_VALUES", 2000 * 3)
    monkeypatch.setattr(large, "WORKING_VALUES", 75 * 101 * 3)
    monkeypatch.setattr(large, "STRIP_VALUES", 5000)


def test_only_what_does_not_fit_has_a_working_size():
    predictor = Predictor(Stripes())
    predictor.classes = tuple("abcdefghijklmnopqrstuvwxyz1234")
    assert working_size(predictor, 2000, 1500) is None
    height, width = working_size(predictor, 9000, 12_000)
    assert height * width * 30 <= large.WORKING_VALUES
    assert width / height == pytest.approx(4 / 3, rel=0.01)


@pytest.mark.parametrize("rule", ["squash", "crop", "pad"])
@pytest.mark.parametrize("size", [(301, 407), (700, 90)])
def test_a_segmenter_alone_gives_a_large_photograph_the_mask_that_it_gives_it_whole(little_memory, rule, size):
    segmenter, pixels = Coarse(rule), noise(*size)
    assert working_size(Predictor(segmenter), *size) is None
    whole = segmenter.probs(pixels[None])[0]
    found = list(strips(Predictor(segmenter), pixels))
    assert len(found) > 10
    assert torch.allclose(torch.cat([strip.probs for strip in found], dim=1), whole, atol=2e-4)
    labels = label_one(Predictor(segmenter), pixels)
    assert float((labels == whole.argmax(dim=0)).float().mean()) >= 0.9999
    assert len(labels.unique()) == 4


def test_what_is_resized_strip_by_strip_is_what_is_resized_at_once(monkeypatch):
    pixels = torch.stack([noise(301, 407), scene(301, 407)])
    for size in ((24, 40), (301, 90), (77, 407), (400, 500)):
        whole = images.resize_pixels(pixels, size)
        monkeypatch.setattr(images, "STRIP_VALUES", 20_000)
        assert torch.equal(images.resize_pixels(pixels, size), whole)
        monkeypatch.undo()


def test_a_segmenter_that_is_no_single_pass_gets_a_working_size(little_memory):
    assert working_size(Predictor(Coarse("native")), 300, 400) is not None
    assert working_size(Predictor(Stripes()), 300, 400) is not None


def test_a_large_photograph_gets_nearly_the_mask_that_it_would_get_whole(monkeypatch):
    pixels, predictor = scene(301, 407), Predictor(Stripes())
    whole = predictor.label(pixels[None]).masks[0]
    monkeypatch.setattr(large, "MOST_VALUES", 2000)
    monkeypatch.setattr(large, "WORKING_VALUES", 75 * 101 * 3)
    for strip in (2**24, 5000, 1):  # one strip, many, a row each
        monkeypatch.setattr(large, "STRIP_VALUES", strip)
        mask = label_one(predictor, pixels)
        assert mask.shape == whole.shape
        assert float((mask == whole).float().mean()) > 0.99
        probs = torch.cat(list(predictor.strips(pixels[None])), dim=2)
        assert torch.equal(probs.argmax(dim=1)[0], mask.long())


def test_shrinking_takes_means_and_no_more_memory_than_a_strip(monkeypatch):
    monkeypatch.setattr(large, "STRIP_VALUES", 1)
    small = shrunk(scene(120, 160), (12, 16))
    assert small.shape == (3, 12, 16)
    assert (small.int() - scene(12, 16).int()).abs().max() <= 12
    flat = torch.full((3, 121, 163), 77, dtype=torch.uint8)
    assert bool((shrunk(flat, (10, 13)) == 77).all())


def test_pixels_that_a_refiner_ignores_stay_ignored(monkeypatch):
    class Ignores:
        refined_by: dict = {}
        classes = Stripes.classes
        one_view = False

        def label(self, pixels):
            batch = Predictor(Stripes()).label(pixels)
            masks = batch.masks.clone()
            masks[:, : masks.shape[1] // 2] = 255
            return batch.with_masks(masks)

    monkeypatch.setattr(large, "MOST_VALUES", 2000)
    monkeypatch.setattr(large, "WORKING_VALUES", 50 * 50 * 3)
    mask = label_one(Ignores(), scene(200, 200))
    assert bool((mask[:95] == 255).all())
    assert not bool((mask[105:] == 255).any())


def test_predict_says_at_which_size_it_labelled(monkeypatch, tmp_path):
    monkeypatch.setattr(large, "MOST_VALUES", 40 * 50 * 3)
    monkeypatch.setattr(large, "WORKING_VALUES", 20 * 25 * 3)
    monkeypatch.setattr(png, "STRIP_PIXELS", 300)
    (tmp_path / "in").mkdir()
    for name, size in (("small", (50, 40)), ("large", (100, 80))):
        Image.fromarray(scene(size[1], size[0]).permute(1, 2, 0).numpy()).save(tmp_path / "in" / f"{name}.png")
    stripes = Stripes()
    predict_files(stripes, tmp_path / "in", tmp_path / "out", ("label", "overlay"))
    assert (20, 25) in stripes.sizes
    assert (40, 50) in stripes.sizes
    record = read_json(tmp_path / "out" / "predictions.json")
    assert record["labelled_at"] == {str(tmp_path / "in" / "large.png"): [20, 25]}
    for folder in ("labels", "overlays"):
        with Image.open(tmp_path / "out" / folder / "large.png") as image:
            assert image.size == (100, 80)


# The peak of a process that does nothing else; a photograph of a size at which everything at once would need 13 GB.
PEAK = """
import importlib.util, resource, sys
from pathlib import Path

import torch
from PIL import Image

from gsegkit.dataset import MemoryDataset
from gsegkit.exports.predictions import predict_files
from gsegkit.refining import Predictor

verb, folder, refine = sys.argv[1], Path(sys.argv[2]), sys.argv[3].split()
width, height = (12_000, 9_000) if verb == "predict" else (6_000, 4_500)
spec = importlib.util.spec_from_file_location("parts", sys.argv[4])
parts = importlib.util.module_from_spec(spec)
spec.loader.exec_module(parts)
segmenter = parts.TinySegmenter(parts.TinyConfig())
segmenter.restore({"classes": tuple(f"class {k}" for k in range(30)), "train_size": (64, 64), "fit_rule": "squash"})
small = torch.randint(0, 256, (9, 12, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
photo = Image.fromarray(small.numpy()).resize((width, height), Image.Resampling.BILINEAR)
photo.save(folder / "photo.jpg")
if verb == "predict":
    del photo
    with open("/proc/self/clear_refs", "w") as file:  # what making the photograph took does not count
        file.write("5")
    predict_files(Predictor(segmenter, refine), folder / "photo.jpg", folder / "out", ("label", "overlay"))
else:
    from gsegkit.context import RunContext
    from gsegkit.images import read_image
    from gsegkit.plugins import installed

    pixels = read_image(folder / "photo.jpg")[None]
    del photo
    pairs = MemoryDataset(pixels, pixels[:, 0] // 128, ("background", "thing"))
    report = installed().build("evaluator", "masks").evaluate(
        Predictor(segmenter, refine), pairs, RunContext(folder / "work")
    )
    print(report.metrics["accuracy"])
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print(int(status["VmHWM"].split()[0]) * 1024)
"""


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's account of a process's memory")
@pytest.mark.parametrize("refine", ["", "colours"], ids=["one pass", "colours"])
@pytest.mark.parametrize("verb", ["predict", "evaluate"])
def test_a_photograph_of_108_megapixels_and_30_classes_takes_less_than_2_gigabytes(tmp_path, verb, refine):
    if refine:
        pytest.importorskip("gsegkit_refine")
    if verb == "evaluate":
        pytest.importorskip("gsegkit_eval")
    command = [sys.executable, "-c", PEAK, verb, str(tmp_path), refine, str(Path(__file__).parent / "parts.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout.split()[-1]) < 2e9
