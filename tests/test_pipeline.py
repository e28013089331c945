import dataclasses
import json
from collections import Counter
from types import SimpleNamespace

import pytest
import torch

from gsegkit import api, plugins
from gsegkit.config import Config
from gsegkit.engine import choices
from gsegkit.engine.choices import PreflightError, choose
from gsegkit.engine.estimate import estimate
from gsegkit.engine.pipeline import run
from gsegkit.engine.plan import PartSpec, Plan, differences
from gsegkit.engine.preflight import check
from gsegkit.engine.probe import probe
from gsegkit.errors import ArtifactError, ConfigError, DataError, RunLockedError, StorageError
from gsegkit.images import write_png
from gsegkit.plugins import hookimpl
from gsegkit.progress import Progress
from gsegkit.rundir import RunFolder
from gsegkit.testing import Listener


@pytest.fixture
def session(registry):
    import threading

    return api.Session(registry, Progress(), threading.Event())


def test_from_generator_to_report(plan, registry, tmp_path):
    result = run(plan, tmp_path / "run", registry=registry)
    assert 0.4 < result.report.metrics["accuracy"] <= 1
    assert (
        json.loads((tmp_path / "run/report/metrics.json").read_text())["accuracy"] == result.report.metrics["accuracy"]
    )
    assert result.folder == tmp_path / "run"
    status = json.loads((tmp_path / "run/run.json").read_text())
    assert status["status"] == "done"
    assert status["device"] == "cpu"


def test_the_same_run_again_reuses_every_stage_and_says_so(plan, registry, tmp_path):
    first = run(plan, tmp_path / "run", registry=registry)
    said = Listener()
    again = run(plan, tmp_path / "run", registry=registry, progress=said)
    assert again.report.metrics == first.report.metrics
    assert [line for line in said.infos if "reused" in line] == [
        "extractor: reused", "dataset: reused", "segmenter: reused",
    ]  # fmt: skip


def test_a_changed_option_needs_update_and_remakes_only_what_depends_on_it(plan, registry, tmp_path):
    run(plan, tmp_path / "run", registry=registry)
    config = plan.model_dump(mode="json")
    changed = Plan.from_options(config, ["seg.lr=0.02"])
    with pytest.raises(ConfigError, match=r"seg\.options\.lr: 0\.01 -> 0\.02"):
        run(changed, tmp_path / "run", registry=registry)
    said = Listener()
    run(changed, tmp_path / "run", registry=registry, progress=said, update=True)
    assert [line for line in said.infos if "reused" in line] == ["extractor: reused", "dataset: reused"]


def test_a_run_replays_from_its_own_config(plan, registry, tmp_path):
    first = run(plan, tmp_path / "a", registry=registry)
    config = json.loads((tmp_path / "a/config.json").read_text())
    assert config["seg"]["options"] == {"steps": 25, "lr": 0.01, "width": 12}, "every option is written out"
    replayed = run(Plan.from_options(config), tmp_path / "b", registry=registry)
    assert replayed.report.metrics == first.report.metrics
    shard = "dataset/shard-00000.safetensors"
    assert (tmp_path / "a" / shard).read_bytes() == (tmp_path / "b" / shard).read_bytes()


@pytest.mark.slow
def test_a_disk_that_fills_up_at_any_write_loses_nothing(plan, registry, tmp_path, monkeypatch):
    """The n-th flush to disk fails; the run says so, and the same run again finishes with the same files."""
    import errno

    from gsegkit import storage

    whole = run(plan, tmp_path / "whole", registry=registry)
    real, calls = storage.os.fsync, 0

    def count(handle):
        nonlocal calls
        calls += 1
        if calls == fail_at:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    fail_at = 0
    monkeypatch.setattr(storage.os, "fsync", count)
    run(plan, tmp_path / "counted", registry=registry)
    total = calls
    assert total > 20
    failed = 0
    for n in range(1, total, 7):
        calls, fail_at = 0, n
        out = tmp_path / f"full-{n}"
        try:
            run(plan, out, registry=registry)
        except StorageError as error:
            failed += 1
            assert "no space left" in error.message
            assert not list(out.rglob("*.tmp"))
        calls, fail_at = 0, 0
        again = run(plan, out, registry=registry)
        assert again.report.metrics == whole.report.metrics
        shard = "dataset/shard-00000.safetensors"
        assert (out / shard).read_bytes() == (tmp_path / "whole" / shard).read_bytes()
    assert failed > 0, "no fault stopped a run: the test tests nothing"


def test_two_runs_in_one_folder(plan, registry, tmp_path):
    with RunFolder(tmp_path / "run").locked(), pytest.raises(RunLockedError, match="in use by process"):
        run(plan, tmp_path / "run", registry=registry)


def test_a_folder_with_other_things_in_it_is_left_alone(plan, registry, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError, match="not empty and not a run folder"):
        run(plan, tmp_path, registry=registry)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_training_a_generator_in_two_rounds(registry, tmp_path):
    photos = tmp_path / "photos"
    for i in range(3):
        write_png(photos / f"{i}.png", torch.full((3, 20, 20), 200, dtype=torch.uint8))
    plan = Plan.from_options(
        {"gen": "mean", "extractor": "native", "seg": "tiny", "eval": "count", "rounds": 2, "num_samples": 16},
        ["seg.steps=5"], images=photos, train_generator=True, device="cpu",
    )  # fmt: skip
    _with_folder_reader(registry)
    result = run(plan, tmp_path / "run", registry=registry)
    assert result.report is None, "there is no ground truth"
    names = {path.name for path in (tmp_path / "run").iterdir() if path.is_dir()}
    stages = {"generator", "extractor", "dataset", "segmenter"}
    assert names == stages | {f"{name}-1" for name in stages} | {"report"}
    assert json.loads((tmp_path / "run/report/predictions/index.json").read_text())


def _with_folder_reader(registry):
    """The reader of plain folders is a plugin; core tests bring the smallest one."""
    import sys

    from gsegkit.config import Config
    from gsegkit.dataset import UnlabelledImages
    from gsegkit.images import list_images
    from gsegkit.interfaces import DatasetReader
    from gsegkit.plugins import Component

    class Reader(DatasetReader):
        def images(self, folder):
            return UnlabelledImages(tuple(list_images(folder)))

        def labelled(self, folder):
            raise DataError("no masks")

    module = sys.modules[__name__] if __name__ in sys.modules else sys.modules["gsegkit_core_test_parts"]
    module.Reader, module.ReaderConfig = Reader, Config

    class Plugin:
        @hookimpl
        def gsegkit_components(self):
            return [Component("dataset", "folder", f"{module.__name__}:Reader", f"{module.__name__}:ReaderConfig")]

    registry.add(Plugin(), "reader")


def test_stage_done_hook_is_told(plan, registry, tmp_path):
    told = []

    class Hook:
        @hookimpl
        def gsegkit_stage_done(self, stage, folder, report):
            told.append((stage, report["seconds"] >= 0))

    registry.add(Hook(), "hook")
    run(plan, tmp_path / "run", registry=registry)
    assert told == [(name, True) for name in ("extractor", "dataset", "segmenter", "report")]


def test_api_verbs_on_a_finished_run(plan, registry, session, tmp_path):
    run(plan, tmp_path / "run", registry=registry)
    more = api.synthesize(tmp_path / "run", tmp_path / "more", 60, session=session, device="cpu")
    assert len(more) == 60
    assert torch.equal(more[5].pixels, api.open_labelled(tmp_path / "run", session)[5].pixels)
    with pytest.raises(ConfigError, match="made with other options"):
        api.synthesize(tmp_path / "run", tmp_path / "more", 61, session=session, device="cpu")
    trained = api.train(
        tmp_path / "more", "tiny", tmp_path / "seg", options={"steps": 5}, session=session, device="cpu"
    )
    loaded = api.load(tmp_path / "seg", session=session)
    pixels = more[0].pixels[None]
    assert torch.equal(trained.predict(pixels), loaded.predict(pixels))
    assert loaded.classes == more.classes
    report = api.evaluate(tmp_path / "run", tmp_path / "more", evaluator="count", session=session, device="cpu")
    assert 0 < report.metrics["accuracy"] <= 1
    with pytest.raises(ArtifactError, match="holds no trained segmenter"):
        api.load(tmp_path / "more", session=session)
    with pytest.raises(ArtifactError, match="does not exist"):
        api.load(tmp_path / "absent", session=session)
    with pytest.raises(ConfigError, match="no export format 'gif'"):
        api.export(tmp_path / "run", tmp_path / "x", "gif", session=session)


def test_two_runs_from_python_share_nothing(registry, session, tmp_path):
    a = api.run("toy", "native", "tiny", out=tmp_path / "a", num_samples=16, eval="count", session=session,
                options=["gen.size=16", "seg.steps=3"], device="cpu")  # fmt: skip
    b = api.run("toy", "native", "tiny", out=tmp_path / "b", num_samples=16, eval="count", session=session, seed=1,
                options=["gen.size=16", "seg.steps=3"], device="cpu")  # fmt: skip
    assert a.report.metrics != b.report.metrics


# ---- preflight -----------------------------------------------------------------------------------------------------


def problems(registry, tmp_path, options=(), **fields):
    base = {"gen": "toy", "extractor": "native", "seg": "tiny", "eval": "count"} | fields
    return {p.where: p for p in check(choose(Plan.from_options(base, options), registry), tmp_path / "out")}


def test_preflight_finds_all_problems_at_once(registry, tmp_path):
    found = problems(
        registry, tmp_path, ["seg.stpes=3"], gen="stylegan2", refine=["window", "blur"], data=tmp_path / "absent"
    )
    assert found["gen"].hint == "pip install gsegkit-stylegan"
    assert "did you mean 'steps'" in found["seg"].message
    assert "no refiner 'blur'" in found["refine.blur"].message
    assert "does not exist" in found["data"].message
    assert not (tmp_path / "out").exists()


def test_preflight_compares_capabilities_and_inputs(registry, tmp_path):
    plan = Plan.from_options(
        {"gen": "toy", "extractor": "native", "seg": "tiny", "eval": "count"}, train_generator=True
    )
    found = {problem.message for problem in check(choose(plan, registry), tmp_path / "out") if problem.where == "gen"}
    assert any("cannot be trained" in message for message in found), found
    registry.entries[:] = [
        e if e.component.name != "toy" else type(e)(_without(e.component, "masks"), e.dist, e.version)
        for e in registry.entries
    ]
    assert "needs a generator with 'masks'" in problems(registry, tmp_path)["extractor"].message


def _without(component, capability):
    return dataclasses.replace(component, provides=tuple(c for c in component.provides if c != capability))


def test_preflight_refuses_a_run_folder_below_a_file(registry, tmp_path):
    (tmp_path / "out").write_text("x")
    plan = Plan.from_options({"gen": "toy", "extractor": "native", "seg": "tiny", "eval": "count"})
    assert check(choose(plan, registry), tmp_path / "out" / "run")[0].where == "out"
    with pytest.raises(PreflightError, match="is a file"):
        run(plan, tmp_path / "out" / "run", registry=registry)


def test_plan_merging():
    base = {"gen": {"name": "toy", "options": {"size": 16}}, "extractor": "native", "seg": "tiny", "refine": ["window"]}
    plan = Plan.from_options(base, ["gen.size=32", "generator.width=8", "refine.window.max=0.5", "run.num_samples=7"])
    assert plan.gen.options == {"size": 32, "width": 8}
    assert plan.refine[0].options == {"max": 0.5}
    assert plan.num_samples == 7
    assert Plan.from_options(plan.model_dump(mode="json")) == plan
    assert plan.default_folder() == Plan.from_options(plan.model_dump(mode="json")).default_folder()
    for bad, message in [
        ("paint.a=1", "there is no part 'paint'"),
        ("refine.blur.a=1", "does not name a chosen refiner"),
        ("run.number=1", "no such option"),
        ("run.num_samples=0", "greater than or equal to 1"),
    ]:
        with pytest.raises(ConfigError, match=message):
            Plan.from_options(base, [bad])
    with pytest.raises(ConfigError, match="must be given"):
        Plan.from_options({"gen": "toy"})


def test_differences():
    assert differences({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}, "d": 4}) == ["a.c: 2 -> 3", "d: None -> 4"]


# ---- choose once -----------------------------------------------------------------------------------------------------


@pytest.fixture
def counted(monkeypatch):
    """Questions to the registry, and configs built, since the last `clear()`."""
    asked, built = [], []
    find, build = plugins.Registry.find, choices.build_config

    def counted_find(self, kind, name):
        asked.append((kind, name))
        return find(self, kind, name)

    def counted_build(cls, options, where):
        built.append(where)
        return build(cls, options, where)

    monkeypatch.setattr(plugins.Registry, "find", counted_find)
    monkeypatch.setattr(choices, "build_config", counted_build)
    monkeypatch.setattr(plugins, "build_config", counted_build)
    return SimpleNamespace(asked=asked, built=built, clear=lambda: (asked.clear(), built.clear()))


def test_whatever_is_done_with_a_plan_asks_once_for_each_of_its_five_parts(plan, registry, session, tmp_path, counted):
    """Generator, extractor, refiner, segmenter, evaluator: one question and one config each."""
    plan = plan.model_copy(update={"refine": (PartSpec(name="window"),)})
    once = {"gen": 1, "extractor": 1, "refine.window": 1, "seg": 1, "eval": 1}
    ways = {
        "run": lambda: api.run_plan(plan, tmp_path / "run", session=session),
        "the same run again": lambda: api.run_plan(plan, tmp_path / "run", session=session),
        "check": lambda: probe(choose(plan, registry)),
    }
    for name, way in ways.items():
        counted.clear()
        way()
        assert sorted(counted.asked) == sorted((kind, spec.name) for _, kind, spec in plan.parts()), name
        assert Counter(counted.built) == once, name
    counted.clear()
    estimate(plan, registry, tmp_path / "other")  # it also opens two parts that its own smoke run stored
    assert Counter(counted.built) == {**once, "toy": 1, "native": 1}
    assert len(counted.asked) == 7


def test_automatic_choices_are_stored(registry):
    from gsegkit.clustering.config import ClusterConfig

    assert ClusterConfig().resolved(lambda kind: {"faiss", "torch"}).kmeans == "faiss"
    assert ClusterConfig().resolved(lambda kind: {"torch"}).kmeans == "torch"
    assert ClusterConfig(kmeans="mine").resolved(lambda kind: {"faiss"}).kmeans == "mine"


def test_options_renamed_since_a_run_was_stored_are_read(plan, registry, session, tmp_path, monkeypatch):
    run(plan, tmp_path / "run", registry=registry)
    path = tmp_path / "run/config.json"
    stored = json.loads(path.read_text())
    stored["seg"]["options"]["learning_rate"] = stored["seg"]["options"].pop("lr")
    path.write_text(json.dumps(stored))
    part = tmp_path / "run/segmenter/component.json"
    record = json.loads(part.read_text())
    record["config"]["learning_rate"] = record["config"].pop("lr")
    part.write_text(json.dumps(record))
    with pytest.raises(ConfigError, match="no such option"):
        api.load(tmp_path / "run", session=session)
    cls = registry.find("segmenter", plan.seg.name).config_class()
    monkeypatch.setattr(cls, "renamed", {"learning_rate": "lr"})
    assert api.load(tmp_path / "run", session=session).config.lr == 0.01
    said = Listener()
    run(plan, tmp_path / "run", registry=registry, progress=said)
    assert "dataset: reused" in said.infos, "not another plan"


@pytest.mark.parametrize("error", [RuntimeError("boom"), SystemExit(3)])
def test_a_stage_done_hook_that_fails_is_told_and_the_run_continues(plan, registry, tmp_path, error):
    class Bad:
        @hookimpl
        def gsegkit_stage_done(self, stage):
            if stage == "dataset":
                raise error
            yield 1
            raise ValueError("second item")

    told = []

    class Good:
        @hookimpl
        def gsegkit_stage_done(self, stage):
            told.append(stage)

    registry.add(Good(), "good")
    registry.add(Bad(), "bad")
    said = Listener()
    assert run(plan, tmp_path / "run", registry=registry, progress=said).report is not None
    assert len(told) == 4
    warnings = [line for line in said.warnings if "plugin bad failed after stage" in line]
    assert len(warnings) == 4


# ---- refiners that the extractor suggests --------------------------------------------------------------------------


class SuggestingConfig(Config):
    """Options."""

    def suggested_refiners(self):
        return {"window": {"max": 0.5}, "not-installed": {}}


@pytest.fixture
def suggesting(registry):
    (entry,) = [e for e in registry.entries if e.component.name == "native"]
    component = dataclasses.replace(entry.component, name="suggesting", config=f"{__name__}:SuggestingConfig")
    registry.entries.append(dataclasses.replace(entry, component=component))
    return registry


def test_a_run_without_refiners_takes_those_that_its_extractor_suggests(suggesting):
    base = {"gen": "toy", "extractor": "suggesting", "seg": "tiny", "eval": "count"}
    chosen = choose(Plan.from_options(base), suggesting)
    assert not chosen.problems
    assert [(part.name, part.config.max) for part in chosen.refiners] == [("window", 0.5)]
    assert [spec.name for spec in chosen.plan.refine] == ["window"], "the plan has it written out"
    again = choose(Plan.from_record(chosen.plan.record(), suggesting), suggesting)
    assert again.plan == chosen.plan


def test_refiners_that_are_named_or_refused_take_the_place_of_the_suggested(suggesting):
    base = {"gen": "toy", "extractor": "suggesting", "seg": "tiny", "eval": "count"}
    assert choose(Plan.from_options(base, refine=()), suggesting).refiners == ()
    named = choose(Plan.from_options(base, ["refine.window.max=0.25"], refine=["window"]), suggesting)
    assert [part.config.max for part in named.refiners] == [0.25]
    stored = {**Plan.from_options(base).record(), "refine": []}
    assert choose(Plan.from_record(stored, suggesting), suggesting).refiners == (), "an old run had none"


def test_the_estimate_says_how_large_the_run_folder_becomes(plan, registry, tmp_path, monkeypatch):
    from gsegkit.engine import estimate as estimates
    from gsegkit.rundir import stage_folders

    monkeypatch.setattr(estimates, "PAGE_BYTES", 0)  # no page is drawn here
    plan = plan.model_copy(update={"num_samples": 200})
    found = estimate(plan, registry, tmp_path / "run")
    run(plan, tmp_path / "run", registry=registry)
    size = sum(path.stat().st_size for path in (tmp_path / "run").rglob("*") if path.is_file())
    assert 0.75 * size < found.disk_bytes < 1.25 * size
    assert found.disk_bytes <= found.disk_peak_bytes
    assert found.ram_bytes > 200 * 32 * 32 * 4
    assert list(found.seconds) == [stage.name for stage in stage_folders(tmp_path / "run")], (
        "in the order of the stages"
    )
