"""The report: complete from the run folder alone, whatever is missing, and inert whatever the strings hold."""

import base64
import hashlib
import json
import math
import re
from html.parser import HTMLParser

import pytest
import torch

from gsegkit.engine.shards import Manifest, shard_path, write_shard
from gsegkit.errors import ArtifactError
from gsegkit.exports.predictions import write_predictions
from gsegkit.images import write_png
from gsegkit.report import render_report
from gsegkit.report.charts import histogram, line_chart, number
from gsegkit.report.pictures import funnel
from gsegkit.rundir import RunFolder
from gsegkit.storage import atomic_write_json
from gsegkit.types import LabelledBatch

CONFIG = {
    "gen": {"name": "toy", "options": {"size": 64}},
    "extractor": {"name": "native", "options": {}},
    "refine": [{"name": "area", "options": {"max": 0.5}}],
    "seg": {"name": "unet", "options": {"steps": 300}},
    "eval": {"name": "masks", "options": {}},
    "data_reader": {"name": "folder", "options": {}},
    "num_samples": 40,
    "seed": 7,
    "device": "cpu",
}


class Page(HTMLParser):
    """The tags, the visible text, and the attributes of a page."""

    VOID = ("meta", "img", "input", "br", "hr", "link")

    def __init__(self, path):
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.tags, self.attributes, self.words, self.open = [], [], [], []
        self.feed(self.source)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.words.append(data)


def write_pairs(folder, classes=("background", "cell"), size=16, count=30):
    generator = torch.Generator().manual_seed(0)
    masks = torch.zeros(count, size, size, dtype=torch.uint8)
    masks[:, 4:12, 4:12] = 1  # a quarter of the picture
    batch = LabelledBatch(
        seeds=torch.arange(count) + 5_000_000_000,
        pixels=torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator),
        masks=masks,
        probs=torch.zeros(count, len(classes), size, size),
        scores={"contrast": torch.rand(count, generator=generator)},
    )
    Manifest(classes=classes, num_shards=1, shard_size=40, height=size, width=size, fit_rule="squash").write(folder)
    write_shard(folder, 0, batch, {"candidates": 40, "non-finite": 1, "area": 9, "kept": count})


def make_run(path, classes=("background", "cell"), name="photo 1"):
    """A run folder with everything that a report can show."""
    run = RunFolder(path)
    run.write_config(CONFIG)
    run.write_status(
        "done", device="cpu", torch="2.15.0", seconds=75.2, licences=[["weights toy", "Apache-2.0"]], warnings=[]
    )
    write_pairs(path / "dataset", classes)
    run.end_stage(path / "dataset", "k", 3.2, {"pairs": 30})
    (path / "segmenter" / "figures").mkdir(parents=True)
    rows = [{"step": s, "loss": math.exp(-s / 100), "val_loss": 0.1 + math.exp(-s / 90)} for s in range(10, 310, 10)]
    (path / "segmenter" / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 3')
    write_png(path / "segmenter" / "figures" / "tree.png", torch.full((3, 20, 30), 99, dtype=torch.uint8))
    (path / "segmenter" / "figures" / "tree.txt").write_text("How clusters merged")
    run.end_stage(path / "segmenter", "k", 65.0, {"best_step": 290})
    pixels = [torch.zeros(3, 12, 20, dtype=torch.uint8)]
    masks = [torch.ones(12, 20, dtype=torch.uint8)]
    write_predictions(path / "report" / "predictions", [name], pixels, masks, masks)
    metrics = {
        "iou_foreground": 0.91234,
        "miou": None,
        "per_class": {"cell": {"iou": 0.9, "f1": 0.95}},
        "per_image": {name: {"iou_foreground": 0.875}},
        "definitions": {
            "iou_foreground": "intersection over union of class 1",
            "baseline_centre_prior_iou": "one constant mask",
        },
        "notes": ["2 images had no foreground"],
        "baseline_centre_prior_iou": 0.4,
    }
    atomic_write_json(path / "report" / "metrics.json", metrics)
    run.end_stage(path / "report", "k", 1.0)
    return path


def test_everything_is_shown(tmp_path):
    run = make_run(tmp_path / "my-run")
    page_path = render_report(run)
    assert page_path == run / "report" / "index.html"
    page = Page(page_path)
    for text in (
        "toy → native → unet",  # title
        "1 min 15 s",
        "0.91 IoU of the foreground on generated pictures that it has not seen",
        "This is good.",
        "intersection over union of class 1",
        "iou_foreground 0.9123 0.4 intersection",  # the baseline beside the result
        "centre prior: one constant mask",
        "2 images had no foreground",
        "dropped by area 9 22.5 %",
        "kept 30 75.0 %",
        "contrast",
        "25.0 %",  # share of class 1, see write_pairs
        "val_loss",
        "How clusters merged",
        "best_step 290",
        "weights toy Apache-2.0",
        "photo 1 · IoU of the foreground 0.875",  # beside its prediction
        "annotation",
        "torch 2.15.0",
        "steps 300",
    ):
        assert text in page.text, text
    assert page.open == []
    assert ("figcaption", {"title": "seed 5000000000"}) in page.attributes
    assert page.tags.count("polyline") == 2  # loss and its validation share one chart
    assert page.tags.count("img") == 3 * 18 + 5 + 1  # sheet, picture with prediction and annotation, figure


def test_the_page_needs_nothing_from_outside(tmp_path):
    page = Page(render_report(make_run(tmp_path / "run")))
    for tag, attributes in page.attributes:
        assert tag not in ("link", "iframe", "object", "embed", "base", "form")
        for name in ("src", "href", "data", "poster"):
            value = attributes.get(name) or ""
            assert value.startswith(("data:image/", "#")) or not value
    assert "url(" not in page.source
    assert "@import" not in page.source
    policy = next(a["content"] for t, a in page.attributes if a.get("http-equiv") == "Content-Security-Policy")
    script = re.search(r"<script>(.*?)</script>", page.source, re.S)[1]
    assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in policy
    assert "default-src 'none'" in policy


def test_every_string_is_escaped(tmp_path):
    evil = "\"'><script>alert(1)</script><img src=x onerror=alert(2)>"
    run = make_run(tmp_path / "run", classes=("background", evil), name=evil)
    record = {"gen": {"name": evil, "options": {evil: evil}}, "seg": evil, "seed": evil, evil: evil, "refine": [evil]}
    RunFolder(run).write_config(record)
    RunFolder(run).write_status(evil, command=evil, warnings=[evil], licences=[[evil, evil]], error=evil, device=evil)
    line = json.dumps({"step": 1, evil: 1.0})
    (run / "segmenter" / "metrics.jsonl").write_text(f"{line}\n{line}\n")
    (run / "segmenter" / "figures" / "tree.txt").write_text(evil)
    numbers = {evil: 0.5}
    atomic_write_json(
        run / "report" / "metrics.json",
        {**numbers, "per_class": {evil: numbers}, "definitions": {evil: evil}, "notes": [evil], "baselines": {evil: {}},
         "per_image": {evil: numbers}},
    )  # fmt: skip
    page = Page(render_report(run))
    assert page.tags.count("script") == 1
    assert not any("onerror" in attributes for _, attributes in page.attributes)
    assert page.text.count("alert(1)") >= 10
    assert page.open == []


@pytest.mark.parametrize("missing", ["dataset", "segmenter", "report", "run.json", "dataset/shard-00000.safetensors"])
def test_missing_pieces_are_left_out(tmp_path, missing):
    import shutil

    run = make_run(tmp_path / "run")
    target = run / missing
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    page = Page(render_report(run))
    said = {
        "dataset": "no finished data set",
        "segmenter": "toy → native → unet",
        "report": "Nothing was scored",
        "run.json": "No licence was recorded",
        "dataset/shard-00000.safetensors": "1 warning the pairs cannot be shown",
    }
    assert said[missing] in page.text


def test_a_run_that_has_only_begun(tmp_path):
    RunFolder(tmp_path).write_config({})
    page = Page(render_report(tmp_path))
    assert "Nothing was scored" in page.text
    assert "No stage has finished yet" in page.text


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[1, 2]", b'"x"', b"\xff\xfe", b'{"per_class": 3, "notes": "a"}', b"null"]
)
@pytest.mark.parametrize(
    "name", ["run.json", "report/metrics.json", "segmenter/stage.json", "dataset/dataset.json", "segmenter/metrics.jsonl",
             "report/predictions/index.json", "report/predictions/photo_1.label.png"]
)  # fmt: skip
def test_damaged_files_never_stop_the_report(tmp_path, name, content):
    run = make_run(tmp_path / "run")
    (run / name).write_bytes(content)
    assert Page(render_report(run)).open == []


def test_a_damaged_shard_is_a_warning(tmp_path):
    run = make_run(tmp_path / "run")
    path = shard_path(run / "dataset", 0)
    path.write_bytes(path.read_bytes()[:-1])
    assert "shard 0" in Page(render_report(run)).text


def test_not_a_run_folder(tmp_path):
    with pytest.raises(ArtifactError, match="not a run folder"):
        render_report(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_last_round_is_shown(tmp_path):
    run = make_run(tmp_path / "run")
    write_pairs(run / "dataset-1", count=12)
    RunFolder(run).end_stage(run / "dataset-1", "k", 1.0)
    page = Page(render_report(run))
    assert "12 pairs of 16 x 16 pixels" in page.text
    assert page.text.index("dataset 3.2 s") < page.text.index("dataset-1 1.0 s") < page.text.index("report 1.0 s")


def test_drawing_again_gives_the_same_page(tmp_path):
    run = make_run(tmp_path / "run")
    first = render_report(run).read_bytes()
    assert render_report(run).read_bytes() == first


def test_large_pictures_are_shrunk(tmp_path):
    run = make_run(tmp_path / "run")
    noise = torch.randint(0, 256, (3, 900, 700), dtype=torch.uint8)
    write_predictions(run / "report" / "predictions", ["big"], [noise], [noise[0] % 2])
    before = len(render_report(run).read_bytes())
    assert before < 400_000


def test_funnel_keeps_the_order_of_the_refiners():
    steps = funnel({"kept": 1, "candidates": 8, "b": 4, "a": 3})
    assert [(step["name"], step["role"], step["share"]) for step in steps] == [
        ("candidates", "candidates", 100.0),
        ("b", "dropped", 50.0),
        ("a", "dropped", 37.5),
        ("kept", "kept", 12.5),
    ]


def test_charts_leave_out_what_is_not_finite():
    nan = float("nan")
    svg = str(line_chart({"a": [(0, 1.0), (1, nan), (2, 3.0)], "b": [(0, math.inf)]}, "t"))
    assert "nan" not in svg
    assert "inf" not in svg
    assert svg.count("<polyline") == 1
    assert line_chart({"a": [(0, nan)]}, "t") == ""
    assert histogram([nan], "t") == ""


def test_chart_points_lie_where_they_should():
    svg = str(line_chart({"a": [(0.0, 0.0), (10.0, 1.0)]}, "t"))
    (x0, y0), (x1, y1) = [tuple(map(float, p.split(","))) for p in re.search(r'points="([^"]*)"', svg)[1].split()]
    assert (x0, x1) == (52.0, 410.0)  # the plot's left and right edge
    assert y0 > y1  # up is more
    assert 10 < y1 < 25


def test_histogram_counts_everything_once():
    values = [i / 7 for i in range(200)]
    counts = [int(text) for text in re.findall(r": (\d+)</title>", str(histogram(values, "t")))]
    assert sum(counts) == 200
    assert sum(int(text) for text in re.findall(r": (\d+)</title>", str(histogram([3.0] * 5, "t")))) == 5


def test_numbers_are_short():
    assert [number(v) for v in (0.912345, 12, 1234567, 1.23e-5, 0.0, math.nan, 250_000.5)] == [
        "0.9123", "12", "1,234,567", "1.2e-05", "0", "—", "2.5e+05",
    ]  # fmt: skip
