"""gsegkit compare, on a handful of drawn photographs."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import gsegkit
from gsegkit.api import Session
from gsegkit.comparing import compare as comparing
from gsegkit.comparing import scores, validated
from gsegkit.comparing.budget import Cost, Deadline, fitting, line, seconds_of
from gsegkit.comparing.material import Material
from gsegkit.comparing.measure import Kept, Outcome
from gsegkit.comparing.methods import LeftOut, Method, family
from gsegkit.comparing.verdict import parts_sentence, sentence, taken
from gsegkit.errors import ConfigError, DataError, GsegkitError, InterruptedRunError
from gsegkit.images import write_png
from gsegkit.plugins import Component, Registry, installed
from gsegkit.progress import Progress

for needed in ("gsegkit_baselines", "gsegkit_datasets"):
    pytest.importorskip(needed)

METHODS = ("otsu", "two-means")


def disc(radius: float, at: tuple[float, float] = (16, 18), size: tuple[int, int] = (32, 36)) -> Tensor:
    rows, columns = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij")
    return (rows - at[0]) ** 2 + (columns - at[1]) ** 2 <= radius**2


def drawn(folder: Path, count: int = 8, masks: bool = True, parts: bool = False) -> Path:
    """Dark red discs on light grey, an inner disc of another colour where there are parts."""
    noise = torch.Generator().manual_seed(3)
    for i in range(count):
        outer, inner = disc(8 + i % 3, (14 + i % 4, 18)), disc(3, (14 + i % 4, 18))
        pixels = torch.where(outer, torch.tensor([120, 20, 30])[:, None, None], torch.tensor(200))
        if parts:
            pixels = torch.where(inner, torch.tensor([20, 20, 110])[:, None, None], pixels)
        pixels = (pixels + torch.randint(0, 12, pixels.shape, generator=noise)).to(torch.uint8)
        write_png(folder / "images" / f"{i}.png", pixels)
        if masks:
            write_png(folder / "masks" / f"{i}.png", outer.to(torch.uint8) + (inner & outer).to(torch.uint8) * parts)
    return folder


class Again(BaseException):
    """Raised where something is measured again; no method's fault."""


class Said(Progress):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def message(self, text: str, level: str = "info") -> None:
        self.said.append(text)


def session(progress: Progress | None = None) -> Session:
    return Session(installed(), progress or Progress(), threading.Event())


# ---- from beginning to end -----------------------------------------------------------------------------------------


def test_with_masks_methods_are_scored_and_shown(tmp_path):
    found = gsegkit.compare(drawn(tmp_path / "in"), tmp_path / "out", methods=METHODS, labelled=2)
    assert {row.method for row in found.rows} == set(METHODS)
    assert {row.step for row in found.rows} >= {"alone"}
    assert all(row.foreground > 0.9 and row.below_half == 0 and row.labels == "none" for row in found.rows)
    assert found.sentence.startswith(f"On your photographs take {found.rows[0].name} (foreground IoU ")
    assert "no run of gsegkit was given" in found.sentence
    stored = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert (stored["photographs"], stored["labelled"], stored["annotated"]) == (8, 2, True)
    assert [row["name"] for row in stored["rows"]] == [row.name for row in found.rows]
    page = found.page.read_text()
    assert "default-src 'none'" in page
    assert "<script" not in page
    assert page.count('aria-label="mask given for') == 6  # two gave labels, and are not scored


def test_a_kept_baseline_predicts(tmp_path):
    data = drawn(tmp_path / "in", masks=False)
    gsegkit.compare(data, tmp_path / "out", methods=["two-means", "otsu"])
    gsegkit.predict(tmp_path / "out" / "methods" / "two-means", data / "images" / "1.png", tmp_path / "masks")
    assert list((tmp_path / "masks").rglob("*.png"))


def test_a_folder_of_fit_is_no_run_of_ours(tmp_path):
    data = drawn(tmp_path / "in", parts=True)
    gsegkit.fit("colour-kmeans", data, tmp_path / "fitted", labels=2, options={"k": 4})
    found = gsegkit.compare(data, tmp_path / "out", methods=["otsu"], runs=[tmp_path / "fitted"], labelled=2)
    run = next(row for row in found.rows if row.method == "run fitted" and row.step == "alone")
    assert not run.ours
    assert run.labels_used == 2
    assert run.miou > 0.5


def test_a_variant_is_no_second_witness():
    assert family("grabcut-kmeans", installed()) == "grabcut"
    assert family("colour-kmeans", installed()) == "colour-kmeans"


def test_without_masks_criteria_sort(tmp_path):
    found = gsegkit.compare(drawn(tmp_path / "in", masks=False), tmp_path / "out", methods=METHODS)
    assert not found.annotated
    assert all(row.foreground is None for row in found.rows)
    assert set(found.rows[0].criteria) == set(validated.CRITERIA)
    values = [row.criteria[validated.SORTED_BY] for row in found.rows]
    assert values == sorted(values, reverse=True)
    assert f"{validated.CRITERIA[validated.SORTED_BY].baselines:.2f} over {validated.SETS} sets" in found.sentence
    assert any("fewer than three kinds" in note for note in found.notes)
    assert f"{validated.CRITERIA['edges'].correlation:.2f}" in found.page.read_text()


def test_names_of_photographs_are_escaped(tmp_path):
    folder = drawn(tmp_path / "in", masks=False)
    (folder / "images" / "0.png").rename(folder / "images" / "<img src=x onerror=1>&.png")
    page = gsegkit.compare(folder, tmp_path / "out", methods=METHODS).page.read_text()
    assert "<img src=x" not in page
    assert "&lt;img src=x onerror=1&gt;&amp;" in page


def test_what_is_finished_is_not_done_again(tmp_path, monkeypatch):
    data = drawn(tmp_path / "in")
    first = gsegkit.compare(data, tmp_path / "out", methods=METHODS)

    def never(*args, **kwargs):
        raise Again

    monkeypatch.setattr(comparing, "measured", never)
    again = gsegkit.compare(data, tmp_path / "out", methods=METHODS)
    assert [row.to_json() for row in again.rows] == [row.to_json() for row in first.rows]
    with pytest.raises(ConfigError, match="of other photographs, or of other labels"):
        gsegkit.compare(data, tmp_path / "out", methods=METHODS, labelled=1)
    with pytest.raises(Again):  # other labels: made again when that is wanted
        gsegkit.compare(data, tmp_path / "out", methods=METHODS, labelled=1, update=True)


def test_a_damaged_answer_is_made_again(tmp_path):
    data = drawn(tmp_path / "in")
    first = gsegkit.compare(data, tmp_path / "out", methods=METHODS)
    labels = tmp_path / "out" / "methods" / "otsu" / "labels.safetensors"
    labels.write_bytes(labels.read_bytes()[:-20])
    again = gsegkit.compare(data, tmp_path / "out", methods=METHODS)
    assert {row.name: row.foreground for row in again.rows} == {row.name: row.foreground for row in first.rows}


def test_a_stop_keeps_what_is_done(tmp_path):
    data = drawn(tmp_path / "in")
    stopped = session()

    class Stopper(Progress):
        def message(self, text, level="info"):
            if text.startswith("2 of 2"):
                stopped.stop.set()

    stopped.progress = Stopper()
    with pytest.raises(InterruptedRunError):
        gsegkit.compare(data, tmp_path / "out", methods=METHODS, session=stopped)
    assert len(list((tmp_path / "out" / "methods").glob("*/outcome.json"))) == 1
    said = Said()
    found = gsegkit.compare(data, tmp_path / "out", methods=METHODS, session=session(said))
    assert len({row.method for row in found.rows}) == 2
    assert sum(text.startswith("already done: ") for text in said.said) == 1
    assert any(text.startswith("1 of 1: ") for text in said.said)


def test_what_does_not_end_in_time_is_left_out(tmp_path, monkeypatch):
    real, begun = comparing.measured, []

    def slow(method, material, registry, ctx, key):
        begun.append(method.name)
        if len(begun) == 2:
            ctx.stop.until = time.monotonic()  # the time is over
        return real(method, material, registry, ctx, key)

    monkeypatch.setattr(comparing, "measured", slow)
    found = gsegkit.compare(drawn(tmp_path / "in"), tmp_path / "out", methods=METHODS)
    first, second = begun  # the quicker one first: that differs from machine to machine
    assert {row.method for row in found.rows} == {first}
    assert found.left_out == (LeftOut(second, "the budget was over before it ended; the same command continues"),)
    assert f"left out: {second}" in found.page.read_text()


def test_a_method_that_fails_is_left_out(tmp_path):
    class Broken:
        def gsegkit_components(self):
            return [Component("segmenter", "broken", f"{__name__}:broken", "gsegkit_baselines.config:OtsuConfig")]

    registry = Registry(entries=list(installed().entries))
    registry.add(Broken(), "broken-dist")
    import sys

    otsu = installed().find("segmenter", "otsu").target_class()
    sys.modules[__name__].broken = type("Broken", (otsu,), {"foreground": lambda self, pixels: 1 / 0 * pixels})  # type: ignore[attr-defined]
    found = gsegkit.compare(
        drawn(tmp_path / "in"),
        tmp_path / "out",
        methods=["otsu", "broken"],
        session=replace(session(), registry=registry),
    )
    assert [one.name for one in found.left_out] == ["broken"]
    assert "ZeroDivisionError" in found.left_out[0].why


def test_the_correlations_are_those_that_were_measured():
    root = Path(__file__).parents[1]
    measured = json.loads((root / validated.RESULT).read_text())["values"]
    assert len(measured["sets"]) == validated.SETS
    for name, criterion in validated.CRITERIA.items():
        with_runs, without = measured["all"]["single"][name], measured["baselines"]["single"][name]
        assert (criterion.correlation, criterion.least) == (round(with_runs["mean"], 2), round(with_runs["least"], 2))
        assert criterion.baselines == round(without["mean"], 2)
    best = max(validated.CRITERIA, key=lambda name: validated.CRITERIA[name].correlation)
    assert best == validated.SORTED_BY


# ---- bad input -----------------------------------------------------------------------------------------------------


def test_bad_folders(tmp_path):
    (tmp_path / "empty").mkdir()
    half = drawn(tmp_path / "half")
    (half / "masks" / "3.png").unlink()
    damaged = drawn(tmp_path / "damaged", masks=False)
    (damaged / "images" / "2.png").write_bytes(b"no picture")
    for folder, words in (
        (tmp_path / "empty", "holds no image|no image"),
        (drawn(tmp_path / "one", count=1), "1 photograph, too few"),
        (half, "1 of 8 images have no mask"),
        (damaged, "1 of 8 photographs cannot be used"),
        (tmp_path / "nowhere", "does not exist|is not a folder"),
    ):
        with pytest.raises(DataError, match=words) as caught:
            gsegkit.compare(folder, tmp_path / "out", methods=METHODS)
        assert caught.value.hint
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"methods": ["otsu", "ot-su"]}, "no segmenter 'ot-su'"),
        ({"methods": ["unet"]}, "learns from pairs|no segmenter 'unet'"),
        ({"methods": ["otsu", "otsu"]}, "given twice"),
        ({"methods": []}, "no method could be compared"),
        ({"budget": "soon"}, "'soon' is not a budget"),
        ({"budget": "0.001s"}, "the budget is too small"),
        ({"labelled": -1}, "labelled=-1"),
        ({"runs": ["unfinished"]}, "holds no trained segmenter"),
        ({"runs": ["missing"]}, "does not exist"),
    ],
)
def test_bad_arguments(tmp_path, changes, words):
    (tmp_path / "unfinished").mkdir()
    if "runs" in changes:
        changes = {"runs": [tmp_path / name for name in changes["runs"]]}
    with pytest.raises(GsegkitError, match=words) as caught:
        gsegkit.compare(drawn(tmp_path / "in"), tmp_path / "out", **{"methods": METHODS, **changes})
    assert caught.value.exit_code == 2
    assert caught.value.hint


def test_nothing_of_others_is_overwritten(tmp_path):
    data = drawn(tmp_path / "in")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "index.html").write_text("mine")
    with pytest.raises(DataError, match="not empty"):
        gsegkit.compare(data, tmp_path / "mine", methods=METHODS)
    gsegkit.fit("otsu", data, tmp_path / "fitted")
    with pytest.raises(DataError, match="not a comparison"):
        gsegkit.compare(data, tmp_path / "fitted", methods=METHODS)
    with pytest.raises(DataError, match="lies in"):
        gsegkit.compare(data, data / "out", methods=METHODS)
    assert (tmp_path / "mine" / "index.html").read_text() == "mine"


def test_a_folder_of_a_comparison_that_got_nowhere_is_free(tmp_path):
    with pytest.raises(ConfigError, match="the budget is too small"):
        gsegkit.compare(drawn(tmp_path / "in"), tmp_path / "out", methods=METHODS, budget="0.001s")
    assert gsegkit.compare(drawn(tmp_path / "in 2", count=6), tmp_path / "out", methods=METHODS).rows


def test_on_the_command_line(tmp_path, call):
    data = drawn(tmp_path / "in")
    code, out, err = call("compare", "--data", data, "--out", tmp_path / "out", "--methods", "otsu,two-means", "--json")
    assert code == 0, err
    assert json.loads(out)["rows"][0]["foreground"] > 0.9
    code, _, err = call("compare", "--data", data, "--out", tmp_path / "out", "--methods", "otsu,two-means")
    assert "take " in err
    assert f"page: {tmp_path / 'out' / 'index.html'}" in err
    code, _, err = call("compare", "--data", data, "--out", tmp_path / "other", "--methods", "otsu,,two-means")
    assert code == 2
    assert "empty name" in err


# ---- budget --------------------------------------------------------------------------------------------------------


def test_budgets():
    assert [seconds_of(text) for text in ("90s", "10m", "1.5h")] == [90, 600, 5400]
    for text in ("", "10", "m", "-1m", "1d", "0s", "1e3s", "10 m", "999999h"):
        with pytest.raises(ConfigError):
            seconds_of(text)


def test_fewer_photographs_come_before_fewer_methods():
    costs = {"slow": Cost(10.0, 1.0), "quick": Cost(0.0, 0.01)}
    assert fitting(costs, 80, 1000) == (80, ["quick", "slow"])
    assert fitting(costs, 80, 55) == (40, ["quick", "slow"])
    assert fitting(costs, 80, 5) == (12, ["quick"])
    assert fitting(costs, 80, 55, most=80) == (80, ["quick"])  # answers are kept of all 80
    with pytest.raises(ConfigError, match=r"budget is too small.*quick, the quickest"):
        fitting(costs, 80, 0.05)
    assert line((4, 3.0), (8, 5.0)) == Cost(1.0, 0.5)
    assert line((4, 3.0), (8, 2.0)) == Cost(2.0, 0.0)


def test_a_deadline_is_a_stop():
    stop = threading.Event()
    assert not Deadline(stop, 60).is_set()
    assert Deadline(stop, 0).is_set()
    waiting = Deadline(stop, 60)
    stop.set()
    assert waiting.is_set()


# ---- scores --------------------------------------------------------------------------------------------------------


def outcome(name: str, classes: tuple[str, ...], labels: list[Tensor], learns_from: str = "nothing") -> Outcome:
    kept = Kept(
        key="k", classes=classes, fit_seconds=0.5, seconds={"alone": 0.1}, stability={"alone": 0.9},
        labels_consumed="none", labels_used=0,
    )  # fmt: skip
    return Outcome(Method(name, name, learns_from, None, None), kept, {"alone": [x.to(torch.uint8) for x in labels]})


def annotated() -> Material:
    """Four photographs with two parts; the labels of the first two may be used."""
    masks = tuple((disc(9, (14 + i, 18)).long() + disc(4, (14 + i, 18)).long()).to(torch.uint8) for i in range(4))
    pixels = tuple((mask[None] * 100).expand(3, -1, -1).contiguous() for mask in masks)
    return Material(("a", "b", "c", "d"), pixels, masks, ("background", "cell", "nucleus"), (0, 1))


def test_clusters_are_matched_on_labels_that_are_not_scored():
    material = annotated()
    clusters = [torch.tensor([1, 2, 0])[mask.long()] for mask in material.masks]
    clusters[0] = torch.tensor([1, 2, 2])[material.masks[0].long()]  # a fault where it is not scored
    rows = scores.rows_of([
        outcome("clusters", ("cluster-3", "cluster-5", "cluster-8"), clusters),
        outcome("plain", ("background", "foreground"), [mask > 0 for mask in material.masks]),
    ], material)  # fmt: skip
    by_name = {row.name: row for row in rows}
    assert by_name["clusters"].foreground == by_name["plain"].foreground == 1.0
    assert by_name["clusters"].miou == 1.0
    assert by_name["clusters"].per_class == {"background": 1.0, "cell": 1.0, "nucleus": 1.0}
    assert by_name["clusters"].labels == "2 to match parts"
    assert by_name["plain"].miou is None
    assert by_name["plain"].labels == "none"


def test_a_photograph_whose_label_a_run_used_is_not_scored():
    material = annotated()
    right = [mask > 0 for mask in material.masks]
    wrong_on_c = [~one if i == 2 else one for i, one in enumerate(right)]
    used = outcome("run x", ("background", "foreground"), right, "pairs")
    used = replace(used, method=replace(used.method, labels_used=("c",)))
    rows = scores.rows_of([used, outcome("plain", ("background", "foreground"), wrong_on_c)], material)
    assert {row.name: row.foreground for row in rows} == {"run x": 1.0, "plain": 1.0}
    every = replace(used, method=replace(used.method, labels_used=material.names))
    with pytest.raises(DataError, match="none is left to score"):
        scores.rows_of([every], material)


def test_below_half_and_ignored_pixels():
    material = annotated()
    masks = tuple(torch.where(torch.arange(36) < 10, 255, mask).to(torch.uint8) for mask in material.masks)
    material = replace(material, masks=masks)
    answer = [(mask > 0) | (torch.arange(36) < 10) for mask in annotated().masks]
    answer[3] = torch.zeros_like(answer[3])
    (row,) = scores.rows_of([outcome("plain", ("background", "foreground"), answer)], material)
    assert row.foreground == 0.5
    assert row.below_half == 0.5


def test_sentences():
    row = scores.Row("otsu", "otsu", "alone", False, "none", 0, 0.1, 0.0, foreground=0.8)
    few = replace(row, name="few-labels", labels="20 photographs", labels_used=20, foreground=0.9, miou=0.7)
    run = replace(
        row, name="run leaf", ours=True, labels="20 to match parts", labels_used=20, foreground=0.95, miou=0.71
    )
    assert sentence([run, few, row]) == (
        "On your photographs take few-labels (foreground IoU 0.900, labels: 20 photographs), or without labels otsu "
        "(foreground IoU 0.800); gsegkit's run leaf adds 0.050 (foreground IoU 0.950)."
    )
    assert sentence([row, replace(run, foreground=0.803)]).endswith("run leaf adds nothing (foreground IoU 0.803).")
    assert parts_sentence([run, few, row]) == (
        "For parts take few-labels (mIoU 0.700, labels: 20 photographs); gsegkit's run leaf adds 0.010 (mIoU 0.710, "
        "labels: 20 to match parts)."
    )
    assert parts_sentence([row]) == ""
    assert taken([run, few, row]) is run
    near = replace(row, foreground=0.897, seconds=5.0)
    assert taken([few, near, replace(near, seconds=9.0)]) is near  # as good, and no labels
