"""Photographs whose probabilities would not fit into memory."""

import pytest
import torch
from PIL import Image

from gsegkit.exports import png
from gsegkit.exports.predictions import predict_files
from gsegkit.refining import Predictor, large
from gsegkit.refining.large import label_large, shrunk, working_size
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


def test_only_what_does_not_fit_has_a_working_size():
    assert working_size(3000, 4000, 11) is None
    height, width = working_size(9000, 12_000, 30)
    assert height * width * 30 <= large.WORKING_VALUES
    assert width / height == pytest.approx(4 / 3, rel=0.01)


def test_a_large_photograph_gets_nearly_the_mask_that_it_would_get_whole(monkeypatch):
    pixels, predictor = scene(301, 407), Predictor(Stripes())
    whole = predictor.label(pixels[None]).masks[0]
    for strip in (2**24, 5000, 1):  # one strip, many, a row each
        monkeypatch.setattr(large, "STRIP_VALUES", strip)
        mask = label_large(predictor, pixels, (75, 101))
        assert mask.shape == whole.shape
        assert float((mask == whole).float().mean()) > 0.99


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

        def label(self, pixels):
            batch = Predictor(Stripes()).label(pixels)
            masks = batch.masks.clone()
            masks[:, : masks.shape[1] // 2] = 255
            return batch.with_masks(masks)

    mask = label_large(Ignores(), scene(200, 200), (50, 50))
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
