"""A browser for tests of pages, and what axe-core finds in a page. Without Chromium or playwright a test is skipped."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
LEAST_PASSES = 10  # checks of axe-core that a page passes; fewer, and it did not look at the page


@contextmanager
def chromium(profile: Path, **options: Any) -> Iterator[Any]:
    """A headless browser (playwright's persistent context) in an empty folder for its profile.

    Args:
        profile: the folder.
        options: of `launch_persistent_context`, such as `has_touch=True`.
    """
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("needs a Chromium; .ci/run installs Debian's")
    with playwright.sync_playwright() as driver:
        context = driver.chromium.launch_persistent_context(
            profile, executable_path=CHROMIUM, headless=True, accept_downloads=True,
            args=["--headless", "--no-sandbox", "--disable-gpu"], **options,
        )  # fmt: skip
        yield context
        context.close()


def serious_findings(page: Any) -> list[tuple[str, Any, str]]:
    """What axe-core calls serious or critical on an open page: (rule, where, what to mend).

    Raises:
        AssertionError: it passed hardly any check, so it did not see the page.
    """
    axe_core = pytest.importorskip("axe_playwright_python.sync_playwright")
    found = axe_core.Axe().run(page).response
    assert len(found["passes"]) > LEAST_PASSES, "axe-core did not see the page"
    return [
        (one["id"], one["nodes"][0]["target"], one["nodes"][0]["failureSummary"])
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
    ]
