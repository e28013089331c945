"""Generated pairs scored against another network's masks of the same pictures."""

import json

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from sklearn.metrics import adjusted_rand_score

import gsegkit
from gsegkit.context import RunContext
from gsegkit.dataset import MemoryDataset
from gsegkit.engine.against import Stored, by_masks, by_segmenter
from gsegkit.engine.synthesis import synthesize
from gsegkit.errors import ConfigError, DataError
from gsegkit.plugins import installed
from gsegkit.types import IGNORE

SIDE = 32


def bright(path, cut=0.5):
    """An ONNX network of one channel: foreground where a picture's mean over red, green and blue is above a value."""
    weight = np.full((1, 3, 1, 1), 20 / 3, np.float32)
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["y"]), helper.make_node("Sigmoid", ["y"], ["p"])]
    graph = helper.make_graph(
        nodes, "bright",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("p", TensorProto.FLOAT, [1, 1, SIDE, SIDE])],
        [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(np.array([-20 * cut], np.float32), "b")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, path)
    return path


OPTIONS = {"mean": [0, 0, 0], "std": [1, 1, 1]}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Pairs of the toy, in shards."""
    folder = tmp_path_factory.mktemp("pairs") / "shards"
    toy, native = installed().build("generator", "toy", {"size": SIDE}), installed().build("extractor", "native")
    ctx = RunContext(folder=folder, batch_size=8)
    native.fit(toy, ctx)
    synthesize(toy, native, (), 24, ctx)
    return folder


@pytest.fixture(scope="module")
def trained(pairs):
    """A segmenter that learned them for two steps."""
    gsegkit.train(pairs, "unet", pairs.parent / "trained", options={"steps": 2})
    return pairs.parent / "trained"


def test_an_onnx_file_is_the_truth_and_the_pairs_masks_are_scored(pairs, tmp_path):
    file = bright(tmp_path / "bright.onnx")
    data = [gsegkit.open_labelled(pairs, gsegkit.Session.default())[row] for row in range(10)]
    truth = np.stack([sample.pixels.float().mean(dim=0).numpy() > 127.5 for sample in data])
    assert 0.05 < truth.mean() < 0.95
    found = np.stack([sample.mask.numpy() for sample in data])
    report = gsegkit.evaluate_pairs(pairs, file, by_options=OPTIONS, num_images=10, evaluator="clusters")
    assert report.metrics["num_images"] == 10
    assert report.metrics["ari"] == pytest.approx(adjusted_rand_score(truth.ravel(), found.ravel()), abs=2e-3)
    assert "another network's masks of 10 generated pictures" in report.notes[-1]
    masks = gsegkit.evaluate_pairs(pairs, file, by_options=OPTIONS, num_images=10)
    assert masks.metrics["num_images"] == 5  # the others matched classes without a name in common


def test_pairs_against_their_own_masks_are_perfect_and_names_decide_which(pairs, tmp_path):
    gsegkit.export(pairs, tmp_path / "labelled", "png")
    kept = sorted((tmp_path / "labelled" / "masks").glob("*.png"))
    for path in kept[::2]:  # not labelled: left out
        path.unlink()
        (tmp_path / "labelled" / "images" / path.name).unlink()
    report = gsegkit.evaluate_pairs(pairs, tmp_path / "labelled", evaluator="clusters")
    assert report.metrics["ari"] == report.metrics["miou_greedy"] == 1
    assert report.metrics["num_images"] == len(kept) // 2
    first = kept[1]
    Image.fromarray(np.array(Image.open(first))[:8]).save(first)
    Image.open(tmp_path / "labelled" / "images" / first.name).crop((0, 0, SIDE, 8)).save(
        tmp_path / "labelled" / "images" / first.name
    )
    with pytest.raises(DataError, match=f"is {SIDE} x 8, the picture {SIDE} x {SIDE}"):
        gsegkit.evaluate_pairs(pairs, tmp_path / "labelled", evaluator="clusters")


def test_a_trained_segmenter_is_a_truth_too(pairs, trained):
    report = gsegkit.evaluate_pairs(pairs, trained, num_images=4)
    assert report.metrics["num_images"] == 4
    assert report.metrics == gsegkit.evaluate_pairs(pairs, gsegkit.load(trained), num_images=4).metrics
    against = by_segmenter(gsegkit.open_labelled(pairs, gsegkit.Session.default()), gsegkit.load(trained), 3)
    assert len(against) == 3
    assert len(against.classes) == 4


def test_ignored_pixels_are_scored_nowhere():
    masks = torch.tensor([[[0, 1], [IGNORE, IGNORE]]], dtype=torch.uint8)
    data = MemoryDataset(torch.arange(12, dtype=torch.uint8).reshape(1, 3, 2, 2), masks, ("background", "thing"))
    other = MemoryDataset(data.pixels, torch.ones_like(masks), ("background", "thing"))
    against = by_masks(data, other, 5)
    sample = against[0]
    assert sample.mask.tolist() == [[1, 1], [IGNORE, IGNORE]]
    assert against.predict(sample.pixels[None]).argmax(dim=1).tolist() == [[[0, 1], [0, 0]]]


def test_a_predictor_of_stored_masks_knows_only_what_it_was_shown():
    data = MemoryDataset(
        torch.zeros(1, 3, 2, 2, dtype=torch.uint8), torch.zeros(1, 2, 2, dtype=torch.uint8), ("a", "b")
    )
    with pytest.raises(KeyError):
        Stored(data)(data.pixels)


def test_bad_input(pairs, tmp_path):
    strange = tmp_path / "strange"
    for kind, value in (("images", 90), ("masks", 1)):
        (strange / kind).mkdir(parents=True)
        Image.fromarray(np.full((SIDE, SIDE), value, np.uint8)).save(strange / kind / "holiday.png")
    with pytest.raises(DataError, match="no mask of the folder has the name"):
        gsegkit.evaluate_pairs(pairs, strange)
    with pytest.raises(ConfigError, match="only an ONNX file takes options"):
        gsegkit.evaluate_pairs(pairs, strange, by_options={"values": "logits"})
    with pytest.raises(gsegkit.GsegkitError, match="nosuch"):
        gsegkit.evaluate_pairs(pairs, tmp_path / "nosuch")
    (tmp_path / "text.onnx").write_text("not a network")
    with pytest.raises(gsegkit.GsegkitError):
        gsegkit.evaluate_pairs(pairs, tmp_path / "text.onnx")


TABLE = """
title = "pairs"
tolerance = { iou_foreground = 1.0 }
[[row]]
name = "ours"
method = "Ours"
how = "pairs"
run = "toy"
labeller = "bright"
labeller_options = { mean = [0, 0, 0], std = [1, 1, 1] }
num_images = 6
paper = { iou_foreground = 0.5 }
"""
PAPER = """
title = "A paper"
code = "nowhere"
[weights.bright]
title = "what is bright"
file = "bright.onnx"
source = "a disk"
licence = "none"
[runs.toy.plan]
num_samples = 8
gen = { name = "toy", options = { size = 32, num_classes = 2 } }
extractor = "native"
refine = []
seg = { name = "unet", options = { steps = 2 } }
"""


def test_a_row_of_a_recipe_is_scored_so(tmp_path):
    (tmp_path / "recipes" / "mine").mkdir(parents=True)
    (tmp_path / "recipes" / "mine" / "paper.toml").write_text(PAPER)
    (tmp_path / "recipes" / "mine" / "table-1.toml").write_text(TABLE)
    given = {"recipes": tmp_path / "recipes", "out": tmp_path / "out"}
    (planned,) = gsegkit.reproduce("mine-1", dry_run=True, **given).work.rows
    assert planned.state == "missing"
    assert "bright.onnx" in planned.missing[0]
    bright(tmp_path / "bright.onnx")
    done = gsegkit.reproduce("mine-1", weights=[str(tmp_path / "bright.onnx")], **given)
    (number,) = done.result.rows["ours"].numbers
    assert number.verdict == "within"
    assert json.loads(done.file.read_text())["rows"]["ours"]["weights"]["bright"]
