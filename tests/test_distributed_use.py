"""Photographs are predicted by several processes as by one: the same files, the same record, the same sentence."""

import json
import resource
import threading

import numpy as np
import pytest
import torch
from PIL import Image

from gsegkit import api
from gsegkit.api.session import Session
from gsegkit.context import RunContext
from gsegkit.errors import ConfigError, DataError, StorageError
from gsegkit.exports.formats import PREDICTION_FORMATS
from gsegkit.exports.inputs import Item
from gsegkit.exports.predictions import predict_files
from gsegkit.exports.shares import packed_mask, shares, unpacked_mask
from gsegkit.plugins import installed
from gsegkit.progress import Progress
from gsegkit.testing import Listener
from gsegkit.testing.processes import outcomes, together


class Bright:
    """Two classes by the red channel."""

    classes = ("dark", "bright")
    scaling = "percentile"

    def probs(self, pixels):
        bright = pixels[:, 0].float() / 255
        return torch.stack([1 - bright, bright], dim=1)


@pytest.fixture
def photographs(tmp_path):
    """Eleven photographs of two sizes, an animation of five frames, a stack of two pages, and a broken file."""
    folder, draw = tmp_path / "in", np.random.default_rng(0)
    folder.mkdir()

    def picture(height=20):
        return Image.fromarray(draw.integers(0, 255, (height, 24, 3), dtype=np.uint8))

    for number in range(11):
        picture(20 if number % 4 else 30).save(folder / f"{number:02}.png")
    (folder / "03b.png").write_bytes(b"this is no picture")
    picture().save(folder / "anim.gif", save_all=True, append_images=[picture() for _ in range(4)])
    picture().save(folder / "stack.tif", save_all=True, append_images=[picture()])
    return folder


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_several_processes_leave_the_files_of_one(photographs, tmp_path):
    def work(team, folder):
        said = Listener()
        ctx = RunContext(folder, batch_size=1, team=team, progress=said)
        with pytest.raises(DataError) as refused:
            predict_files(Bright(), photographs, folder, tuple(PREDICTION_FORMATS), ctx)
        return refused.value.message, said.warnings

    found = {size: together(size, lambda team, size=size: work(team, tmp_path / str(size))) for size in (1, 2, 3)}
    ((message, warnings),) = found[1]
    assert "1 of 19 images could not be predicted" in message
    assert len(warnings) == 1
    for size in (2, 3):
        assert [mine[0] for mine in found[size]] == [message] * size
        assert found[size][0][1] == warnings
        assert files(tmp_path / str(size)) == files(tmp_path / "1")
    assert len(json.loads((tmp_path / "3/coco.json").read_text())["images"]) == 18


def test_a_full_disk_on_one_machine_stops_all_and_the_same_command_goes_on(photographs, tmp_path):
    (photographs / "03b.png").unlink()

    def full(team):
        if team.rank == 1:
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        predict_files(Bright(), photographs, tmp_path / "out", "label", RunContext(tmp_path, batch_size=1, team=team))

    first, second = outcomes(2, full)
    assert isinstance(second, StorageError)
    assert "no space left while writing" in second.message
    assert first.message == f"process 1: {second.message}"
    assert "finished work is kept" in first.hint
    again = together(2, lambda team: str(predict_files(
        Bright(), photographs, tmp_path / "out", "label", RunContext(tmp_path, batch_size=1, team=team)
    )))  # fmt: skip
    assert "18 images" in again[0]
    predict_files(Bright(), photographs, tmp_path / "one", "label", RunContext(tmp_path, batch_size=1))
    assert files(tmp_path / "one") == files(tmp_path / "out")


def test_no_file_is_divided_and_shares_are_large_enough():
    items = [Item(path, f"{path}{page}", "", "", page) for path, pages in zip("abcde", (1, 7, 1, 1, 2), strict=True)
             for page in range(pages)]  # fmt: skip
    parts = shares(items, 3)
    assert [item for part in parts for item in part] == items
    assert [[item.path for item in part] for part in parts] == [["a", *"b" * 7], ["c", "d", "e", "e"]]


def test_a_packed_mask_comes_back():
    mask = torch.arange(300, dtype=torch.int64).reshape(12, 25).to(torch.uint8)
    assert torch.equal(unpacked_mask(packed_mask(mask)), mask)
    assert torch.equal(unpacked_mask(packed_mask(mask.T)), mask.T)


def test_processes_that_were_asked_for_different_things_say_so(tmp_path):
    def work(team):
        session = Session(installed(), Progress(), threading.Event(), team)
        api.predict(tmp_path / "run", tmp_path, tmp_path / "out", formats=("label", "voc")[team.rank], session=session)

    found = outcomes(2, work)
    assert [type(error) for error in found] == [ConfigError] * 2
    assert "the processes differ in the option formats: process 0 has 'label', process 1 has 'voc'" in found[0].message
    assert not (tmp_path / "out").exists()
