"""Examples in docstrings run, in the core and in the plugins."""

import doctest
import importlib
from pathlib import Path

import pytest

import gsegkit

ROOT = Path(gsegkit.__file__).parents[1]
FILES = [*ROOT.glob("gsegkit/**/*.py"), *ROOT.glob("plugins/*/gsegkit_*/**/*.py")]
NAMES = sorted(
    ".".join(path.relative_to(ROOT / "plugins" / path.relative_to(ROOT).parts[1] if "plugins" in path.parts else ROOT)
             .with_suffix("").parts)
    for path in FILES
    if any(">>> " in line and "+SKIP" not in line for line in path.read_text(encoding="utf-8").splitlines())
)  # fmt: skip


def test_the_floor_has_examples():
    assert {"gsegkit.seeds", "gsegkit.config", "gsegkit.images", "gsegkit.taps", "gsegkit.types"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_examples_run(name):
    module = pytest.importorskip(name.split(".")[0]) and importlib.import_module(name)
    done = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert done.attempted > 0, "its examples were not found"
    assert done.failed == 0
