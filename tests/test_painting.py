"""Scores of painters: known painters have known scores."""

import pytest
import torch

from gsegkit.config import Config
from gsegkit.context import RunContext
from gsegkit.dataset import MemoryDataset
from gsegkit.errors import ConfigError, DataError
from gsegkit.interfaces import Segmenter
from gsegkit.painting import Painter, Style, check_canvas, class_colours, latents_of, score
from gsegkit.painting.scores import DEFINITIONS, agreement, confusion

CLASSES = ("dark", "bright")


class Flat(Painter):
    """Class 1 is bright, class 0 dark; `style` is how far the latent shifts a picture."""

    def __init__(self, style=0.0, wrong=False):
        super().__init__(Config())
        self.classes, self.train_size, self.latent_dim = CLASSES, (12, 12), 2
        self.style, self.wrong = style, wrong

    def fit(self, dataset, ctx, *, segmenter=None):
        """Nothing to learn."""

    def paint(self, masks, z):
        check_canvas(self, masks, z)
        level = (masks == (0 if self.wrong else 1)).float()[:, None] - 0.5
        return (level + self.style * z[:, :1, None, None].tanh() * 0.3).expand(-1, 3, -1, -1).clone()


class Threshold(Segmenter):
    """Bright is what lies above the picture's own mean."""

    def __init__(self, classes=CLASSES):
        super().__init__(Config())
        self.classes, self.train_size = classes, (12, 12)

    def fit(self, dataset, ctx, *, val=None):
        """Nothing to learn."""

    def logits(self, images):
        grey = images.mean(1, keepdim=True)
        grey = (grey - grey.mean((2, 3), keepdim=True)) * 50
        return torch.cat([-grey, grey], dim=1)


def pairs(count=6):
    masks = torch.zeros(count, 12, 12, dtype=torch.uint8)
    for index in range(count):
        masks[index, 2 : 7 + index % 3, 3:9] = 1
    masks[:, 0] = 255
    pixels = torch.where(masks == 1, 200, 50)[:, None].expand(-1, 3, -1, -1).to(torch.uint8)
    return MemoryDataset(pixels, masks, CLASSES)


def scores(painter, folder, dataset=None):
    return score(painter, dataset or pairs(), Threshold(), RunContext(folder, batch_size=4)).metrics


def test_a_perfect_painter_reaches_the_ceiling(tmp_path):
    found = scores(Flat(style=1.0), tmp_path)
    assert found["miou"] == found["miou_true"] == 1
    assert found["accuracy"] == found["accuracy_true"] == 1
    assert found["diversity"] > 1
    assert found["faithfulness"] > 0.99
    assert found.keys() == DEFINITIONS.keys()


def test_an_ignored_latent_and_exchanged_classes_show(tmp_path):
    found = scores(Flat(wrong=True), tmp_path)
    assert found["miou"] < 0.05
    assert found["accuracy"] < 0.05
    assert found["miou_true"] == 1
    assert found["diversity"] == 0
    assert found["faithfulness"] is None


def test_agreement_by_hand():
    masks = torch.tensor([[0, 0, 0, 1, 255]], dtype=torch.uint8)
    table = confusion(masks, torch.tensor([[0, 0, 1, 1, 1]], dtype=torch.uint8), 3)
    assert table.tolist() == [[2, 1, 0], [0, 1, 0], [0, 0, 0]]
    miou, accuracy = agreement(table)
    assert miou == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert accuracy == pytest.approx(3 / 4)
    assert agreement(torch.zeros(2, 2, dtype=torch.int64)) == (None, None)


def test_other_classes_and_too_few_pairs_are_refused(tmp_path):
    ctx = RunContext(tmp_path)
    with pytest.raises(ConfigError, match="the scoring segmenter has the classes a, b"):
        score(Flat(), pairs(), Threshold(("a", "b")), ctx)
    with pytest.raises(DataError, match="no test"):
        score(Flat(), pairs(1), Threshold(), ctx)


def test_a_style_is_packed_and_unpacked():
    style = Style(7, 0xFFFFFFFE, 0.25, (None, 3))
    assert style.pack(2).hex() == "07000000feffffff0000803effffffff03000000"
    assert Style.unpack(style.pack(2), 2) == style
    assert Style.unpack(Style(1).pack(3), 3) == Style(1)
    with pytest.raises(DataError, match="20 bytes, but 24"):
        Style.unpack(style.pack(2), 3)
    for wrong in ((-1,), (0xFFFFFFFF,), (0, 0, 1.5), (0, 0, float("nan")), (0, 0, 0.0, (None, -1))):
        with pytest.raises(ConfigError):
            Style(*wrong)


def test_latents_of_a_style():
    painter = Flat()
    first, second, third = painter.latents(torch.tensor([4, 5, 6]))
    assert torch.equal(latents_of(painter, Style(4, 5)), first[None])
    assert torch.allclose(latents_of(painter, Style(4, 5, 1.0)), second[None], atol=1e-6)
    assert torch.allclose(latents_of(painter, Style(4, 5, 0.5)), (first + second)[None] / 2**0.5)
    with pytest.raises(ConfigError, match="one style for the whole picture"):
        latents_of(painter, Style(4, regions=(6, None)))
    painter.region_styles = True
    assert torch.equal(latents_of(painter, Style(4, regions=(None, 6))), torch.stack([first, first, third])[None])
    with pytest.raises(ConfigError, match="3 regions have a style, but the painter has 2"):
        latents_of(painter, Style(4, regions=(None, 6, None)))


def test_colours_by_hand():
    masks = torch.tensor([[[0] * 4, [0] * 4, [1] * 4, [255] * 4]] * 2, dtype=torch.uint8)
    images = torch.full((2, 3, 4, 4), 0.5)
    images[1, 0, 0] = -0.5  # half of the first class, in red
    found = class_colours(images, masks, 3)
    assert found.shape == (2, 3, 3)
    assert found[:, 0].tolist() == [[0.5, 0.5, 0.5], [0, 0.5, 0.5]]
    assert bool(found[:, 1:].isnan().all())  # four pixels are too few, none is none


def test_how_different_the_true_pictures_are(tmp_path):
    dataset = pairs()
    dataset.pixels[[0, 3]] += 20  # of the rows 0, 2, 3, 5, which are looked at
    found = scores(Flat(style=1.0), tmp_path, dataset)
    assert found["colour_diversity_true"] == pytest.approx(20, abs=1e-3)
    assert found["colour_diversity"] > 1
    assert scores(Flat(), tmp_path)["colour_diversity"] == 0
    assert scores(Flat(wrong=True), tmp_path)["colour_diversity_true"] == 0
