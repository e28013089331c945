"""`new-plugin` writes plugins that install, pass the conformance kit, and work; or nothing at all."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch

from gsegkit.builtin.toy import Toy, ToyConfig
from gsegkit.context import RunContext
from gsegkit.errors import ConfigError, DataError, StorageError
from gsegkit.images import to_pixels, write_png
from gsegkit.plugins import Registry, installed
from gsegkit.scaffold import KINDS, new_plugin
from gsegkit.seeds import sample_seeds
from gsegkit.testing import run_checks

RUFF = Path(sys.executable).with_name("ruff")


@pytest.fixture
def entry(tmp_path, monkeypatch):
    """Write a plugin and make it importable as if it were installed: kind -> its registry entry."""
    names = []

    def make(kind: str):
        name = f"my-{kind}-method"
        folder = new_plugin(kind, name, tmp_path / name)
        monkeypatch.syspath_prepend(folder)
        package = f"gsegkit_{name.replace('-', '_')}"
        names.append(package)
        points = tomllib.loads((folder / "pyproject.toml").read_text())["project"]["entry-points"]["gsegkit"]
        assert points == {name: package}
        registry = Registry()
        registry.add(importlib.import_module(points[name]), f"gsegkit-{name}", "0.1.0", name)
        assert registry.failures == []
        return registry.find(kind, name)

    yield make
    for module in [m for m in sys.modules if m.split(".")[0] in names]:
        del sys.modules[module]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_passes_the_kit(kind, entry) -> None:
    results = run_checks(entry(kind))
    assert [result for result in results if result.status not in ("passed", "skipped")] == []
    assert sum(result.status == "passed" for result in results) >= 8


def test_the_parts_work_together(entry, tmp_path) -> None:
    """The five kinds of a run, each the trivial implementation, on one machine-made data set."""
    generator, extractor = entry("generator").build(), entry("extractor").build()
    refiner, segmenter, evaluator = (entry(kind).build() for kind in ("refiner", "segmenter", "evaluator"))
    ctx = RunContext(tmp_path / "run", seed=1)
    extractor.fit(generator, ctx.stage("extractor"))
    batch = generator.sample(ctx.seeds("dataset", 40))
    from gsegkit.dataset import MemoryDataset
    from gsegkit.types import LabelledBatch

    masks = batch.probs.argmax(1).to(torch.uint8)
    pairs = refiner.refine(
        LabelledBatch(batch.seeds, to_pixels(batch.images), masks, extractor.extract(batch, generator).probs)
    )
    assert 30 <= len(pairs) <= 40
    dataset = MemoryDataset(pairs.pixels, pairs.masks, ("background", "disc"))
    before = ctx.stage("before")
    segmenter.config = segmenter.config.model_copy(update={"steps": 60})
    segmenter.fit(dataset, ctx.stage("segmenter"))
    report = evaluator.evaluate(segmenter.probs, dataset, before)
    assert report.metrics["accuracy"] > 0.8


def test_the_reader_reads_pairs(entry, tmp_path) -> None:
    toy = Toy(ToyConfig(size=20))
    batch = toy.sample(sample_seeds(0, "test", 0, 3))
    for i in range(3):
        write_png(tmp_path / "data" / "images" / f"{i}.png", to_pixels(batch.images)[i])
        write_png(tmp_path / "data" / "masks" / f"{i}.png", toy.truth(batch)[i])
    reader = entry("dataset").build()
    dataset = reader.labelled(tmp_path / "data")
    assert len(dataset) == 3
    assert torch.equal(dataset[1].mask, (toy.truth(batch)[1] > 0).to(torch.uint8))
    (tmp_path / "data" / "masks" / "2.png").unlink()
    with pytest.raises(DataError, match=r"2\.png.* has no mask"):
        reader.labelled(tmp_path / "data")


@pytest.mark.parametrize("kind", KINDS)
def test_the_files_are_whole_and_tidy(kind, tmp_path) -> None:
    folder = new_plugin(kind, "abc", tmp_path / "new" / "abc")
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    package = [f"gsegkit_abc/{name}" for name in ("__init__.py", "abc.py", "config.py", "kit.py", "py.typed")]
    assert files == ["README.md", *package, "pyproject.toml", "tests/test_contract.py"]
    for path in folder.rglob("*.*"):
        if path.is_file():
            assert not [
                word for word in ("__KIND__", "__NAME__", "__MODULE__", "__CLASS__") if word in path.read_text()
            ]
    config = Path(__file__).parents[1] / "pyproject.toml"
    for verb in (["check"], ["format", "--check"]):
        done = subprocess.run([RUFF, *verb, "--config", config, "."], cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", ["My-Method", "my_method", "", "-a", "a-", "a--b", "3d", "ünï", "a b", "../up", "a@b"])
def test_bad_names_are_refused(name, tmp_path) -> None:
    with pytest.raises(ConfigError, match="cannot be a component name") as caught:
        new_plugin("extractor", name, tmp_path / "out")
    assert "my-method" in caught.value.hint
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("extractor", "config"),
        ("extractor", "class"),
        ("extractor", "mask-extractor"),
        ("segmenter", "tensor"),
        ("refiner", "gsegkit-x"),
    ],
)
def test_names_that_would_shadow_something_are_refused(kind, name, tmp_path) -> None:
    with pytest.raises(ConfigError, match="is already used"):
        new_plugin(kind, name, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_unknown_kinds_are_refused_and_aliases_understood(tmp_path) -> None:
    for kind in ("weights", "painter"):
        with pytest.raises(ConfigError, match=f"no template for the kind '{kind}'") as caught:
            new_plugin(kind, "abc", tmp_path / "out")
        assert "extractor" in caught.value.hint
    assert 'kind="segmenter"' in (new_plugin("seg", "abc", tmp_path / "out") / "gsegkit_abc/__init__.py").read_text()


def test_a_folder_that_is_not_empty_is_left_alone(tmp_path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError, match="is not empty"):
        new_plugin("extractor", "abc", tmp_path / "full")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["thesis.txt"]
    with pytest.raises(DataError, match="is a file"):
        new_plugin("extractor", "abc", tmp_path / "full" / "thesis.txt")
    assert (tmp_path / "full" / "thesis.txt").read_text() == "years of work"
    (tmp_path / "empty").mkdir()
    assert (new_plugin("extractor", "abc", tmp_path / "empty") / "pyproject.toml").exists()


def test_a_place_that_cannot_be_written_is_named(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot"):
        new_plugin("extractor", "abc", tmp_path / "file" / "inside")


def test_writing_a_plugin_imports_no_torch(tmp_path) -> None:
    code = (
        "import sys; from gsegkit.scaffold import new_plugin; "
        f"new_plugin('extractor', 'abc', {str(tmp_path / 'abc')!r}); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("uv") is None, reason="needs uv")
def test_a_plugin_outside_of_the_repository_installs_and_is_listed(tmp_path) -> None:
    folder = new_plugin("extractor", "far-away", tmp_path / "plugin")
    site = tmp_path / "site"
    subprocess.run(["uv", "pip", "install", "-q", "--no-deps", "--target", site, folder], check=True)
    env = {**os.environ, "PYTHONPATH": str(site)}

    def gsegkit(*arguments: str) -> str:
        command = [sys.executable, "-m", "gsegkit", *arguments]
        done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    listing = json.loads(gsegkit("list", "--json"))
    assert ("extractor", "far-away") in {(row["kind"], row["name"]) for row in listing["components"]}
    results = json.loads(gsegkit("test-plugin", "far-away", "--json"))
    assert len(results) >= 15
    assert {row["status"] for row in results} <= {"passed", "skipped"}
    contract = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", folder / "tests", "--rootdir", folder]
    subprocess.run(contract, env=env, cwd=folder, check=True)
    assert "far-away" not in {entry.component.name for entry in installed().entries}
