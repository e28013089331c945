"""Opens an address in the user's browser."""

from __future__ import annotations

import os
import sys
import tempfile
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path


@contextmanager
def browsing(url: str) -> Iterator[None]:
    """Open an address; "" = do not. Where there is no screen, nothing happens: a browser in the terminal is no help.

    What a program is started with can be read by every user of a machine, so the browser gets a file that only this
    user may read, and that leads to the address. It exists inside the block only.
    """
    if not url or not _has_screen():
        yield
        return
    handle, name = tempfile.mkstemp(prefix="gsegkit-", suffix=".html")  # mode 600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(f'<!doctype html><meta http-equiv="refresh" content="0;url={escape(url)}">')
        webbrowser.open(Path(name).as_uri())
        yield
    finally:
        Path(name).unlink(missing_ok=True)


def _has_screen() -> bool:
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
