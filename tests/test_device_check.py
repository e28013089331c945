"""The check on one card (benchmarks/device.py): here on the CPU, at the smallest size."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

pytest.importorskip("gsegkit_eval", reason="benchmarks need every plugin")

from benchmarks.protocols import device  # noqa: E402
from benchmarks.protocols.common import Lab  # noqa: E402
from benchmarks.protocols.device_items import ITEMS  # noqa: E402
from benchmarks.result import Result  # noqa: E402
from gsegkit.errors import GsegkitError  # noqa: E402

WORKER = """
import json, os, sys, time
setting = json.loads(sys.argv[1])
for name in setting["items"]:
    print(json.dumps({"begins": name}), flush=True)
    if name == "kmeans":
        os._exit(7)
    if name == "klish":
        time.sleep(60)
    print("a warning of some library", flush=True)
    print(json.dumps({"item": name, "found": {"pid": os.getpid()}}), flush=True)
"""


def test_what_hangs_or_ends_its_process_is_noted_and_the_others_go_on(tmp_path, monkeypatch):
    monkeypatch.setattr(device, "WORKER", ("-c", WORKER))
    monkeypatch.setattr(device, "GRACE", 0.0)
    monkeypatch.setitem(device.ITEMS, "klish", (ITEMS["klish"][0], 0.1))
    found = device.check(
        Lab(tmp_path, torch.device("cpu"), tiny=True), items=["machine", "kmeans", "segmenter", "klish", "directions"]
    )
    assert list(found) == ["machine", "kmeans", "segmenter", "klish", "directions"]
    assert found["kmeans"] == {"error": "the process ended with 7"}
    assert found["klish"] == {"error": "it was ended: its time was over"}
    assert len({found[name]["pid"] for name in ("machine", "segmenter", "directions")}) == 3, "a new process each time"


def test_without_time_nothing_is_begun_and_an_unknown_item_is_refused(tmp_path):
    lab = Lab(tmp_path, torch.device("cpu"), tiny=True)
    assert device.check(lab, seconds=1, items=["machine", "tests"]) == {
        "machine": {"skipped": "no time was left"},
        "tests": {"skipped": "no time was left"},
    }
    with pytest.raises(GsegkitError, match="no item 'klihs'"):
        device.check(lab, items=["klihs"])


def test_all_items_fit_into_eight_minutes():
    assert sum(seconds for _, seconds in ITEMS.values()) < 470


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_whole_check_runs_tiny_on_the_cpu(tmp_path):
    command = [sys.executable, ROOT / "benchmarks/device.py", "--device", "cpu", "--tiny", "--out", tmp_path / "x.json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=800)
    assert done.returncode == 0, done.stderr[-2000:]
    result = Result(**json.loads(done.stdout))
    assert json.loads((tmp_path / "x.json").read_text()) == json.loads(done.stdout)
    assert list(result.values) == [*ITEMS, "tests"]
    for name, found in result.values.items():
        for row in (found, *found.get("rows", ())):
            wrong = {"error", "skipped", "stopped"} & set(row)
            assert not wrong or name == "tests" or "faiss" in str(row), (name, row)
    assert result.values["tests"]["passed"] > 0
    assert result.values["tests"]["failed"] == []
    assert result.values["klish"]["levels"] > 5
