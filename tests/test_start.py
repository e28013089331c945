"""The whole way from a folder, on drawn photographs and tiny trainings."""

from __future__ import annotations

import json
import re
import shlex
import threading
import time
from pathlib import Path

import pytest
import torch

from gsegkit import api
from gsegkit.api.session import Session
from gsegkit.errors import ArtifactError, ConfigError, DataError, InterruptedRunError
from gsegkit.images import read_image, write_png
from gsegkit.looking.look import Look, Spread
from gsegkit.plugins import installed
from gsegkit.progress import Progress
from gsegkit.starting.plan import command, generator_options, make_plan
from gsegkit.starting.wanted import Wanted, options_of
from gsegkit.testing import Listener

TINY = [
    "gen.resolution=16", "gen.channels=4", "gen.steps=30", "gen.batch_size=4", "extractor.k0=6", "extractor.num_images=16",
    "seg.steps=6", "seg.batch_size=4", "run.num_samples=24", "selftrain.num_photos=8",
    "selftrain.min_confidence=0", "selftrain.min_labelled=0",
]  # fmt: skip
SETTINGS = {"gen": "dcgan", "options": TINY, "fewest": 10, "device": "cpu"}


def draw(folder, count, size=(24, 24), seed=0):
    """A bright disc on a dark, noisy ground, somewhere near the middle."""
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(*(torch.linspace(-1, 1, side) for side in size), indexing="ij")
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        ground = torch.randint(10, 70, (3, *size), generator=generator)
        cx, cy, r = (torch.rand(3, generator=generator) - 0.5) * torch.tensor([0.6, 0.6, 0.2])
        inside = (x - cx).square() + (y - cy).square() < (0.5 + r) ** 2
        colour = torch.randint(150, 255, (3, 1, 1), generator=generator)
        write_png(folder / f"p{i:03d}.png", torch.where(inside, colour, ground).to(torch.uint8))
    return folder


def started(photos, out, **more):
    heard = Listener()
    session = Session(installed(), heard, threading.Event())
    return api.start(photos, out, **{"hours": 0.5, **SETTINGS, **more}, session=session), heard


@pytest.fixture
def quick(monkeypatch):
    """Two baselines only, and a guess in the place of the smoke run: what they do is tested elsewhere."""
    pytest.importorskip("gsegkit_dcgan")
    pytest.importorskip("gsegkit_klish")
    pytest.importorskip("gsegkit_baselines")
    from gsegkit.api import starting

    monkeypatch.setattr(starting, "_baselines", lambda session: {"otsu": False, "two-means": False})


def test_a_folder_becomes_a_segmenter_and_the_same_call_does_nothing_again(tmp_path, quick):
    photos = draw(tmp_path / "photos", 14)
    for name in ("p900.png", "p901.png"):
        (photos / name).write_bytes((photos / "p003.png").read_bytes())
    (photos / "broken.png").write_bytes(b"no image")
    made, heard = started(photos, tmp_path / "out")
    done = made.record.done
    assert {name: one.status for name, one in done.items()} == dict.fromkeys(
        ("otsu", "two-means", "generator", "run", "compare"), "done"
    )
    assert "On your photographs take" in done["compare"].note
    assert done["compare"].best in ("otsu", "two-means", "run")
    said = "\n".join(heard.infos)
    assert "1 group of near-duplicates" in said
    assert "p003.png = p900.png = p901.png" in said
    assert "1 file cannot be read" in said
    assert "14 photographs are fewer than any" in said
    assert "gsegkit train-generator dcgan" in said
    assert "--hours" in said
    assert "images per second" in said
    used = made.photographs
    assert used == tmp_path / "out" / "photographs"
    assert len(list(used.iterdir())) == 14
    assert made.segmenters[0].name == done["compare"].best
    assert {path.name for path in made.segmenters} == {"run", "otsu", "two-means"}
    assert (tmp_path / "out" / "compare" / "comparison.json").exists()
    for folder in made.segmenters:
        api.predict(folder, [str(photos / "p000.png")], tmp_path / "masks" / folder.name, device="cpu")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.safetensors")}
    again, heard = started(photos, tmp_path / "out")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.safetensors")} == before
    assert again.record.done == made.record.done
    assert "continuing" in heard.infos[0]
    assert sorted(path.name for path in photos.iterdir()) == sorted(
        [f"p{i:03d}.png" for i in range(14)] + ["p900.png", "p901.png", "broken.png"]
    )


def test_too_few_photographs_leave_out_the_generator(tmp_path, quick):
    made, heard = started(draw(tmp_path / "photos", 14), tmp_path / "out", fewest=15)
    assert [step.folder for step in made.record.plan.steps] == ["otsu", "two-means", "compare"]
    assert all(done.status == "done" for done in made.record.done.values())
    assert any("14 photographs are too few for a generator" in text for text in heard.infos)
    assert made.photographs == tmp_path / "photos", "nothing is left out, so nothing is copied"


def test_masks_beside_the_photographs_are_used_to_compare_also_where_duplicates_are_left_out(
    tmp_path, quick, monkeypatch
):
    from gsegkit.api import starting

    photos = tmp_path / "photos"
    draw(photos / "images", 12)
    (photos / "images" / "copy.png").write_bytes((photos / "images" / "p000.png").read_bytes())
    (photos / "masks").mkdir()
    for path in (photos / "images").iterdir():
        bright = read_image(path).float().mean(0) > 100
        write_png(photos / "masks" / path.name, bright.to(torch.uint8))
    monkeypatch.setattr(starting, "_baselines", lambda session: {"otsu": False})
    made, _ = started(photos, tmp_path / "out", fewest=100)
    assert made.photographs == tmp_path / "out" / "photographs"
    found = json.loads((tmp_path / "out" / "compare" / "comparison.json").read_text())
    assert found["annotated"]
    assert found["rows"][0]["foreground"] > 0.9


def test_a_step_that_fails_is_told_and_the_others_go_on(tmp_path, quick, monkeypatch):
    from gsegkit.api import starting

    def fails(*args, **kwargs):
        raise DataError("a disk fell down", "lift it")

    monkeypatch.setattr(starting, "train_generator", fails)
    monkeypatch.setattr(starting, "_measured", lambda *args: (1000.0, {}))
    photos = draw(tmp_path / "photos", 14)
    made, heard = started(photos, tmp_path / "out")
    assert made.record.done["generator"].note == "a disk fell down (lift it)"
    assert made.record.done["run"].status == "skipped"
    assert made.record.done["compare"].status == "done"
    assert "generator: failed: a disk fell down (lift it)" in heard.warnings


def test_a_stopped_start_keeps_everything_and_goes_on(tmp_path, quick, monkeypatch):
    from gsegkit.api import starting

    stop = threading.Event()
    monkeypatch.setattr(starting, "_measured", lambda *args: (1000.0, {}))

    class Stops(Progress):
        def advance(self, done, values):
            if "loss" in str(values):
                stop.set()

    photos, out = draw(tmp_path / "photos", 14), tmp_path / "out"
    session = Session(installed(), Stops(), stop)
    with pytest.raises(InterruptedRunError):
        api.start(photos, out, hours=0.5, **SETTINGS, session=session)
    kept = json.loads((out / "start.json").read_text())["done"]
    assert {name: one["status"] for name, one in kept.items()} == {
        "otsu": "done", "two-means": "done", "generator": "stopped"
    }  # fmt: skip
    assert (out / "generator" / "checkpoint.safetensors").exists()
    with pytest.raises(ConfigError, match="other options"):
        started(photos, out, seed=3)
    limits = []
    train = starting.train_generator
    monkeypatch.setattr(
        starting, "train_generator", lambda *a, hours, **k: limits.append(hours) or train(*a, hours=hours, **k)
    )
    for verb in ("run_plan", "compare"):
        monkeypatch.setattr(starting, verb, lambda *args, **kwargs: None)
    made, heard = started(photos, out)
    assert made.record.done["generator"].status == "done"
    assert made.record.done["generator"].seconds > 0
    assert "otsu" not in "".join(text for text in heard.infos if text.startswith("step")), "done before"
    assert any("resumed after step" in text for text in heard.infos)
    planned = {step.folder: step.seconds for step in made.record.plan.steps}["generator"] / 3600
    assert limits == [pytest.approx(planned, rel=0.1)], "the time before the stop counts"
    assert (out / "generator" / "state.safetensors").exists()


def test_a_run_whose_time_is_over_is_stopped_and_continued_by_the_same_call(tmp_path, quick, monkeypatch):
    from gsegkit.api import starting

    ended = threading.Event()

    def slow(plan, folder, *, session, **more):
        while not session.stop.is_set() and not ended.is_set():
            time.sleep(0.01)
        if not ended.is_set():
            raise InterruptedRunError("stopped")

    monkeypatch.setattr(starting, "_measured", lambda *args: (1000.0, {}))
    monkeypatch.setattr(starting, "train_generator", lambda *args, **kwargs: None)
    monkeypatch.setattr(starting, "fit", lambda *args, **kwargs: None)
    monkeypatch.setattr(starting, "run_plan", slow)
    photos, out = draw(tmp_path / "photos", 14), tmp_path / "out"
    made, _ = started(photos, out, hours=0.0005)
    assert made.record.done["run"].status == "stopped"
    assert made.record.spent < 60
    ended.set()
    made, _heard = started(photos, out, hours=0.0005)
    assert made.record.done["run"].status == "done"


def test_a_run_that_cannot_self_train_goes_on_without(tmp_path, quick, monkeypatch):
    from gsegkit.api import starting

    seen = []

    def unsure(plan, folder, **more):
        seen.append(plan.photos)
        if plan.photos is not None:
            raise DataError("the segmenter is sure of no photograph")

    monkeypatch.setattr(starting, "_measured", lambda *args: (1000.0, {}))
    for verb in ("train_generator", "fit", "compare"):
        monkeypatch.setattr(starting, verb, lambda *args, **kwargs: None)
    monkeypatch.setattr(starting, "run_plan", unsure)
    photos = draw(tmp_path / "photos", 14)
    made, heard = started(photos, tmp_path / "out")
    assert seen == [photos, None]
    assert made.record.done["run"].status == "done"
    assert "run: the segmenter is sure of no photograph; it goes on without self-training" in heard.warnings


@pytest.mark.parametrize(
    "damage",
    [
        lambda record: record["plan"]["steps"][0].update(folder="../outside"),
        lambda record: record["plan"]["steps"][0].update(folder="/tmp/outside"),
        lambda record: record["plan"]["steps"][0].update(verb="rm"),
        lambda record: record.pop("found"),
        lambda record: record.update(done=[]),
    ],
)
def test_a_record_that_was_changed_is_refused(tmp_path, quick, monkeypatch, damage):
    from gsegkit.api import starting

    for verb in ("fit", "compare"):
        monkeypatch.setattr(starting, verb, lambda *args, **kwargs: None)
    photos, out = draw(tmp_path / "photos", 12), tmp_path / "out"
    started(photos, out, fewest=100)
    record = json.loads((out / "start.json").read_text())
    damage(record)
    (out / "start.json").write_text(json.dumps(record))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ArtifactError, match="is not the record it should be"):
        started(photos, out, fewest=100)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("hours", ["0", "-1", "1e9", "nan"])
def test_hours_that_are_no_time(tmp_path, call, hours):
    pytest.importorskip("gsegkit_stylegan")
    code, _, err = call("start", draw(tmp_path / "photos", 3), "--hours", hours, "--out", tmp_path / "out")
    assert code == 2
    assert "is not a time" in err
    assert not (tmp_path / "out").exists()


def _empty(folder):
    folder.mkdir()


def _file(folder):
    folder.write_bytes(b"x")


def _half_broken(folder):
    draw(folder, 6)
    for i in range(6):
        (folder / f"broken{i}.jpg").write_bytes(b"\xff\xd8 no image")


def _equal(folder):
    draw(folder, 1)
    for i in range(5):
        (folder / f"copy{i}.png").write_bytes((folder / "p000.png").read_bytes())


def _plain(folder):
    folder.mkdir()
    for i in range(6):
        write_png(folder / f"p{i}.png", torch.full((3, 16, 16), 40 * i, dtype=torch.uint8))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_empty, "contains no image"),
        (_file, "is a file, not a folder"),
        (_half_broken, "6 of 12 photographs cannot be read"),
        (_equal, "all 6 photographs in .* are nearly the same"),
        (lambda folder: draw(folder, 1), "holds one photograph"),
        (lambda folder: None, "does not exist"),
        (_plain, "every photograph in .* is of one colour"),
    ],
)
def test_folders_that_are_refused(tmp_path, call, make, words):
    pytest.importorskip("gsegkit_stylegan")
    make(tmp_path / "photos")
    for more in (["--look"], ["--out", tmp_path / "out"]):
        code, _, err = call("start", tmp_path / "photos", *more)
        assert code == 2
        assert "try:" in err
        assert re.search(words, err), err
    assert not (tmp_path / "out" / "start.json").exists()


def test_outputs_stay_outside_the_photographs_and_other_folders_are_not_touched(tmp_path, quick):
    photos = draw(tmp_path / "photos", 12)
    with pytest.raises(DataError, match="lies in"):
        started(photos, photos / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("x")
    with pytest.raises(DataError, match="not empty"):
        started(photos, tmp_path / "full")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine.txt"]
    with pytest.raises(ConfigError, match="does not belong here"):
        started(photos, tmp_path / "out", options=["nothing.steps=3"])


# ---- the plan alone ------------------------------------------------------------------------------------------------


def plan_of(hours=2.0, count=2000, speed=30.0, stages=None, options=(), gpu=False, **more):
    spread = Spread(least=64, median=64, most=64)
    found = Look(
        photographs=count, looked_at=count, unreadable=(), duplicates=(), width=spread, height=spread, ratio=spread,
        grey=0, plain=0, alignment=0.3, contrast=2.0, asymmetry=0.0, seconds=1.0,
    )  # fmt: skip
    wanted = Wanted(hours=hours, options=options_of(options), **more)
    training = generator_options(wanted, found, installed(), gpu)
    stages = {"extractor": 30.0, "dataset": 150.0, "segmenter": 1200.0, "selftrain-1": 200.0, "segmenter-1": 900.0} if (
        stages is None
    ) else stages  # fmt: skip
    baselines = {"otsu": False, "colour-kmeans": True}
    return make_plan(wanted, found, installed(), baselines, training, speed, stages, 60.0), wanted


@pytest.mark.parametrize("hours", [0.1, 0.5, 2.0, 12.0])
def test_the_steps_together_take_the_time(hours):
    pytest.importorskip("gsegkit_stylegan")
    plan, wanted = plan_of(hours)
    assert sum(step.seconds for step in plan.steps) <= max(wanted.seconds - 60, 0.7 * wanted.seconds)
    by_name = {step.folder: step for step in plan.steps}
    assert by_name["generator"].seconds > 0.3 * wanted.seconds
    assert plan.images_shown == pytest.approx(min(1e6, 30 * by_name["generator"].seconds), abs=1)


def test_a_short_run_is_made_smaller_and_the_users_options_stay():
    pytest.importorskip("gsegkit_stylegan")
    short = dict(text.split("=") for text in {s.folder: s for s in plan_of(0.3)[0].steps}["run"].options)
    assert 128 <= int(short["run.num_samples"]) < 2000 and 40 <= int(short["seg.steps"]) < 800  # noqa: PT018
    own = {s.folder: s for s in plan_of(0.3, options=["seg.steps=7", "gen.kimg=3"])[0].steps}
    assert "seg.steps=7" in own["run"].options and "gen.kimg=3" in own["generator"].options  # noqa: PT018
    assert sum(text.startswith("seg.steps") for text in own["run"].options) == 1
    assert own["generator"].seconds == pytest.approx(1.05 * 3000 / 30), "no longer than its images take"
    assert {s.folder: s for s in plan_of(12.0)[0].steps}["run"].options == ()


def test_what_is_said_about_numbers():
    pytest.importorskip("gsegkit_stylegan")
    few = plan_of(count=499, speed=None)[0]
    assert [step.folder for step in few.steps] == ["otsu", "colour-kmeans", "compare"]
    assert "499 photographs are too few" in few.sentences[0]
    assert "fewer than any of our generators had" in plan_of(count=1200)[0].sentences[0]
    slow = plan_of(0.3, speed=5.0)[0]
    assert "expect nothing of the run" in slow.sentences[1]
    assert "For 190,000, give --hours" in slow.sentences[1]
    assert "as good as ours" in plan_of(24.0, speed=60.0)[0].sentences[1]
    gpu = {s.folder: s for s in plan_of(gpu=True, speed=1000.0)[0].steps}["generator"]
    assert "gen.resolution=128" in gpu.options
    cpu = {s.folder: s for s in plan_of()[0].steps}["generator"]
    assert "gen.resolution=64" in cpu.options
    assert "gen.mirror=x" in cpu.options


def test_every_command_is_one_that_the_command_line_takes(monkeypatch):
    pytest.importorskip("gsegkit_stylegan")
    import click
    import typer

    from gsegkit.cli.main import app

    plan, wanted = plan_of(0.3, options=["extractor.k0=20"])
    for step in plan.steps:
        words = shlex.split(command(step, wanted, Path("my photos"), Path("out"), step.seconds))
        verb = typer.main.get_command(app).commands[words[1]]
        try:
            verb.make_context(words[1], words[2:])
        except click.UsageError as error:  # pragma: no cover
            pytest.fail(f"{words}: {error}")
