"""A run folder made before the modules moved still gives all that it holds: nothing stored names a module.

tests/data/run-before-the-move was made by version 0.1.0 at commit 3357b44: toy, klish, the tests' `tiny` segmenter.
"""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import pytest
import torch

from gsegkit import api
from gsegkit.clustering.config import ClusterConfig
from gsegkit.engine.plan import Plan
from gsegkit.engine.shards import ShardDataset
from gsegkit.errors import ConfigError
from gsegkit.plugins import Registry, installed
from gsegkit.progress import Progress
from gsegkit.report import render_report
from gsegkit.testing import Listener

OLD = Path(__file__).parent / "data" / "run-before-the-move"
FINGERPRINT = "630a8ab50afab69a"

pytestmark = pytest.mark.skipif(
    "klish" not in {entry.component.name for entry in installed().entries}, reason="needs gsegkit-klish"
)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return Path(shutil.copytree(OLD, tmp_path / "run"))


@pytest.fixture
def session(parts) -> api.Session:
    registry = Registry(entries=list(installed().entries))
    registry.add(parts.PartsPlugin(), "test-parts", "1")
    return api.Session(registry, Progress(), threading.Event())


def test_no_stored_file_names_a_module(run: Path) -> None:
    texts = [path.read_text(encoding="utf-8") for path in run.rglob("*.json")]
    assert len(texts) > 5
    assert not any("gsegkit." in text for text in texts)


def test_its_parts_load_and_work(run: Path, session) -> None:
    segmenter = api.load(run, session=session)
    masks = segmenter.predict(torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8))
    assert masks.shape == (2, 32, 32)
    assert int(masks.max()) < len(segmenter.classes)
    extractor = api.load(run, "extractor", session=session)
    generator = api.load(run, "generator", session=session)
    batch = generator.sample(torch.arange(3), features=extractor.features(generator.info))
    assert extractor.extract(batch, generator).probs.shape == (3, 4, 32, 32)


def test_its_pairs_come_out_again(run: Path, session, tmp_path: Path) -> None:
    """The stored generator and extractor make the stored pairs, bit for bit."""
    torch.set_num_threads(1)
    made = api.synthesize(run, tmp_path / "pairs", 24, session=session, device="cpu")
    old = ShardDataset(run / "dataset")
    assert made is not None
    assert len(made) == len(old) == 24
    assert all(torch.equal(a.pixels, b.pixels) and torch.equal(a.mask, b.mask) for a, b in zip(made, old, strict=True))


def test_its_clusters_take_names(run: Path, session, tmp_path: Path) -> None:
    found, sheet = api.list_clusters(run, session=session, device="cpu")
    assert sheet.exists()
    assert found.ids == (12, 0, 13, 11)
    names = api.name(run, ["background=12", "thing=0,13,11"], save=tmp_path / "classes.yaml", session=session)
    assert names.names == ("background", "thing")
    assert names.extractor == FINGERPRINT  # what old classes.yaml files of this fit say
    made = api.synthesize(run, tmp_path / "pairs", 8, classes=names, session=session, device="cpu")
    assert made is not None
    assert made.classes == ("background", "thing")


def test_its_report_is_rendered(run: Path) -> None:
    page = render_report(run)
    assert "klish" in page.read_text(encoding="utf-8")


def again(run: Path, session, *options: str, update: bool = False) -> list[str]:
    """What is said when the run's own plan is carried out again in its folder, with these options beside."""
    record = json.loads((run / "config.json").read_text(encoding="utf-8"))
    said = Listener()
    session = api.Session(session.registry, said, threading.Event())
    plan = Plan.from_options(Plan.from_record(record, session.registry).model_dump(mode="json"), options)
    api.run_plan(plan, run, update=update, session=session)
    return [line for line in said.infos if line.endswith("reused")]


ALL = ["extractor: reused", "dataset: reused", "segmenter: reused"]


def test_its_stages_are_reused_although_options_were_renamed_and_added(run: Path, session) -> None:
    torch.set_num_threads(1)
    before = json.loads((run / "config.json").read_text(encoding="utf-8"))
    assert "images" in before["extractor"]["options"], "an old name"
    assert again(run, session) == ALL
    assert json.loads((run / "config.json").read_text(encoding="utf-8")) == before, "its keys are made of these names"
    assert again(run, session) == ALL


def test_a_changed_option_is_still_another_plan(run: Path, session) -> None:
    torch.set_num_threads(1)
    with pytest.raises(ConfigError, match=r"extractor.options.k0: 12 -> 13"):
        again(run, session, "extractor.k0=13")
    with pytest.raises(ConfigError, match=r"extractor.options.num_images: 12 -> 13"):
        again(run, session, "extractor.num_images=13")
    assert again(run, session, "seg.steps=5", update=True) == ALL[:2]
    assert again(run, session) == ALL


def test_its_automatic_choice_means_what_it_meant(run: Path, session, monkeypatch) -> None:
    """Before choices were written out, a plan stored `kmeans: auto`."""
    torch.set_num_threads(1)
    with monkeypatch.context() as earlier:
        earlier.setattr(ClusterConfig, "resolved", lambda self, available: self)
        again(run, session, "extractor.kmeans=auto", update=True)
    assert json.loads((run / "config.json").read_text(encoding="utf-8"))["extractor"]["options"]["kmeans"] == "auto"
    assert again(run, session) == ALL


def test_more_pairs_are_the_same_data_set_under_either_name(run: Path, session, tmp_path: Path) -> None:
    api.synthesize(run, tmp_path / "pairs", 8, session=session, device="cpu")
    recipe = json.loads((tmp_path / "pairs" / "recipe.json").read_text(encoding="utf-8"))
    stored = json.loads((run / "config.json").read_text(encoding="utf-8"))
    assert recipe["extractor"] == stored["extractor"]
