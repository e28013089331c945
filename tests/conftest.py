"""Fixtures of the core tests: a registry of the built-in and a few small parts, independent of installed plugins."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from gsegkit.builtin import hook as builtin
from gsegkit.context import RunContext
from gsegkit.engine.plan import Plan
from gsegkit.plugins import Registry


def _parts():
    """tests/parts.py as an importable module, whatever pytest's import mode."""
    name = "gsegkit_core_test_parts"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).parent / "parts.py")
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture
def registry() -> Registry:
    registry = Registry()
    registry.add(builtin, "gsegkit", "0", "builtin")
    registry.add(_parts().PartsPlugin(), "test-parts", "1")
    assert not registry.failures, registry.failures[0].error
    return registry


@pytest.fixture(scope="session")
def parts():
    return _parts()


@pytest.fixture
def ctx(tmp_path: Path) -> RunContext:
    return RunContext(tmp_path / "work", checkpoint_seconds=0)


@pytest.fixture
def plan() -> Plan:
    return Plan.from_options(
        {"gen": "toy", "extractor": "native", "seg": "tiny", "eval": "count", "num_samples": 40, "device": "cpu"},
        ["gen.size=32", "seg.steps=25"],
        batch_size=8,
    )


@pytest.fixture
def call(monkeypatch, capsys):
    """Run the command in this process; returns (exit code, standard output, standard error)."""

    from gsegkit.cli.main import main

    def run(*args):
        monkeypatch.setattr(sys, "argv", ["gsegkit", *map(str, args)])
        try:
            main()
            code = 0
        except SystemExit as leaving:
            code = leaving.code or 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture(autouse=True)
def _one_thread():
    """Bit equality is promised for a fixed number of threads."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def damage_page():
    """Overwrites the first bytes of the pixels of a TIFF's second page."""

    def damage(path: Path) -> None:
        with Image.open(path) as image:
            image.seek(1)
            start = image.tag_v2[273][0]  # StripOffsets
        data = bytearray(path.read_bytes())
        data[start : start + 40] = b"\xff" * 40
        path.write_bytes(data)

    return damage
