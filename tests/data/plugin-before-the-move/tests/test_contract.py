"""Every check of gsegkit's conformance kit, one test each."""

from __future__ import annotations

from collections.abc import Callable

from gsegkit.testing import parametrize_with_checks


@parametrize_with_checks([("extractor", "my-extractor")])
def test_contract(check: Callable[[], None]) -> None:
    """The component keeps its interface's contract."""
    check()
