"""What a run found, and the commands that its last lines and its report lead to."""

import html
import json
from pathlib import Path

import pytest

from gsegkit.engine.choices import choose
from gsegkit.engine.next_steps import found_record, in_a_line, next_commands
from gsegkit.engine.pipeline import run
from gsegkit.engine.plan import Plan
from gsegkit.engine.sources import names_offered
from gsegkit.plugins import installed
from gsegkit.report import render_report

CLUSTERS = found_record(["cluster-3", "cluster-0"], True, "blood-cells")


def test_unnamed_clusters_lead_to_naming_then_to_photographs():
    assert in_a_line(CLUSTERS) == "found 2 clusters without names"
    assert next_commands("runs/my run", CLUSTERS) == [
        "gsegkit name 'runs/my run'",
        "gsegkit samples blood-cells --out photos",
        "gsegkit predict 'runs/my run' photos --out masks",
    ]


def test_names_that_ship_with_the_weights_are_the_last_command():
    found = {**CLUSTERS, **found_record([], True, "", names="blood-cells")}
    assert next_commands("runs/1", found)[-1] == "gsegkit predict runs/1 PHOTOS --out named --classes blood-cells"


@pytest.mark.parametrize(
    ("options", "offered"),
    [([], "blood-cells"), (["extractor.k=5"], ""), (["gen.weights=lpc-64"], "")],
)
def test_names_are_offered_where_they_fit(options, offered):
    everything = installed()
    plan = Plan.from_options({"gen": "stylegan2", "extractor": "klish", "seg": "unet"}, options)
    choices = choose(plan, everything)
    assert names_offered(choices, everything, choices["gen"].build()) == offered


def test_named_parts_are_ready_to_predict():
    named = found_record([f"part {i}" for i in range(10)], False, "")
    line = "found 10 classes: part 0, part 1, part 2, part 3, part 4, part 5, part 6, part 7 ..."
    assert in_a_line(named) == line
    assert next_commands("r", named) == ["gsegkit predict r PHOTOS --out masks"]


def test_the_report_shows_the_legend_then_predictions_then_the_next_command(plan, registry, tmp_path):
    result = run(plan, tmp_path / "run", registry=registry)
    assert result.found["classes"] == ["background", "body", "spot", "rim"]
    assert not result.found["unnamed"], "the toy's classes have names"
    path = tmp_path / "run/run.json"
    stored = json.loads(path.read_text())
    assert stored["found"] == result.found
    path.write_text(json.dumps({**stored, "found": CLUSTERS}))
    page = render_report(result.folder).read_text()
    marks = ['id="predictions"', 'class="legend"', "prediction on ", f"gsegkit name {result.folder}", "gsegkit samples blood-cells",
             f"gsegkit predict {result.folder} photos", 'id="results"']  # fmt: skip
    places = [page.index(mark, page.index("<main")) for mark in marks]
    assert places == sorted(places)
    assert f"gsegkit run --config {result.folder}/config.json --out NEW_FOLDER" in page
    path.write_text(json.dumps({name: value for name, value in stored.items() if name != "found"}))
    assert "gsegkit predict" not in render_report(result.folder).read_text(), (
        "runs of earlier versions have no such record"
    )


def test_commands_of_the_report_work_where_the_run_was_started(plan, registry, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = Path("my runs/first")
    run(plan, folder, registry=registry)
    page = html.unescape(render_report(folder).read_text())
    assert "gsegkit predict 'my runs/first' PHOTOS --out masks" in page
    assert "gsegkit run --config 'my runs/first/config.json' --out NEW_FOLDER" in page


def test_the_last_lines_of_the_command(call, tmp_path):
    out = tmp_path / "run"
    given = [
        "run",
        "--gen",
        "toy",
        "--extractor",
        "native",
        "--seg",
        "unet",
        "--smoke",
        "--out",
        out,
        "--device",
        "cpu",
    ]
    code, _, said = call(*given, "-o", "gen.size=32")
    assert code == 0
    assert said.splitlines()[-3:] == [
        "found 4 classes: background, body, spot, rim",
        f"report: {out}/report/index.html",
        f"next: gsegkit predict {out} PHOTOS --out masks",
    ]
