"""What a run was computed with. Imports no torch."""

from __future__ import annotations

import platform


def environment() -> dict[str, str]:
    """Versions and machine facts for run.json; torch is read from its metadata, not imported."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version(), "system": platform.platform()}
    for name in ("gsegkit", "torch", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found
