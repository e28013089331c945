"""What used to end in a traceback, or to be taken without a word."""

import errno
import os

import numpy as np
import pytest
import torch
from PIL import Image

from gsegkit import storage
from gsegkit.cli import main as command_line
from gsegkit.cli.terminal import make_console
from gsegkit.config import read_options_file
from gsegkit.engine.devices import pick_device
from gsegkit.engine.plan import MAX_SAMPLES, Plan
from gsegkit.engine.synthesis import synthesize
from gsegkit.errors import ArtifactError, ConfigError, DataError, StorageError
from gsegkit.exports.coco import CocoFile
from gsegkit.exports.places import LONGEST_NAME, output_names, unique_name
from gsegkit.exports.predictions import find_inputs, predict_files
from gsegkit.interfaces import Segmenter
from gsegkit.parts import load_part, save_part
from gsegkit.refining import Predictor
from gsegkit.rundir import RunFolder
from gsegkit.storage import atomic_write, read_json


class Grey(Segmenter):
    """Two classes by brightness."""

    classes = ("dark", "bright")
    train_size = (8, 8)

    def __init__(self):
        from gsegkit.config import Config

        super().__init__(Config())

    def fit(self, dataset, ctx, *, val=None): ...

    def logits(self, images):
        grey = images.mean(dim=1, keepdim=True)
        return torch.cat([-grey, grey], dim=1)

    def facts(self):
        return {"classes": list(self.classes), "train_size": list(self.train_size), "fit_rule": self.fit_rule}

    def restore(self, facts):
        self.classes, self.train_size = tuple(facts["classes"]), tuple(facts["train_size"])
        self.fit_rule = facts["fit_rule"]


NO_PHOTOGRAPHS = {
    "one without a batch": (torch.zeros(3, 9, 9, dtype=torch.uint8), r"photograph\[None\]"),
    "channels last": (torch.zeros(1, 9, 9, 3, dtype=torch.uint8), "permute"),
    "float": (torch.zeros(1, 3, 9, 9), "to_pixels"),
    "int64": (torch.zeros(1, 3, 9, 9, dtype=torch.int64), "uint8"),
    "numpy": (np.zeros((1, 3, 9, 9), np.uint8), "from_numpy"),
    "a path": ("a.png", "read_image"),
    "none": (None, "NoneType"),
    "four channels": (torch.zeros(1, 4, 9, 9, dtype=torch.uint8), "shape"),
    "no height": (torch.zeros(1, 3, 0, 9, dtype=torch.uint8), "shape"),
}


@pytest.mark.parametrize("name", NO_PHOTOGRAPHS)
def test_what_is_no_photograph_is_refused_with_the_way_to_make_one(name):
    given, remedy = NO_PHOTOGRAPHS[name]
    segmenter = Grey()
    for ask in (segmenter.predict, segmenter.probs, Predictor(segmenter), Predictor(segmenter).label):
        with pytest.raises(DataError, match=remedy):
            ask(given)


@pytest.mark.parametrize("given", [None, torch.zeros(1, 3, 9, 9), np.zeros((9, 9, 3), np.uint8), [None], 3])
def test_files_are_given_as_files(given, tmp_path):
    with pytest.raises(DataError, match="takes tensors"):
        find_inputs(given, tmp_path)


@pytest.mark.parametrize(
    "name", ["meta", "xla", "vulkan", "xpu", "hpu", "mtia", "cpu:7", "cuda:-1", "gpu", "mps:3", "cuda:x"]
)
def test_other_devices_are_refused_before_torch_meets_them(name):
    with pytest.raises(ConfigError, match="use auto, cpu, cuda"):
        pick_device(name)
    with pytest.raises(ConfigError, match="use auto, cpu, cuda"):
        Plan.from_options({"gen": "toy", "extractor": "native", "seg": "tiny", "device": name})


def test_mps_is_taken_where_torch_has_it(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="no Apple GPU"):
        pick_device("mps")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert pick_device("mps") == torch.device("mps")


@pytest.mark.parametrize("count", [0, -1, MAX_SAMPLES + 1, 10**30])
def test_more_samples_than_any_disk_holds_are_refused(count, ctx):
    with pytest.raises(ConfigError, match="equal to"):
        Plan.from_options({"gen": "toy", "extractor": "native", "seg": "tiny", "num_samples": count})
    with pytest.raises(ConfigError, match="samples cannot be made"):
        synthesize(None, None, [], count, ctx)
    assert not ctx.folder.exists() or not list(ctx.folder.iterdir())


def test_long_and_foreign_names_get_files_of_their_own(tmp_path):
    photographs = tmp_path / "in"
    photographs.mkdir()
    names = [b"caf\xe9.png", b"n" * 251 + b".png", b"n" * 250 + b"m.png", "é".encode() * 120 + b".png"]
    for name in names:
        with open(os.path.join(os.fsencode(photographs), name), "wb") as file:
            Image.new("RGB", (9, 7)).save(file, "PNG")
    done = predict_files(Grey(), photographs, tmp_path / "out", ("label", "overlay", "voc", "yolo", "coco"))
    assert done.written == 4
    for folder in ("labels", "overlays"):
        assert len(list((tmp_path / "out" / folder).iterdir())) == 4
    assert len(read_json(tmp_path / "out" / "predictions.json")["files"]) == 4
    assert read_json(tmp_path / "out" / "coco.json")["images"]


def test_a_name_is_cut_only_where_it_must_be(tmp_path):
    short = [tmp_path / "a.png", tmp_path / "b" / "c.png"]
    assert output_names(short) == ["a", "b/c"]
    taken: set[str] = set()
    stems = [unique_name("x" * 300 + end, taken) for end in "ab"]
    assert len(set(stems)) == 2
    assert all(len(stem.encode()) <= LONGEST_NAME for stem in stems)


def test_a_stage_that_is_a_link_is_not_followed(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "thesis.txt").write_text("mine")
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    for target in ("elsewhere", "nowhere"):
        link = run.path / f"to-{target}"
        link.symlink_to(tmp_path / target)
        with pytest.raises(StorageError, match="symbolic link"):
            run.begin_stage(link, "0" * 16)
    assert (tmp_path / "elsewhere" / "thesis.txt").read_text() == "mine"


def test_control_characters_of_names_do_not_reach_the_terminal(capsys):
    console = make_console()
    console.print("class \x1b[31mred\x1b]0;title\x07 in runs/[exp]2 and set[/b].png")
    shown = capsys.readouterr().err
    assert "\x1b" not in shown
    assert "\\x1b[31mred" in shown
    assert "runs/[exp]2 and set[/b].png" in shown


@pytest.mark.parametrize(
    "facts",
    [
        {"train_size": [10**9, 10**9]},
        {"train_size": [8]},
        {"train_size": ["8", "8"]},
        {"fit_rule": ["squash"]},
        {"fit_rule": "other"},
        {"classes": ["a\x1b[31m", "b"]},
        {"classes": ["a"] * 300},
        {"classes": 5},
        {"train_size": None, "classes": None},
    ],
)
def test_a_segmenter_whose_facts_are_out_of_bounds_is_refused(facts, tmp_path):
    save_part(Grey(), tmp_path, "segmenter", "grey")
    load_part(Grey(), tmp_path)
    record = read_json(tmp_path / "component.json")
    storage.atomic_write_json(tmp_path / "component.json", {**record, "facts": {**record["facts"], **facts}})
    with pytest.raises(ArtifactError, match="does not describe a Grey"):
        load_part(Grey(), tmp_path)


def test_a_full_disk_while_coco_is_written_is_a_storage_error(tmp_path, monkeypatch):
    file = CocoFile(tmp_path / "coco.json", ("background", "leaf"))

    class Full:
        def write(self, text):
            raise OSError(errno.ENOSPC, "No space left on device")

        close = flush = lambda self: self.write("")

    monkeypatch.setattr(file, "_file", Full())
    with pytest.raises(StorageError, match="no space left"):
        file.add("a.png", torch.ones(4, 4, dtype=torch.uint8))
    file.discard()
    assert not list(tmp_path.iterdir())


def test_the_temporary_name_of_a_long_name_fits(tmp_path):
    path = tmp_path / ("x" * 251 + ".txt")
    atomic_write(path, b"a")
    assert path.read_bytes() == b"a"


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")]
)
def test_running_out_of_memory_is_said_in_a_sentence(error, monkeypatch, call):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(command_line, "_with_plugins", fail)
    code, _, err = call("list")
    assert code == 2
    assert "not enough memory" in err
    assert "batch" in err


def test_another_runtime_error_keeps_its_traceback(monkeypatch, call):
    def fail(*args, **kwargs):
        raise RuntimeError("a bug")

    monkeypatch.setattr(command_line, "_with_plugins", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        call("list")


def test_simple_mistakes_are_found_without_torch(tmp_path, call, monkeypatch):
    call("list")  # imports the commands of plugins, which keep what they find
    monkeypatch.setattr("gsegkit.cli.options.session", lambda quiet=False: pytest.fail("making one imports torch"))
    for command in (["export", tmp_path, "--out", tmp_path / "o", "--format", "gif"], ["predict", tmp_path, tmp_path, "--out", tmp_path / "o", "--format", "gif"]):  # fmt: skip
        code, _, err = call(*command)
        assert code == 2
        assert "there is no format 'gif'" in err
    code, _, err = call("predict", tmp_path / "none", tmp_path, "--out", tmp_path / "o")
    assert code == 2
    assert "does not exist" in err


def test_byte_order_marks_of_option_files_are_skipped(tmp_path):
    for name, text in (("a.toml", "gen = 'toy'"), ("a.json", '{"gen": "toy"}'), ("a.yaml", "gen: toy")):
        (tmp_path / name).write_text(text, encoding="utf-8-sig")
        assert read_options_file(tmp_path / name) == {"gen": "toy"}


@pytest.mark.parametrize("path", ["x" * 256, "a/" * 3000, "a\0b"])
def test_a_path_that_no_file_system_holds_is_refused_when_it_is_given(path):
    for field in ("images", "photos", "data"):
        with pytest.raises(ConfigError, match=f"{field}: this is not a path"):
            Plan.from_options({"gen": "toy", "extractor": "native", "seg": "tiny", field: path})


def test_a_path_that_is_too_long_is_a_sentence(call):
    code, _, err = call("report", "x" * 300)
    assert code == 2
    assert "a path is too long for the file system" in " ".join(err.split())
