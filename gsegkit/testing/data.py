"""Finding the benchmark images that tests and benchmarks use when they are there."""

from __future__ import annotations

import os
from pathlib import Path

DATA_VARIABLE = "GSEGKIT_DATA"


def data_root(start: Path | None = None) -> Path | None:
    """The folder of benchmark data sets: `$GSEGKIT_DATA`, else `shared/data` beside a parent of `start` (cwd)."""
    if os.environ.get(DATA_VARIABLE):
        return Path(os.environ[DATA_VARIABLE])
    here = (start or Path.cwd()).resolve()
    for parent in (here, *here.parents):
        candidate = parent.parent / "shared" / "data"
        if candidate.is_dir():
            return candidate
    return None


def benchmark_data(name: str) -> Path:
    """The folder of one benchmark data set, e.g. `"wbc"`; skips the running test when it is absent."""
    root = data_root()
    if root is None or not (root / name).is_dir():
        import pytest

        pytest.skip(f"benchmark data '{name}' is not available (set {DATA_VARIABLE})")
    return root / name
