"""The runner of benchmarks, on the toy at a tiny size."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

pytest.importorskip("gsegkit_eval", reason="benchmarks need every plugin")

from benchmarks import runner  # noqa: E402
from benchmarks.paths import look_up  # noqa: E402
from benchmarks.recipe import Recipe, read_recipe  # noqa: E402
from benchmarks.result import judged, read_result  # noqa: E402
from gsegkit.errors import GsegkitError  # noqa: E402


def recipe(**changes) -> Recipe:
    facts = {"name": "small", "what": "k-means", "protocol": "kmeans.backends", "options": {"n": 512, "d": 8, "k": 5}}
    return Recipe(**{**facts, **changes})


def test_a_run_writes_the_schema(tmp_path):
    expected = [{"path": "k", "value": 5, "tolerance": 0}, {"path": "n", "value": 500, "tolerance": 1}]
    runner.run(recipe(expected=expected, seeds=[3, 4]), out=tmp_path, dirty=True)
    result = read_result("small", tmp_path)
    assert result.origin == "runner"
    assert result.command == "python -m benchmarks run small"
    assert (result.seeds, result.threads) == ([3, 4], 1)
    assert {"python", "torch", "gsegkit"} <= set(result.versions)
    assert result.seconds > 0
    assert result.peak_mb > 0
    assert len(result.load_average) == 2
    assert [check["ok"] for check in result.checks] == [True, False]
    assert result.verdict == "not as expected"
    assert len(look_up(result.values, "rows/backend=torch/mean_squared_distance")) == 2


def test_verdict():
    good = recipe(expected=[{"path": "iou", "value": 0.9, "tolerance": 0.02}])
    assert judged(good, {"iou": 0.915})["verdict"] == "as expected"
    assert judged(good, {"iou": 0.95})["verdict"] == "not as expected"
    assert judged(recipe(), {})["verdict"] == "nothing expected"


def test_uncommitted_code_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "changed", lambda paths: ["gsegkit/seeds.py"])
    with pytest.raises(GsegkitError, match=r"not committed: gsegkit/seeds\.py"):
        runner.run(recipe(), out=tmp_path)
    assert not list(tmp_path.iterdir())
    assert runner.run(recipe(), out=tmp_path, dirty=True, tiny=True).dirty


def test_a_tiny_run_is_no_result():
    with pytest.raises(GsegkitError, match="tiny"):
        runner.run(recipe(), tiny=True, dirty=True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('what = "x"\nprotocol = "kmeans.backends"\nseed = 1\n', "seed"),
        ('what = "x"\n', "either"),
        ('what = "x"\nprotocol = "kmeans.backends"\ncommand = ["gsegkit"]\n', "either"),
        ("what = ", "not a recipe"),
    ],
)
def test_a_faulty_recipe_is_refused(text, words, tmp_path):
    (tmp_path / "x.toml").write_text(text)
    with pytest.raises(GsegkitError, match=words):
        read_recipe(tmp_path / "x.toml")


def test_unknown_options_protocols_and_data_are_refused(tmp_path):
    with pytest.raises(GsegkitError, match="no option 'iters'"):
        recipe(options={"iters": 3}).function()
    with pytest.raises(GsegkitError, match="no protocol"):
        recipe(protocol="kmeans.nothing").function()
    with pytest.raises(GsegkitError, match="not-there"):
        runner.run(recipe(data=["not-there"]), out=tmp_path, dirty=True)


def test_a_command_is_timed_and_its_files_are_read(tmp_path):
    words = ["python", "-c", "import time; time.sleep(0.2); open(r'{work}/x.json', 'w').write('[1, 2]')"]
    result = runner.run(
        recipe(protocol=None, options={}, command=words, reads={"found": "x.json"}),
        work=tmp_path / "work", out=tmp_path, dirty=True,
    )  # fmt: skip
    assert result.values["found"] == [1, 2]
    assert result.values["seconds"] > 0  # rounded


def test_paths():
    values = {"rows": [{"name": "a / b", "iou": 0.5}, {"name": "c", "iou": 0.7}]}
    assert look_up(values, "rows/name=a / b/iou") == 0.5
    assert look_up(values, "rows/1/iou") == 0.7
    assert look_up(values, "rows/*/iou") == [0.5, 0.7]
    with pytest.raises(GsegkitError, match="does not name one entry"):
        look_up(values, "rows/name=d/iou")


def test_criteria_are_judged_leave_one_set_out():
    pytest.importorskip("cv2")
    from benchmarks.protocols import criteria

    truth = [0.2, 0.4, 0.6, 0.8, 0.9]
    upside_down, constant = [-value for value in truth], [1.0] * 5
    good = dict.fromkeys(criteria.ALONE, constant) | {"true": truth, "miou": [float("nan")] * 5}
    sets = {"a": good | {"consensus": truth, "edges": truth}, "b": good | {"consensus": truth, "edges": upside_down}}
    sets["c"] = good | {"consensus": [0.3, 0.4, 0.6, 0.9, 0.8], "edges": truth}
    found = criteria.judged(sets)
    assert found["single"]["consensus"]["sets"] == {"a": 1.0, "b": 1.0, "c": 0.9}
    assert found["single"]["edges"]["least"] == -1.0
    assert found["single"]["separation"]["mean"] == 0.0
    assert found["single, mIoU"]["consensus"] == {}
    # on b and c consensus is the better one, on a and c too; without b, edges is the best, and fails on b
    assert found["left_out"]["single"]["chosen"] == {"a": "consensus", "b": "edges", "c": "consensus"}
    assert found["left_out"]["single"]["sets"] == {"a": 1.0, "b": -1.0, "c": 0.9}
    assert found["taken"]["edges"]["sets"]["b"] == {"taken": 0.2, "best": 0.9, "mean": 0.58}
