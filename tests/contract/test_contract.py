"""The conformance kit over the core's own parts, and over plugins of this machine that this checkout does not hold.

Every plugin of the checkout runs the kit in its own tests/test_contract.py, so that each item runs once.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from gsegkit.plugins import Failure, installed
from gsegkit.testing import parametrize_with_checks

PLUGINS = Path(__file__).parents[2] / "plugins"
TESTED_THERE = {path.parents[1].name for path in PLUGINS.glob("*/tests/test_contract.py")}


@parametrize_with_checks([entry for entry in installed().entries if entry.dist not in TESTED_THERE])
def test_contract(check) -> None:
    check()


def test_every_plugin_of_the_checkout_runs_the_kit() -> None:
    here = {path.name for path in PLUGINS.iterdir() if (path / "pyproject.toml").exists()}
    with_parts = {entry.dist for entry in installed().entries} & here
    assert with_parts == TESTED_THERE


@pytest.mark.parametrize("failure", installed().failures, ids=lambda failure: failure.dist)
def test_no_plugin_is_broken(failure: Failure) -> None:
    pytest.fail(f"{failure.dist} ({failure.entry_point}) could not be loaded: {failure.reason}")


def test_no_name_is_offered_twice() -> None:
    assert installed().conflicts() == {}


def test_every_kind_but_weights_is_there() -> None:
    kinds = {entry.component.kind for entry in installed().entries if entry.dist == "gsegkit"}
    assert kinds == {"generator", "extractor", "kmeans", "launcher"}
