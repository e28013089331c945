"""Each plugin alone: its wheel beside the core wheel in a clean environment; `list` shows it, its tests pass."""

import json
import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PLUGINS = sorted(path.name for path in (ROOT / "plugins").iterdir() if (path / "pyproject.toml").exists())
EXTRAS = {
    "gsegkit-baselines": "[grabcut,lite,onnx]", "gsegkit-datasets": "[tables]", "gsegkit-eval": "[fid,lite]",
    "gsegkit-faiss": "[cpu]",
}  # fmt: skip
NEEDED_BY_TESTS = {  # packages, and other plugins: they come after the plugin was listed alone
    "gsegkit-baselines": ["gsegkit-datasets", "gsegkit-eval", "gsegkit-refine", "gsegkit-smp"],
    "gsegkit-eval": ["scikit-image"],
    "gsegkit-ray": ["gsegkit-datasets", "gsegkit-eval", "gsegkit-smp"],
    "gsegkit-spade": ["gsegkit-clustering", "gsegkit-eval", "gsegkit-smp", "onnx", "onnxruntime", "onnxscript"],
}
TESTS_NEEDED = {"gsegkit-resgan": ["gsegkit-foreign"]}  # whose files a plugin's tests read
LIBRARIES = {"gsegkit-foreign", "gsegkit-resgan"}  # distributions without a component of their own

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(shutil.which("uv") is None, reason="needs uv"),
]


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    out = tmp_path_factory.mktemp("wheels")
    subprocess.run(["uv", "build", "--wheel", "--all-packages", "--out-dir", out], cwd=ROOT, check=True)
    return out


def wheel(wheels: Path, dist: str) -> Path:
    (path,) = wheels.glob(f"{dist.replace('-', '_')}-*.whl")
    return path


def clean_environment(folder: Path, *requirements: object, links: Path) -> Path:
    """An environment with these; what they need of this repository comes from the folder `links`."""
    subprocess.run(["uv", "venv", "-q", folder], check=True)
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    install(python, *requirements, links=links)
    return python


def install(python: Path, *requirements: object, links: Path) -> None:
    subprocess.run(
        ["uv", "pip", "install", "-q", "--python", python, "--find-links", links, *map(str, requirements)], check=True
    )


def listed(python: Path, cwd: Path) -> dict:
    done = subprocess.run(
        [python, "-m", "gsegkit", "list", "--json"], capture_output=True, text=True, check=True, cwd=cwd
    )
    return json.loads(done.stdout)


def test_the_core_wheel_alone(wheels, tmp_path):
    files = zipfile.ZipFile(wheel(wheels, "gsegkit")).namelist()
    assert "gsegkit/py.typed" in files
    assert not [name for name in files if name.startswith(("tests/", "plugins/", "docs/"))]
    python = clean_environment(tmp_path / "env", wheel(wheels, "gsegkit"), links=wheels)
    listing = listed(python, tmp_path)
    assert {"toy", "native", "torch", "local"} == {component["name"] for component in listing["components"]}
    assert listing["broken"] == []


def test_the_core_wheel_has_the_recipes_of_the_papers(wheels, tmp_path):
    python = clean_environment(tmp_path / "env", wheel(wheels, "gsegkit"), links=wheels)
    done = subprocess.run(
        [python, "-m", "gsegkit", "reproduce", "--list", "--json"],
        capture_output=True, text=True, check=True, cwd=tmp_path,
    )  # fmt: skip
    names = {line["table"] for line in json.loads(done.stdout)}
    papers = (ROOT / "benchmarks" / "recipes" / "papers").glob("*/table-*.toml")
    assert names == {f"{path.parent.name}-{path.stem.removeprefix('table-')}" for path in papers}


@pytest.mark.parametrize("dist", PLUGINS)
def test_a_plugin_alone(wheels, tmp_path, dist):
    core, own = wheel(wheels, "gsegkit"), wheel(wheels, dist)
    python = clean_environment(
        tmp_path / "env",
        core,
        f"{own}{EXTRAS.get(dist, '')}",
        "pytest",
        "pytest-timeout",
        "hypothesis",
        links=wheels,
    )
    listing = listed(python, tmp_path)
    assert listing["broken"] == []
    assert {component["dist"] for component in listing["components"]} == {"gsegkit", dist} - LIBRARIES
    assert not [c["name"] for c in listing["components"] if c["missing"]]
    if dist in NEEDED_BY_TESTS:
        install(python, *NEEDED_BY_TESTS[dist], links=wheels)
    for name in (dist, *TESTS_NEEDED.get(dist, ())):
        shutil.copytree(ROOT / "plugins" / name / "tests", tmp_path / "plugins" / name / "tests")
    tests = tmp_path / "plugins" / dist / "tests"
    marks = "not slow and not gpu"
    command = [python, "-m", "pytest", "-q", "--import-mode=importlib", "-m", marks, "-p", "no:cacheprovider", tests]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
