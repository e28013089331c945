"""A plugin written by `new-plugin` before the modules moved: what its author has to change, and that it then works.

tests/data/plugin-before-the-move is its text as commit 3357b44 wrote it.
"""

from __future__ import annotations

import importlib
import shutil
import sys
from pathlib import Path

import pytest

from gsegkit.engine import pipeline
from gsegkit.engine.plan import Plan
from gsegkit.plugins import Registry
from gsegkit.testing import KitSettings, run_checks

OLD = Path(__file__).parent / "data" / "plugin-before-the-move"
CHANGES: dict[str, str] = {}  # old import -> new one, as the changelog names them: its imports are all on the floor


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch):
    folder = Path(shutil.copytree(OLD, tmp_path / "plugin"))
    for path in folder.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        for old, new in CHANGES.items():
            text = text.replace(old, new)
        path.write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(folder)
    yield importlib.import_module("gsegkit_my_extractor")
    for name in [name for name in sys.modules if name.startswith("gsegkit_my_extractor")]:
        del sys.modules[name]


def test_it_loads_and_passes_the_kit(plugin) -> None:
    registry = Registry()
    registry.add(plugin, "gsegkit-my-extractor", "0.1.0")
    assert registry.failures == []
    results = run_checks(registry.find("extractor", "my-extractor"), KitSettings(iou_floor=0.05))
    assert [result for result in results if result.status not in ("passed", "skipped")] == []
    assert sum(result.status == "passed" for result in results) >= 10


def test_it_runs_from_end_to_end(plugin, registry, plan: Plan, tmp_path: Path) -> None:
    registry.add(plugin, "gsegkit-my-extractor", "0.1.0")
    plan = plan.model_copy(update={"extractor": plan.extractor.model_copy(update={"name": "my-extractor"})})
    result = pipeline.run(plan, tmp_path / "run", registry=registry)
    assert result.report is not None
    assert (result.folder / "segmenter" / "component.json").exists()
