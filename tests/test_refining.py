"""Refiners on photographs: one owner, one rule, and it is always said which of them acted."""

import json
from dataclasses import dataclass

import pytest
import torch

from gsegkit import api
from gsegkit.config import Config
from gsegkit.engine.plan import Plan
from gsegkit.errors import ConfigError, UnknownPluginError
from gsegkit.exports.predictions import predict_files
from gsegkit.images import read_mask, write_png
from gsegkit.interfaces import Refiner, Segmenter
from gsegkit.plugins import Registry, installed
from gsegkit.refining import Predictor, automatic, chosen, in_words, made
from gsegkit.rundir import RunFolder


class Bright(Segmenter):
    """Class 1 where red is bright."""

    fit_rule = "native"

    def __init__(self):
        super().__init__(Config())
        self.classes = ("dark", "bright")
        self.train_size = (8, 8)

    def fit(self, dataset, ctx, *, val=None):
        raise AssertionError("not used")

    def logits(self, images):
        return torch.stack([-images[:, 0], images[:, 0]], dim=1)


class Swap(Refiner):
    """Dark is bright: in the masks only, as `components` and `holes` work."""

    def refine(self, batch):
        return batch.with_masks(1 - batch.masks)


class Unsure(Refiner):
    """The first column is ignored."""

    def refine(self, batch):
        masks = batch.masks.clone()
        masks[:, :, 0] = 255
        return batch.with_masks(masks)


class Drop(Refiner):
    """Keeps the first picture only."""

    def refine(self, batch):
        return batch.keep(torch.arange(len(batch)) < 1)


PHOTOS = torch.randint(0, 256, (2, 3, 9, 11), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_without_refiners_the_segmenter_speaks_for_itself():
    segmenter = Bright()
    assert torch.equal(Predictor(segmenter)(PHOTOS), segmenter.probs(PHOTOS))
    assert Predictor(segmenter).refined_by == {}
    assert torch.equal(segmenter.predict(PHOTOS), segmenter.probs(PHOTOS).argmax(1).to(torch.uint8))


def test_edited_masks_reach_evaluators_as_probabilities():
    segmenter = Bright()
    swap = Swap(Config())
    alone = segmenter.predict(PHOTOS)
    assert torch.equal(segmenter.predict(PHOTOS, refine=swap), 1 - alone)
    assert torch.equal(segmenter.probs(PHOTOS, refine=[swap]).argmax(1), 1 - alone.long())
    assert torch.equal(segmenter.probs(PHOTOS, refine=swap).sum(1), torch.ones(2, 9, 11))


def test_ignored_pixels_stay_255_in_masks_and_keep_their_probabilities():
    segmenter = Bright()
    masks = segmenter.predict(PHOTOS, refine=Unsure(Config()))
    assert (masks[:, :, 0] == 255).all()
    assert (masks[:, :, 1:] < 2).all()
    assert torch.equal(segmenter.probs(PHOTOS, refine=Unsure(Config())), segmenter.probs(PHOTOS))


def test_a_refiner_that_drops_photographs_is_refused():
    with pytest.raises(ConfigError, match="refiner 'drop' drops pictures"):
        Bright().predict(PHOTOS, refine=Drop(Config()))


def test_names_are_built_and_unknown_or_repeated_ones_refused():
    with pytest.raises(UnknownPluginError, match="no refiner 'nothing'"):
        Bright().probs(PHOTOS, refine="nothing")
    with pytest.raises(ConfigError, match="given twice"):
        made([Swap(Config()), Swap(Config())])
    with pytest.raises(ConfigError, match="not a chosen refiner"):
        chosen((), {"colours": {"weight": 1}}, Registry())
    assert automatic(Registry()) == ()
    assert in_words({}) == "one pass of the segmenter, not refined"


def test_predictions_say_which_refiners_acted(tmp_path):
    write_png(tmp_path / "in" / "a.png", PHOTOS[0])
    summary = predict_files(Predictor(Bright(), Swap(Config())), tmp_path / "in", tmp_path / "out", ("label",))
    assert json.loads((tmp_path / "out" / "predictions.json").read_text())["refined_by"] == {"swap": {}}
    assert str(summary).endswith("refined by swap")
    assert torch.equal(read_mask(tmp_path / "out" / "labels" / "a.png"), 1 - Bright().predict(PHOTOS[:1])[0])
    plain = predict_files(Bright(), tmp_path / "in", tmp_path / "out2", ("label",))
    assert json.loads((tmp_path / "out2" / "predictions.json").read_text())["refined_by"] == {}
    assert str(plain).endswith("not refined")


needs_colours = pytest.mark.skipif("colours" not in automatic(), reason="needs gsegkit-refine")


@dataclass
class Setup:
    run: object
    photos: object
    session: object


@pytest.fixture
def finished(tmp_path, registry):
    """A run on annotated photographs, by parts of the tests, with the installed refiners."""
    for entry in [*installed().of_kind("refiner"), *installed().of_kind("dataset")]:
        registry.entries.append(entry)
    session = api.Session.default()
    session.registry = registry
    for i in range(3):
        picture = torch.full((3, 32, 32), 40, dtype=torch.uint8)
        picture[0, 8:24, 8:24] = 220
        write_png(tmp_path / "data" / "images" / f"{i}.png", picture)
        write_png(tmp_path / "data" / "masks" / f"{i}.png", (picture[0] > 100).to(torch.uint8))
    plan = Plan.from_options(
        {"gen": "toy", "extractor": "native", "seg": "tiny", "eval": "count", "num_samples": 40, "device": "cpu"},
        ["gen.size=32", "seg.steps=25"],
        batch_size=8,
    )
    result = api.run_plan(plan, tmp_path / "run", session=session)
    return Setup(result.folder, tmp_path / "data", session)


@needs_colours
def test_predict_refines_by_itself_by_request_or_not(finished, tmp_path):
    def record(name, **options):
        api.predict(
            finished.run, finished.photos / "images", tmp_path / name, formats=("label",), device="cpu",
            session=finished.session, **options,
        )  # fmt: skip
        return json.loads((tmp_path / name / "predictions.json").read_text())["refined_by"]

    assert list(record("automatic")) == ["colours"]
    assert record("none", refine=()) == {}
    by_hand = record("asked", refine=chosen(["colours", "holes"], {"colours": {"rounds": 2}}, installed()))
    assert list(by_hand) == ["colours", "holes"]
    assert by_hand["colours"]["rounds"] == 2


def test_generated_pictures_are_scored_in_one_pass(finished):
    assert not list(finished.run.glob("report/predictions/*.refined.png"))


@needs_colours
def test_a_report_on_photographs_shows_them_with_and_without(finished):
    plan = Plan.from_record(RunFolder(finished.run).read_config(), finished.session.registry)
    plan = plan.model_copy(update={"data": finished.photos})
    result = api.run_plan(plan, finished.run, update=True, session=finished.session)
    assert len(list(finished.run.glob("report/predictions/*.refined.png"))) == 3
    metrics = result.report.metrics
    assert {f"one_pass_{name}" for name in metrics if not name.startswith("one_pass_")} <= set(metrics)
    assert any("refined by colours" in note for note in result.report.notes)
    page = result.page.read_text()
    assert "<small>segmenter</small>" in page
    assert "refined" in page


@needs_colours
def test_evaluate_says_what_refined(finished):
    def notes(**options):
        return api.evaluate(
            finished.run, finished.photos, evaluator="count", device="cpu", session=finished.session, **options
        ).notes

    assert "refined by colours" in notes()
    assert "one pass of the segmenter, not refined" in notes(refine=())
