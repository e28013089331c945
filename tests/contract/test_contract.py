"""The conformance kit over everything that is installed, one item a check; broken plugins are failures.

Segmenters that share one class differ only in the network that it builds. For such a family the checks that train
again run on the first two members (in the order of their names), and on the others those that construct, train
once, and predict at odd sizes. Nothing else is left out: `gsegkit test-plugin NAME` runs every check of any of them.
"""

from __future__ import annotations

import pytest

from gsegkit.plugins import Entry, Failure, installed
from gsegkit.testing import parametrize_with_checks

FULL = 2  # members of a family that get every check
TRAIN_AGAIN = {"same-seed", "resume", "ignored-pixels", "data-unchanged", "global-state"}


def _select(entry: Entry, check: str) -> bool:
    if entry.component.kind != "segmenter" or check not in TRAIN_AGAIN:
        return True
    family = [e for e in installed().of_kind("segmenter") if e.component.target == entry.component.target]
    return entry in family[:FULL]


@parametrize_with_checks(installed().entries, select=_select)
def test_contract(check) -> None:
    check()


@pytest.mark.parametrize("failure", installed().failures, ids=lambda failure: failure.dist)
def test_no_plugin_is_broken(failure: Failure) -> None:
    pytest.fail(f"{failure.dist} ({failure.entry_point}) could not be loaded: {failure.reason}")


def test_no_name_is_offered_twice() -> None:
    assert installed().conflicts() == {}


def test_every_kind_but_weights_is_there() -> None:
    kinds = {entry.component.kind for entry in installed().entries if entry.dist == "gsegkit"}
    assert kinds == {"generator", "extractor", "kmeans"}
