"""The report and the naming page in a real browser: they fit, nothing jumps, keyboards and screen readers can use them.

Screenshots of everything go to the folder in GSEGKIT_SCREENSHOTS, else to a temporary one.
"""

import os
import shutil
from pathlib import Path

import pytest
import torch

from gsegkit.builtin.config import ToyConfig
from gsegkit.builtin.toy import Toy
from gsegkit.classes.class_map import parse_class_map, read_class_map
from gsegkit.classes.colours import class_colours, cluster_colours, run_palette
from gsegkit.classes.in_parts import parts_to_name
from gsegkit.classes.page import look, render_page
from gsegkit.clustering.config import ClusterConfig
from gsegkit.clustering.extractor import ClusterExtractor, Clustering, Partition
from gsegkit.comparing.material import Material
from gsegkit.comparing.methods import LeftOut
from gsegkit.comparing.page import write_page
from gsegkit.comparing.scores import Row
from gsegkit.comparing.validated import CRITERIA
from gsegkit.context import RunContext
from gsegkit.engine.next_steps import found_record
from gsegkit.engine.shards import Manifest, write_shard
from gsegkit.exports.predictions import write_predictions
from gsegkit.images import to_pixels
from gsegkit.report import render_report
from gsegkit.rundir import RunFolder
from gsegkit.storage import atomic_write_json
from gsegkit.testing.browsing import CHROMIUM, chromium, serious_findings
from gsegkit.types import LabelledBatch

playwright = pytest.importorskip("playwright.sync_api")
pytest.importorskip("axe_playwright_python.sync_playwright")

WIDTHS = {360: 740, 768: 1024, 1280: 800, 1920: 1080}
PAGES = ("report", "naming", "compare")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium; .ci/run installs Debian's")


class Tree(ClusterExtractor):
    """Sixteen fixed clusters, of which two are merged at a time."""

    def cluster(self, points, ctx):
        weight = torch.randn(16, points.x.shape[1], generator=torch.Generator().manual_seed(3))
        bias = -points.x.mean(0) @ weight.T
        leaf = (points.x @ weight.T + bias).argmax(1)
        groups = {i: (i,) for i in range(16)}
        levels = {}
        while len(groups) > 1:
            owner = [next(place for place, group in enumerate(groups.values()) if i in group) for i in range(16)]
            levels[len(groups)] = Partition(tuple(groups), tuple(group[0] for group in groups.values()), tuple(owner))
            first, second = list(groups)[-2:] if len(groups) % 2 else list(groups)[:2]
            groups[30 + len(groups)] = groups.pop(first) + groups.pop(second)
        return Clustering(leaf=leaf, levels=levels, weight=weight, bias=bias)


@pytest.fixture(scope="module")
def toy():
    return Toy(ToyConfig(size=64)).eval()


@pytest.fixture(scope="module")
def extractor(toy, tmp_path_factory):
    part = Tree(ClusterConfig(num_images=6, pixels_per_image=80, k=12))
    part.fit(toy, RunContext(tmp_path_factory.mktemp("fit"), seed=1))
    return part.eval()


@pytest.fixture(scope="module")
def folder(toy, extractor, tmp_path_factory):
    """A folder that holds `report`, a run with everything that can be wide, and `naming`, its page."""
    where = tmp_path_factory.mktemp("a folder whose name is long and has spaces")
    made = toy.sample(torch.arange(12))
    pixels, truth = to_pixels(made.images), made.probs.argmax(1).to(torch.uint8)
    classes = ("background", "body", "spot", "rim")
    run = RunFolder(where / "run")
    run.write_config(
        {
            "gen": {"name": "toy", "options": {"size": 64}},
            "extractor": {"name": "native", "options": {}},
            "seg": {"name": "unet", "options": {"a_rather_long_option_name": list(range(40)), "steps": 300}},
            "eval": {"name": "masks", "options": {}},
            "data": "/somewhere/with/a/long/path/that/has/no/space/in/it/and/goes/on/and/on/for/ever",
        }
    )
    run.write_status(
        "done", device="cpu", seconds=75.2, command="gsegkit run " + "-o seg.steps=300 " * 12, torch="2.15.0",
        warnings=["a warning about /a/path/without/a/single/space/" + "deeper/" * 30],
        licences=[["weights toy", "Apache-2.0"]], found=found_record(classes, False, "samples"),
        learned={"miou": 0.8, "pairs": 64, "parts": 4, "constant_miou": 0.2, "learned": True, "never_predicted": []},
    )  # fmt: skip
    batch = LabelledBatch(
        seeds=torch.arange(12), pixels=pixels, masks=truth, probs=made.probs, scores={"contrast": torch.rand(12)}
    )
    Manifest(classes=classes, num_shards=1, shard_size=12, height=64, width=64, fit_rule="native").write(
        run.path / "dataset"
    )
    write_shard(run.path / "dataset", 0, batch, {"candidates": 12, "non-finite": 0, "kept": 12})
    run.end_stage(run.path / "dataset", "k", 3.2, {"pairs": 12})
    (run.path / "segmenter").mkdir()
    rows = "".join(f'{{"step": {step}, "loss": {9 / step}}}\n' for step in range(1, 80))
    (run.path / "segmenter" / "metrics.jsonl").write_text(rows)
    run.end_stage(run.path / "segmenter", "k", 65.0, {"best_step": 290})
    names = ["IMG_20260717_a_long_name_without_a_space_0123456789", *(f"photo {i}" for i in range(11))]
    masks = [mask.roll(i, 1) for i, mask in enumerate(truth)]
    write_predictions(run.path / "report" / "predictions", names, list(pixels), masks, list(truth))
    numbers = {"iou": 0.9, "iou_per_image": 0.9, "precision": 0.95, "recall": 0.9, "share": 0.25}
    metrics = {
        "iou_foreground": 0.81, "miou": 0.78, "accuracy": 0.9, "precision": 0.9, "recall": 0.9, "f1": 0.9, "num_images": 12,
        "per_class": dict.fromkeys(classes, numbers), "baseline_centre_prior_iou": 0.4, "baseline_otsu_iou": 0.3,
        "per_image": {name: {"iou_foreground": 0.95 - i / 20, "accuracy": 0.9} for i, name in enumerate(names)},
        "definitions": {name: "a sentence about what this number is, long enough to be wrapped" for name in ("miou", "f1")},
        "notes": ["classes were matched by name"],
    }  # fmt: skip
    atomic_write_json(run.path / "report" / "metrics.json", metrics)
    run.end_stage(run.path / "report", "k", 1.0)
    shutil.copy(render_report(run.path), where / "report.html")
    shown = look(toy, extractor, RunContext(where / "look", seed=5, batch_size=4), num_images=12, max_clusters=30)
    page = render_page(shown, str(run.path), parts_to_name(extractor), automatic=True)
    (where / "naming.html").write_text(page, encoding="utf-8")
    _comparison(where / "comparison", names, pixels, truth).replace(where / "compare.html")
    return where


def _comparison(where, names, pixels, masks):
    """The page of `gsegkit compare` with more methods than a window is wide."""
    where.mkdir()
    classes = ("background", "body", "spot", "rim")
    material = Material(tuple(names), tuple(pixels), tuple(masks), classes, (0, 1))
    rows = [
        Row(f"method with a long name {i}", f"method {i}", "alone", i == 1, "20 to match parts", 20, 0.1, 1.0, 0.9 - i / 20,
            0.1, 0.5, criteria=dict.fromkeys(CRITERIA, 0.5), places=[mask.roll(i, 1) for mask in masks])
        for i in range(14)
    ]  # fmt: skip
    left_out = [LeftOut("slow", "a reason with /a/path/without/a/single/space/" + "deeper/" * 20)]
    return write_page(where, material, rows, left_out, ["On your photographs take otsu."], ["a note"])


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile")) as context:
        yield context


@pytest.fixture(scope="module")
def screenshots(tmp_path_factory):
    given = os.environ.get("GSEGKIT_SCREENSHOTS")
    where = Path(given) if given else tmp_path_factory.mktemp("screenshots")
    where.mkdir(parents=True, exist_ok=True)
    return where


@pytest.fixture
def show(browser, folder):
    """Open a page at a width; what the browser complains of fails the test."""
    opened = []

    def visit(name, width=1280, scheme="light"):
        page = browser.new_page()
        complaints = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("request", lambda request: complaints.append(request.url) if request.url.startswith("http") else None)
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        page.set_viewport_size({"width": width, "height": WIDTHS[width]})
        page.goto((folder / f"{name}.html").as_uri())
        if name == "naming":
            page.wait_for_selector("#list li")
        opened.append((page, complaints))
        return page

    yield visit
    for page, complaints in opened:
        page.close()
        assert complaints == []


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_as_wide_as_the_window(show, screenshots, name, width):
    page = show(name, width)
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    page.screenshot(path=screenshots / f"{name}-{width}.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    outside = """(width) => [...document.querySelectorAll('main *, header *')].filter((one) => {
      const box = one.getBoundingClientRect();
      const hidden = one.closest('.skip, .scroll, #sheet, .chart');
      return !hidden && box.width > 0 && (box.right > width + 1 || box.left < -1);
    }).map((one) => one.outerHTML.slice(0, 120))"""
    assert page.evaluate(outside, width) == [], "nothing is cut off"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing_serious(show, name, width, scheme):
    page = show(name, width, scheme)
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert serious_findings(page) == []


PLACES = """() => [...document.querySelectorAll('body *')].map((one) => {
  const box = one.getBoundingClientRect();
  return [one.tagName, Math.round(box.left), Math.round(box.top), Math.round(box.width), Math.round(box.height)].join(' ');
}).filter((line) => !line.startsWith('SPAN'))"""  # the words of the hint change, its line does not


@pytest.mark.parametrize("name", PAGES)
def test_pointing_at_things_moves_nothing(show, name):
    page = show(name)
    wanted = {
        "naming": (".picture", ".cluster", ".row", "nav button"),
        "report": (".stack", ".plain", ".tile", "nav a"),
        "compare": (".stack", ".scores th"),
    }
    for kind in wanted[name]:
        one = page.locator(kind).nth(1)
        one.scroll_into_view_if_needed()
        page.mouse.move(1, 1)
        before = page.evaluate(PLACES)
        one.hover()
        assert page.evaluate(PLACES) == before, kind


def test_pointing_says_in_words_what_is_there(show):
    page = show("naming")
    page.locator(".cluster").first.hover()
    assert "% of all pixels and belongs to background" in page.locator("#hint").text_content()
    text = page.locator("body").inner_text()
    for jargon in ("min iou", "weakest", "ecos", "lowest"):
        assert jargon not in text.lower()


@pytest.mark.parametrize("width", WIDTHS)
def test_save_is_always_in_sight(show, width):
    page = show("naming", width)
    inside = """() => {
      const box = document.getElementById('save').getBoundingClientRect();
      const seen = document.elementFromPoint(box.left + box.width / 2, box.top + box.height / 2);
      return box.top >= 0 && box.bottom <= innerHeight && box.left >= 0 && box.right <= innerWidth && seen?.id === 'save';
    }"""
    assert page.evaluate(inside)
    page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    assert page.evaluate(inside), "from the end of the page as well"


def test_naming_by_keyboard_alone(show, extractor, tmp_path):
    page = show("naming", 1280)
    page.locator("#level").focus()
    page.keyboard.press("Home")
    playwright.expect(page.locator("#level-count")).to_have_text("2")
    cluster = extractor.level(2).ids[1]
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == f"cluster-{cluster}":
            break
    page.keyboard.press("Space")
    assert page.evaluate("document.activeElement.id") == f"cluster-{cluster}", "the focus stays"
    assert page.locator(f"#cluster-{cluster}").get_attribute("aria-pressed") == "true"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "name"
    page.keyboard.type("leaf")
    page.keyboard.press("Enter")
    assert page.locator("#status").text_content() == "named leaf"
    page.locator("#level").focus()
    page.keyboard.press("End")  # the finest level
    playwright.expect(page.locator("#level-count")).to_have_text("16")
    names = "() => [...document.querySelectorAll('.row input[type=text]')].map((one) => one.value)"
    assert page.evaluate(names).count("leaf") == 1, "the name has followed its cluster to what that is made of"
    page.keyboard.press("Home")
    playwright.expect(page.locator("#level-count")).to_have_text("2")
    assert "leaf" in page.evaluate(names)
    page.locator("#save").focus()
    with page.expect_download() as download:
        page.keyboard.press("Enter")
    download.value.save_as(tmp_path / "classes.yaml")
    made = read_class_map(tmp_path / "classes.yaml")
    assert made.extractor == extractor.fingerprint()
    assert (made.names[1], made.classes[1].clusters, made.cut) == ("leaf", (cluster,), 2)


def test_colours_agree_between_page_report_and_predictions(show, extractor, folder, tmp_path):
    colours = cluster_colours(extractor, 16)
    assert cluster_colours(extractor).items() <= colours.items(), "finer levels change no colour"
    for k in extractor.levels:
        assert len({colours[cluster] for cluster in extractor.level(k).ids}) == k, "no two of a level are alike"
    page = show("naming")
    on_page = "() => Object.fromEntries([...document.querySelectorAll('.classes li')].map((one) => [one.querySelector('input[type=text]')?.value, one.querySelector('input[type=color]')?.value]))"
    parts = parts_to_name(extractor)
    palette = run_palette(folder / "run", parts.names)  # what `predict --parts` and the report colour with
    shown = page.evaluate(on_page)
    for value, name in enumerate(parts.names[1:], 1):
        assert shown[name] == "#" + bytes(palette[value].tolist()).hex()
    page.locator("#level").focus()
    page.keyboard.press("End")
    playwright.expect(page.locator("#level-count")).to_have_text("16")
    shown = page.evaluate(on_page)
    assert set(shown.items()) >= {
        (f"cluster-{i}", colours[i]) for i in extractor.level(16).ids if f"cluster-{i}" in shown
    }
    assert len(set(shown.values())) == len(shown)
    run = RunFolder(tmp_path / "run")
    run.write_config({})
    run.write_status("done", colours=class_colours(extractor, extractor.classes))
    palette = run_palette(run.path, extractor.classes)
    for value, name in enumerate(extractor.classes[1:], 1):
        assert "#" + bytes(palette[value].tolist()).hex() == colours[int(name.removeprefix("cluster-"))]


def test_classes_without_a_colour_take_none_that_was_chosen(tmp_path):
    rows = [{"name": name, "clusters": [i]} for i, name in enumerate("abcd")]
    rows[2]["colour"] = "#ff3b5c"  # what class 1 would get
    record = parse_class_map({"extractor": "0" * 16, "cut": 4, "classes": rows}).model_dump(mode="json")
    RunFolder(tmp_path).write_config({"classes": record})
    palette = run_palette(tmp_path, ("a", "b", "c", "d"))[:4].tolist()
    assert palette[2] == [0xFF, 0x3B, 0x5C]
    assert len({tuple(colour) for colour in palette}) == 4


def test_the_report_leads_with_the_score_and_groups_predictions(show):
    page = show("report")
    text = page.locator("body").inner_text()
    assert text.index("0.78") < text.index("mean IoU on 12 annotated photographs") < text.index("pairs made")
    assert "This is good." in text
    assert text.index("\nBest\n") < text.index("\nMedian\n") < text.index("\nWorst\n")
    first = page.locator(".case").first
    assert first.locator("small").all_inner_texts() == ["picture", "prediction", "annotation"]
    boxes = [first.locator("small").nth(i).bounding_box() for i in range(3)]
    assert len({round(box["y"]) for box in boxes}) == 1, "side by side"
    assert "seed" not in page.locator("header").inner_text()
