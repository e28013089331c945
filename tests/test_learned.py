"""A run says when its segmenter did not learn the pairs."""

import json
import threading

import pytest
import torch

from gsegkit import api
from gsegkit.dataset import MemoryDataset
from gsegkit.engine.learned import compare
from gsegkit.engine.pipeline import run
from gsegkit.engine.plan import Plan
from gsegkit.progress import Progress
from gsegkit.testing import Listener

CLASSES = ("a", "b", "c", "d")


class Answers:
    """Predicts what it is told, picture by picture; the red channel says which."""

    classes = CLASSES

    def __init__(self, masks):
        self.masks = masks

    def predict(self, pixels):
        return self.masks[pixels[:, 0, 0, 0].long()]


def pairs_of(masks):
    pixels = torch.zeros(len(masks), 3, *masks.shape[1:], dtype=torch.uint8)
    pixels += torch.arange(len(masks), dtype=torch.uint8)[:, None, None, None]
    return MemoryDataset(pixels, masks, CLASSES)


@pytest.fixture
def masks():
    """40 pictures in four quarters, so that one class everywhere has IoU 1/4, 0, 0, 0."""
    quarters = torch.zeros(40, 8, 8, dtype=torch.uint8)
    quarters[:, :4, 4:], quarters[:, 4:, :4], quarters[:, 4:, 4:] = 1, 2, 3
    return quarters


def test_what_is_compared(masks):
    perfect = compare(Answers(masks), pairs_of(masks))
    assert (perfect.miou, perfect.constant_miou, perfect.parts, perfect.never) == (1, 1 / 16, CLASSES, ())
    assert not perfect.failed
    assert perfect.to_json()["problem"] == ""
    constant = compare(Answers(torch.zeros_like(masks)), pairs_of(masks), "do something")
    assert constant.miou == constant.constant_miou, "one class everywhere is what the constant map is"
    assert constant.never == ("b", "c", "d")
    assert constant.failed
    assert constant.sentence == (
        "the segmenter did not learn its pairs: mIoU 0.06 on 40 new pairs, where one class everywhere gives 0.06, and "
        "it never predicts 3 of 4 parts; do something"
    )


def test_either_sign_is_enough(masks):
    wrong = masks.clone()
    wrong[:, :, :3] = (wrong[:, :, :3] + 1) % 4  # three of eight columns wrong: 5/11 of each class on average
    assert 0.26 < compare(Answers(wrong), pairs_of(masks)).miou < 0.6
    assert not compare(Answers(wrong), pairs_of(masks)).failed
    shuffled = torch.randint(0, 4, masks.shape, generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    random = compare(Answers(shuffled), pairs_of(masks))
    assert random.never == ()
    assert random.failed, "every part is predicted, in the wrong places"
    rare = torch.zeros_like(masks)
    rare[:, 0, 0], rare[:, 0, 1], rare[:, 0, 2] = 1, 2, 3
    lost = compare(Answers(torch.zeros_like(masks)), pairs_of(rare))
    assert lost.never == ("b", "c", "d")
    assert lost.failed


def test_ignored_pixels_and_absent_classes_do_not_count(masks):
    truth = masks.clone()
    truth[truth == 3] = 255
    found = compare(Answers(masks), pairs_of(truth))
    assert (found.miou, found.parts) == (1, CLASSES[:3])
    assert found.constant_miou == pytest.approx(1 / 9)


def test_a_run_that_learns_and_one_that_does_not(plan, registry, tmp_path, call):
    values = Plan.from_options(plan.model_dump(mode="json"), ["gen.size=16"]).model_dump(mode="json")
    good = run(Plan.from_options(values, ["seg.steps=500", "seg.width=32"]), tmp_path / "good", registry=registry)
    assert not good.learned.failed, good.learned
    said = Listener()
    poor = run(Plan.from_options(values, ["seg.steps=1"]), tmp_path / "poor", registry=registry, progress=said)
    assert poor.learned.failed
    assert said.warnings == [poor.learned.sentence]
    assert "--samples 80" in poor.learned.sentence, "the remedy"
    stored = json.loads((tmp_path / "poor/run.json").read_text())
    assert stored["learned"] == poor.learned.to_json()
    assert stored["warnings"] == [poor.learned.sentence]
    session = api.Session(registry, Progress(), threading.Event())
    again = api.run_plan(Plan.from_options(values, ["seg.steps=1"]), tmp_path / "poor", session=session)
    assert again.learned == poor.learned, "also when every stage is reused"
    page = again.page.read_text()
    assert "did not learn its pairs" in page
    assert "masks learned" in page


def test_a_smoke_run_is_not_judged(plan, registry, tmp_path):
    smoke = run(plan.model_copy(update={"smoke": True}), tmp_path / "smoke", registry=registry)
    assert smoke.learned is None
    assert json.loads((tmp_path / "smoke/run.json").read_text())["learned"] is None
