"""Numbers on pages come from result files."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

pytest.importorskip("gsegkit_eval", reason="benchmarks need every plugin")

from benchmarks import render  # noqa: E402
from benchmarks.recipe import read_recipe, recipes  # noqa: E402
from benchmarks.result import BEFORE, RESULTS, judged, read_result  # noqa: E402
from benchmarks.runner import run  # noqa: E402
from gsegkit.testing.data import data_root  # noqa: E402

PAGES = render.pages()
#: Recipes that cannot run here: a script on a GPU made the folders of the first; the second's weights are not distributed.
UNRUN = ("generators-cuda", "ufgs-wbc")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_numbers_of_a_page_are_those_of_the_result_files(page):
    text = page.read_text(encoding="utf-8")
    assert render.rendered(text) == text, "run: python -m benchmarks render"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_measured_numbers_have_a_marker(page):
    assert not render.unmarked(page.read_text(encoding="utf-8")), "mark them, see benchmarks/README.md"


def test_a_number_that_was_typed_is_found():
    assert render.unmarked("| a | IoU |\n| --- | --: |\n| b | 0.9 |\n") == ["| --- | --: |", "| b | 0.9 |"]
    assert render.unmarked("The IoU is 0.953.") == ["The IoU is 0.953."]
    for text in ("It is 0.5 here.", "in 16 s", "19 % of them", "1.5 GB", "2 times as long", "61 of 98", "a factor of 33",
                 "0.9 ± 0.1", "after two and a half minutes", "| a | takes 3 minutes |", "NMI .25"):  # fmt: skip
        assert render.unmarked(text) == [text]
    assert render.unmarked("| `k` | 0.5 | takes 3 minutes |") == ["|  |  | takes 3 minutes |"]
    for text in ("`lr=0.001` and torch 2.15", "Apache-2.0 and CC BY-SA 4.0", "Sec. 3.2 and Table C.1", "400 leaves, seed 0",
                 "| `lr` | 0.001 | of Adam |", "at most `2 %`", "[a](b-1.5.md)", "    python x.py 0.953"):  # fmt: skip
        assert not render.unmarked(text), text
    assert not render.unmarked("<!-- not measured: the paper -->0.953<!-- /not measured -->")


def test_a_stale_number_is_renewed():
    marker = "<!-- result: directions-toy; mean/both, level otsu; .3f -->"
    text = f"IoU {marker}0.123<!-- /result -->."
    number = read_result("directions-toy").values["mean"]["both, level otsu"]
    assert render.rendered(text) == f"IoU {marker}{number:.3f}<!-- /result -->."


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_every_result_has_the_schema_a_recipe_and_its_verdict(path):
    result = read_result(path.stem)
    recipe = read_recipe(ROOT / "benchmarks" / "recipes" / path.name.replace(".json", ".toml"))
    assert result.recipe == recipe.name
    assert result.commit
    assert {"checks": result.checks, "verdict": result.verdict} == judged(recipe, result.values, result.origin)
    assert result.origin == BEFORE or not result.dirty
    if result.origin != BEFORE:
        known = (result.versions, result.device, result.threads, result.load_average, result.seconds, result.command)
        assert None not in known


def test_results_name_commits_of_this_history():
    """A commit that a rebase removed says nothing: measure after it."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True).stdout.strip()

    if git("rev-parse", "--is-shallow-repository") != "false":
        pytest.skip("needs the history")
    history = set(git("rev-list", "HEAD").split())
    assert not {path.stem for path in RESULTS.glob("*.json") if read_result(path.stem).commit not in history}


def test_every_recipe_names_a_protocol_with_its_options():
    for recipe in recipes():
        if recipe.protocol is not None:
            inspect.signature(recipe.function()).bind(None, **recipe.options)  # none is unknown, none is missing


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [recipe for recipe in recipes() if recipe.name not in UNRUN], ids=lambda r: r.name)
def test_every_recipe_runs_tiny(recipe, tmp_path):
    """Three steps of everything; a setting that fails is a row with "error", but not every row may be one."""
    root = data_root(ROOT)
    if root is None or not all((root / name).is_dir() for name in recipe.data):
        pytest.skip("its data sets are not here")
    result = run(recipe, work=tmp_path / "work", out=tmp_path / "out", tiny=True, dirty=True)
    rows = result.values.get("rows", [])
    each = [numbers for row in rows if "seeds" in row for numbers in row["seeds"].values()]
    assert not each or not all("error" in numbers for numbers in each), each[0]
