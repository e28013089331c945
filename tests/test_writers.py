"""predict_files: what is written, what is refused, and that nothing is lost."""

import json
import os
import unicodedata
from pathlib import Path

import pytest
import torch
from PIL import Image

from gsegkit.annotation.rle import decode_rle
from gsegkit.colours import class_palette
from gsegkit.config import Config
from gsegkit.context import RunContext
from gsegkit.errors import ConfigError, DataError, InterruptedRunError, StorageError
from gsegkit.exports.formats import PREDICTION_FORMATS
from gsegkit.exports.places import output_names, place, unique_name
from gsegkit.exports.predictions import find_inputs, predict_files, write_predictions
from gsegkit.images import read_image, read_mask, write_png
from gsegkit.interfaces import Segmenter
from gsegkit.rundir import RunFolder


class Threshold(Segmenter):
    """Class 1 where the red channel is bright: its masks are known without training."""

    fit_rule = "native"

    def __init__(self):
        super().__init__(Config())
        self.classes = ("background", "bright")
        self.train_size = (8, 8)
        self.batches = []

    def fit(self, dataset, ctx, *, val=None):
        raise AssertionError("not used")

    def logits(self, images):
        self.batches.append(tuple(images.shape))
        return torch.stack([-images[:, 0], images[:, 0]], dim=1)


def photo(path, height=12, width=17, seed=0):
    pixels = torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_png(path, pixels)
    return pixels


def test_every_format_of_one_photo(tmp_path):
    pixels = photo(tmp_path / "in" / "a.png")
    truth = (pixels[0] >= 128).to(torch.uint8)
    out = tmp_path / "out"
    summary = predict_files(Threshold(), tmp_path / "in" / "a.png", out, ("label", "overlay", "voc", "yolo", "coco"))
    assert summary.written == 1
    assert str(out) in str(summary)
    assert torch.equal(read_mask(out / "labels" / "a.png"), truth)
    assert torch.equal(read_mask(out / "voc" / "a.png"), truth)
    assert Image.open(out / "voc" / "a.png").getpalette()[3:6] == class_palette()[1].tolist()
    blended = read_image(out / "overlays" / "a.png")
    assert torch.equal(blended[:, truth == 0], pixels[:, truth == 0])
    bright = (0.5 * pixels.float() + 0.5 * torch.tensor([0xFF, 0x3B, 0x5C]).view(3, 1, 1)).round().to(torch.uint8)
    assert torch.equal(blended[:, truth == 1], bright[:, truth == 1])
    record = json.loads((out / "coco.json").read_text())
    assert torch.equal(decode_rle(record["annotations"][0]["segmentation"]), truth == 1)
    assert record["images"][0]["file_name"] == "a.png"
    assert (out / "yolo" / "classes.txt").read_text() == "bright\n"
    assert all(line.startswith("0 ") for line in (out / "yolo" / "labels" / "a.txt").read_text().splitlines())


def test_neighbours_of_equal_size_go_together(tmp_path):
    for i in range(5):
        photo(tmp_path / "in" / f"{i}.png", height=9 if i < 3 else 10, seed=i)
    segmenter = Threshold()
    predict_files(segmenter, tmp_path / "in", tmp_path / "out", ("label",), RunContext(tmp_path, batch_size=2))
    assert segmenter.batches == [(2, 3, 9, 17), (1, 3, 9, 17), (2, 3, 10, 17)]
    assert len(list((tmp_path / "out" / "labels").iterdir())) == 5


def test_bad_files_are_named_and_the_others_written(tmp_path):
    photo(tmp_path / "in" / "good.png")
    photo(tmp_path / "in" / "later.png")
    (tmp_path / "in" / "empty.png").touch()
    (tmp_path / "in" / "torn.png").write_bytes((tmp_path / "in" / "good.png").read_bytes()[:60])
    with pytest.raises(DataError, match="2 of 4 images") as caught:
        predict_files(Threshold(), tmp_path / "in", tmp_path / "out", ("label", "coco"))
    assert caught.value.exit_code == 2
    assert "empty.png" in str(caught.value)
    assert "torn.png" in str(caught.value)
    assert sorted(path.name for path in (tmp_path / "out" / "labels").iterdir()) == ["good.png", "later.png"]
    summary = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert {key.rpartition("/")[2] for key in summary["bad"]} == {"empty.png", "torn.png"}
    assert len(summary["files"]) == 2
    assert len(json.loads((tmp_path / "out" / "coco.json").read_text())["images"]) == 2


def test_all_bad_is_an_error_too(tmp_path):
    (tmp_path / "x.png").write_text("no picture")
    with pytest.raises(DataError, match="1 of 1"):
        predict_files(Threshold(), tmp_path / "x.png", tmp_path / "out")


def test_same_stems_keep_their_suffix(tmp_path):
    photo(tmp_path / "in" / "a.png", seed=1)
    photo(tmp_path / "in" / "sub" / "a.png", seed=2)
    Image.new("RGB", (4, 4), (255, 0, 0)).save(tmp_path / "in" / "a.jpg")
    predict_files(Threshold(), tmp_path / "in", tmp_path / "out", ("label",))
    labels = tmp_path / "out" / "labels"
    assert {path.relative_to(labels).as_posix() for path in labels.rglob("*.png")} == {
        "a.png.png",
        "a.jpg.png",
        "sub/a.png",
    }
    assert bool((read_mask(labels / "a.jpg.png") == 1).all())


def test_output_names_never_collide(tmp_path):
    names = ["x.png", "x.jpg", "x.jpg.bmp", "X.PNG", "y.png", "d.v2/z.png", "d/z.png"]
    made = output_names([tmp_path / name for name in names])
    assert len({name.casefold() for name in made}) == len(names)
    assert made[4:] == ["y", "d.v2/z", "d/z"]
    assert made[:2] != ["x", "x"]


@pytest.mark.parametrize("where", [".", "in", "in/predictions"])
def test_output_never_mixes_with_the_input_folder(tmp_path, where):
    photo(tmp_path / "in" / "a.png")
    if where == ".":  # the output folder holds the inputs
        source, out = tmp_path / "in" / "a.png", tmp_path
    else:
        source, out = tmp_path / "in", tmp_path / where
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError, match="output folder"):
        predict_files(Threshold(), source, out)
    assert sorted(tmp_path.rglob("*")) == before


def test_globs_and_missing_inputs(tmp_path):
    for name in ("a1.png", "a2.png", "b.png"):
        photo(tmp_path / name)
    out = tmp_path / "out"
    assert [path.name for path in find_inputs(str(tmp_path / "a*.png"), out)] == ["a1.png", "a2.png"]
    assert len(find_inputs([tmp_path / "b.png", str(tmp_path / "*.png")], out)) == 3
    for missing in (tmp_path / "c.png", str(tmp_path / "c*.png")):
        with pytest.raises(DataError, match=r"does not exist|no file matches"):
            find_inputs(missing, out)


def test_a_file_with_brackets_in_its_name_is_a_file(tmp_path):
    photo(tmp_path / "a[1].png")
    assert [path.name for path in find_inputs(str(tmp_path / "a[1].png"), tmp_path / "out")] == ["a[1].png"]


def test_unknown_format_is_refused_before_anything_is_written(tmp_path):
    photo(tmp_path / "a.png")
    with pytest.raises(ConfigError, match="'pdf' is unknown"):
        predict_files(Threshold(), tmp_path / "a.png", tmp_path / "out", ("label", "pdf"))
    assert not (tmp_path / "out").exists()


def test_stop_leaves_no_half_file(tmp_path):
    for i in range(4):
        photo(tmp_path / "in" / f"{i}.png", height=5 + i)
    ctx = RunContext(tmp_path)
    segmenter = Threshold()
    plain = segmenter.probs
    segmenter.probs = lambda pixels: ctx.stop.set() or plain(pixels)
    with pytest.raises(InterruptedRunError):
        predict_files(segmenter, tmp_path / "in", tmp_path / "out", ("label", "coco"), ctx)
    left = [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert sorted(left) == ["0.png", "predictions.json"]


def test_unwritable_output_is_one_clear_error(tmp_path):
    photo(tmp_path / "a.png")
    (tmp_path / "out").write_text("a file where the folder should be")
    with pytest.raises(StorageError, match="cannot write"):
        predict_files(Threshold(), tmp_path / "a.png", tmp_path / "out")


def test_write_predictions(tmp_path):
    pixels = [photo(tmp_path / "a.png"), photo(tmp_path / "b.png", height=5)]
    masks = [(image[0] > 99).to(torch.uint8) for image in pixels]
    write_predictions(tmp_path / "p", ["sub/a.b", "<b>"], pixels, masks, masks)
    assert json.loads((tmp_path / "p" / "index.json").read_text()) == {"sub_a_b": "sub/a.b", "b": "<b>"}
    assert torch.equal(read_mask(tmp_path / "p" / "b.label.png"), masks[1])
    assert torch.equal(read_image(tmp_path / "p" / "sub_a_b.image.png"), pixels[0])
    assert (tmp_path / "p" / "b.truth.png").exists()


# ---- where files go ------------------------------------------------------------------------------------------------


def tree(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("kind", PREDICTION_FORMATS)
def test_inputs_that_climb_write_nothing_outside(tmp_path, monkeypatch, kind):
    """`../../x.png` beside `y.png`: the mask of x lies in `out`, and the photograph stays."""
    photo(tmp_path / "x.png", seed=1)
    photo(tmp_path / "a" / "b" / "y.png", seed=2)
    monkeypatch.chdir(tmp_path / "a" / "b")
    before = tree(tmp_path)
    predict_files(Threshold(), ["../../x.png", "y.png", "../b/../../x.png"], "out", (kind,))
    after = tree(tmp_path)
    assert {path: after.get(path) for path in before} == before
    out = tmp_path / "a" / "b" / "out"
    assert all(path.is_relative_to(out) for path in after.keys() - before.keys())
    assert len(json.loads((out / "predictions.json").read_text())["files"]) == 2


@pytest.mark.parametrize("parts", [("..", "x.png"), ("a/../../x.png",), ("/x.png",), ("link", "x.png")])
def test_no_path_leaves_the_output_folder(tmp_path, parts):
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="outside the output folder"):
        place(tmp_path / "out", *parts)


def test_a_linked_folder_in_the_output_is_not_followed(tmp_path):
    photo(tmp_path / "in" / "x.png")
    photo(tmp_path / "mine" / "x.png", seed=5)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "labels").symlink_to(tmp_path / "mine")
    before = tree(tmp_path)
    with pytest.raises(DataError, match="outside the output folder"):
        predict_files(Threshold(), tmp_path / "in", tmp_path / "out", ("label",))
    assert tree(tmp_path) == before


def test_only_own_files_are_replaced(tmp_path):
    """A second call replaces what the first wrote, also after it was interrupted; never a file of the user's."""
    photo(tmp_path / "in" / "x.png")
    photo(tmp_path / "out" / "labels" / "x.png", seed=5)
    before = tree(tmp_path)
    with pytest.raises(ConfigError, match="would be overwritten"):
        predict_files(Threshold(), tmp_path / "in", tmp_path / "out", ("label",))
    assert tree(tmp_path) == before

    photo(tmp_path / "two" / "y.png")
    out = tmp_path / "fresh"
    stopped = RunContext(out)
    stopped.stop.set()
    with pytest.raises(InterruptedRunError):
        predict_files(Threshold(), tmp_path / "in", out, ("label",), stopped)
    for source in ("in", "two", "in"):
        predict_files(Threshold(), tmp_path / source, out, ("label", "coco", "yolo"))
    (out / "predictions.json").write_text('{"files": {"a": "x"}, "formats": ["label"]}')  # of an earlier version
    predict_files(Threshold(), tmp_path / "in", out, ("label",))


@pytest.mark.parametrize("where", ["run", "run/segmenter", "run/segmenter/deep/er"])
def test_predictions_do_not_go_into_a_run(tmp_path, where):
    photo(tmp_path / "in" / "x.png")
    run = RunFolder(tmp_path / "run")
    run.write_config({"gen": {}})
    run.write_status("done")
    run.begin_stage(run.path / "segmenter", "key")
    before = tree(tmp_path)
    with pytest.raises(DataError, match="choose a folder outside it"):
        predict_files(Threshold(), tmp_path / "in", tmp_path / where)
    assert tree(tmp_path) == before


def test_names_of_any_bytes_case_and_length(tmp_path):
    names = [
        b"caf\xe9.png",
        b"caf_.png",
        b"A.png",
        b"a.png",
        "e\u0301.png".encode(),
        "\u00e9.png".encode(),
        b"line\nfeed.png",
    ]
    names += [b"x" * 240 + b"1.png", b"x" * 240 + b"2.png", "\u732b".encode() * 80 + b".png", b"a-4.png"]
    (tmp_path / "in").mkdir()
    photo(tmp_path / "one.png")
    for name in names:
        Path(os.fsdecode(os.fsencode(tmp_path / "in") + b"/" + name)).write_bytes((tmp_path / "one.png").read_bytes())
    predict_files(Threshold(), tmp_path / "in", tmp_path / "out", tuple(PREDICTION_FORMATS))
    record = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert {os.fsencode(path).rpartition(b"/")[2] for path in record["files"]} == set(names)
    made = list(record["files"].values())
    assert len({unicodedata.normalize("NFC", name).casefold() for name in made}) == len(names)
    for folder, suffix in (("labels", "png"), ("yolo/labels", "txt")):
        assert {path.stem for path in (tmp_path / "out" / folder).iterdir() if path.suffix[1:] == suffix} == set(made)
    taken = set()
    assert all(len(unique_name("\u732b" * 200, taken).encode()) < 230 for _ in range(3))
