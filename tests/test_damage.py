"""A file that was damaged says what to delete or add; a file of the user's is never replaced; a dead generator is named."""

import importlib
import json
import threading
from pathlib import Path

import pytest
import torch

from gsegkit import api
from gsegkit.api.names import PAGE_MARK
from gsegkit.api.session import Session
from gsegkit.builtin.config import ToyConfig
from gsegkit.builtin.toy import Toy
from gsegkit.context import RunContext
from gsegkit.dataset import MemoryDataset
from gsegkit.engine.probe import check_varied
from gsegkit.errors import ArtifactError, ConfigError, DataError, GsegkitError, InterruptedRunError
from gsegkit.exports import datasets
from gsegkit.exports.datasets import export_dataset
from gsegkit.images import png_bytes, read_image, write_png
from gsegkit.plugins import installed
from gsegkit.progress import Progress
from gsegkit.records.ours import PNG_MARK, check_own_file, marked_png
from gsegkit.tensors import save_tree
from gsegkit.types import GeneratedBatch

TINY = {"steps": 3, "width": 2}


@pytest.fixture
def session(registry):
    return Session(registry, Progress(), threading.Event())


@pytest.fixture
def run(plan, session, tmp_path):
    small = plan.model_copy(update={"num_samples": 8})
    api.run_plan(small, tmp_path / "run", session=session)
    return small, tmp_path / "run"


def flipped(path):
    """The same size, another content."""
    data = bytearray(path.read_bytes())
    data[-1] ^= 0xFF
    path.write_bytes(data)


# ---- what blocks a command says what to delete -----------------------------------------------------------------------


def begin(folder, part, name="model"):
    """Begin a loop and stop it: it leaves a checkpoint."""
    ctx = RunContext(folder)
    ctx.stop.set()
    with pytest.raises(InterruptedRunError):
        list(ctx.steps(2, state={name: part}))


DAMAGED = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-7]),
    "flipped": flipped,
    "empty": lambda path: path.write_bytes(b""),
    "a text": lambda path: path.write_text("hello"),
    "another shape": lambda path: path.unlink() or begin(path.parent, torch.nn.Linear(5, 7)),
    "another name": lambda path: path.unlink() or begin(path.parent, torch.nn.Linear(2, 2), name="other"),
    "another sort": lambda path: save_tree(path, ["a", 1]),
    "no number": lambda path: save_tree(path, {"done": "many", "state": {}}),
}


@pytest.mark.parametrize("how", DAMAGED)
def test_a_damaged_checkpoint_is_named_with_what_to_do(tmp_path, how):
    path = tmp_path / "w" / "checkpoint.safetensors"
    begin(path.parent, torch.nn.Linear(2, 2))
    DAMAGED[how](path)
    with pytest.raises(ArtifactError, match="delete it and run the same command again") as caught:
        list(RunContext(path.parent).steps(2, state={"model": torch.nn.Linear(2, 2)}))
    assert str(path) in str(caught.value)
    path.unlink()
    assert list(RunContext(path.parent).steps(2, state={"model": torch.nn.Linear(2, 2)})) == [0, 1]


@pytest.mark.parametrize(
    "file", ["segmenter/state.safetensors", "dataset/shard-00000.safetensors", "extractor/component.json"]
)
def test_a_finished_stage_that_was_damaged_is_named_and_made_again_once_it_is_deleted(run, session, file):
    plan, folder = run
    before = (folder / "segmenter" / "state.safetensors").read_bytes()
    if file.endswith("json"):
        text = (folder / file).read_text()
        (folder / file).write_text(text.replace('"kind"', '"kinx"'))
    else:
        flipped(folder / file)
    stage = (folder / file).parent
    with pytest.raises(ArtifactError, match=f"delete the folder '{stage}' and run again"):
        api.run_plan(plan, folder, session=session)
    for path in stage.iterdir():
        path.unlink()
    stage.rmdir()
    api.run_plan(plan, folder, session=session)
    assert (folder / "segmenter" / "state.safetensors").read_bytes() == before


@pytest.mark.parametrize("content", ["{", "[1", ""])
def test_a_damaged_record_of_the_work_is_made_again_with_update(run, session, tmp_path, content):
    _, folder = run
    out = tmp_path / "out"
    api.train(folder, "tiny", out, options=TINY, device="cpu", session=session)
    first = (out / "state.safetensors").read_bytes()
    (out / "work.json").write_text(content)
    with pytest.raises(ArtifactError, match=r"work\.json.*add --update"):
        api.train(folder, "tiny", out, options=TINY, device="cpu", session=session)
    assert (out / "state.safetensors").read_bytes() == first
    api.train(folder, "tiny", out, options=TINY, device="cpu", update=True, session=session)
    assert (out / "state.safetensors").read_bytes() == first
    pairs = tmp_path / "pairs"
    api.synthesize(folder, pairs, 8, device="cpu", session=session)
    (pairs / "recipe.json").write_text(content)
    with pytest.raises(ArtifactError, match=r"recipe\.json.*add --update"):
        api.synthesize(folder, pairs, 8, device="cpu", session=session)
    assert len(api.synthesize(folder, pairs, 8, device="cpu", update=True, session=session)) == 8


# ---- exports beside each other ---------------------------------------------------------------------------------------


def pairs(count=3):
    return MemoryDataset(
        torch.zeros(count, 3, 8, 8, dtype=torch.uint8), torch.ones(count, 8, 8, dtype=torch.uint8), ("a", "b")
    )


class Meeting:
    """Pairs; while the second is read, another export of the same folder runs to its end."""

    def __init__(self, out):
        self.out, self.pairs = out, pairs()

    def __getattr__(self, name):
        return getattr(self.pairs, name)

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, index):
        if index == 1:
            export_dataset(pairs(5), self.out, "png")
        return self.pairs[index]


def test_two_exports_of_one_folder_share_nothing(tmp_path):
    with pytest.raises(DataError, match="is not empty"):
        export_dataset(Meeting(tmp_path / "out"), tmp_path / "out", "png")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert len(list((tmp_path / "out" / "images").iterdir())) == 5


def test_an_export_is_marked_only_once_it_is_locked(tmp_path, monkeypatch):
    """Between mark and lock another export of the same folder would take it for a dead one."""
    seen = []

    class Lock(datasets.FileLock):
        def acquire(self, *args, **kwargs):
            seen.append((Path(self.lock_file).parent / datasets.FOR_FILE).exists())
            return super().acquire(*args, **kwargs)

    monkeypatch.setattr(datasets, "FileLock", Lock)
    export_dataset(pairs(), tmp_path / "out", "png")
    assert seen == [False]


def test_a_network_whose_export_was_killed_is_exported_again(run, session, tmp_path, monkeypatch):
    _, folder = run
    networks = importlib.import_module("gsegkit.exports.traced")
    path = tmp_path / "s.pt2"
    real = networks.os.replace

    def dies(source, target):
        if target == path:
            raise KeyboardInterrupt
        real(source, target)

    for there in (False, True):
        with monkeypatch.context() as patch:
            patch.setattr(networks.os, "replace", dies)
            with pytest.raises(KeyboardInterrupt):
                api.export(folder, path, "torch", session=session, dynamic=False, update=True)
        assert path.exists() == there
        assert (tmp_path / "s.pt2.json").exists()
        api.export(folder, path, "torch", session=session, dynamic=False)
    assert path.exists()


# ---- files of the user's ---------------------------------------------------------------------------------------------


def test_a_card_of_the_users_is_not_replaced(run, session, tmp_path):
    for content in ("mine", '{"mine": 1}', "[]"):
        (tmp_path / "s.pt2.json").write_text(content)
        with pytest.raises(GsegkitError, match=r"s\.pt2\.json"):
            api.export(run[1], tmp_path / "s.pt2", "torch", session=session)
        assert (tmp_path / "s.pt2.json").read_text() == content


def test_a_page_and_a_sheet_replace_only_their_own_kind(run, session, tmp_path):
    _, folder = run
    page, sheet = tmp_path / "page.html", tmp_path / "sheet.png"
    page.write_text("<html>my thesis")
    write_png(sheet, torch.zeros(3, 4, 4, dtype=torch.uint8))
    before = sheet.read_bytes()
    call = {"device": "cpu", "session": session, "num_images": 2}
    with pytest.raises(ConfigError, match=f"'{page}' would be overwritten"):
        api.name_page(folder, page, **call)
    with pytest.raises(ConfigError, match=f"'{sheet}' would be overwritten"):
        api.list_clusters(folder, sheet=sheet, **call)
    assert page.read_text() == "<html>my thesis"
    assert sheet.read_bytes() == before
    page.unlink(), sheet.unlink()
    for _ in range(2):
        api.name_page(folder, page, **call)
        api.list_clusters(folder, sheet=sheet, **call)
    assert PAGE_MARK in page.read_bytes()
    assert read_image(sheet).ndim == 3


def test_a_mark_is_found_and_links_and_folders_are_refused(tmp_path):
    pixels = torch.randint(0, 256, (3, 9, 7), dtype=torch.uint8)
    own = tmp_path / "own.png"
    own.write_bytes(marked_png(png_bytes(pixels)))
    assert torch.equal(read_image(own), pixels)
    check_own_file(own, PNG_MARK)
    check_own_file(tmp_path / "new.png", PNG_MARK)
    (tmp_path / "link.png").symlink_to(own)
    (tmp_path / "dangling.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "folder.png").mkdir()
    for name in ("link.png", "dangling.png", "folder.png"):
        with pytest.raises(ConfigError, match=name):
            check_own_file(tmp_path / name, PNG_MARK)


# ---- generators that paint nothing -----------------------------------------------------------------------------------


DRAW = Toy.synthesize


def dull(toy, latents, labels=None, *, features=(), edits=None):
    """As the toy, but all that it gives is one number in each picture; which, depends on the picture and `gain`."""
    batch = DRAW(toy, latents, labels, features=features, edits=edits)
    value = latents[:, :1, None, None] * toy.gain
    maps = {name: torch.zeros_like(found) + value for name, found in batch.features.items()}
    return GeneratedBatch(torch.zeros_like(batch.images) + value.tanh(), latents, labels, features=maps)


@pytest.fixture(params=[0.0, 1.0], ids=["all zero", "one colour a picture"])
def dead(request, monkeypatch):
    monkeypatch.setattr(Toy, "synthesize", dull)
    monkeypatch.setattr(Toy, "gain", request.param, raising=False)
    return Toy(ToyConfig(size=16))


@pytest.mark.parametrize("name", ["kmeans", "kasp", "ahc", "klish"])
def test_extractors_refuse_features_without_variation(dead, name, ctx):
    if name not in installed().available("extractor"):
        pytest.skip("not installed")
    options = {"num_images": 8, "pixels_per_image": 16, "mirrored": "none"}
    extractor = installed().build("extractor", name, options)
    with pytest.raises(DataError, match="one vector for all pixels of an image") as caught:
        extractor.fit(dead, ctx)
    assert "weights" in caught.value.hint


def test_a_run_refuses_a_generator_whose_pictures_are_of_one_colour(dead, plan, session, tmp_path, ctx):
    with pytest.raises(DataError, match="every picture of the generator Toy is of one colour"):
        check_varied(dead, ctx)
    with pytest.raises(DataError, match="is of one colour"):
        api.run_plan(plan, tmp_path / "run", session=session)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "failed"


def test_a_generator_that_paints_passes(ctx):
    check_varied(Toy(ToyConfig(size=16)), ctx)
