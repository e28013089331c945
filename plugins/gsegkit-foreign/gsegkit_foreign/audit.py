"""Watching a reader of untrusted files: what it executed, opened, and allocated.

An audit hook cannot be taken back, so the reader runs in a child process:

    python -m gsegkit_foreign.audit package.module:function GOOD.pt -- HOSTILE.pkl ...

The function is called with each path; the files before `--` only warm it up (lazy imports). One
JSON line a file comes back.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gsegkit.errors import ArtifactError

_FORBIDDEN = (
    "builtins.breakpoint", "compile", "ctypes.", "exec", "ftplib.", "import", "marshal.", "object.__setattr__",
    "os.", "pickle.", "pty.", "shutil.", "smtplib.", "socket.", "subprocess.", "tempfile.", "urllib.", "webbrowser.",
)  # fmt: skip
_HARMLESS = ("os.listdir", "os.scandir", "os.walk", "os.fwalk")


@dataclass(frozen=True)
class Audit:
    """What happened when one file was read.

    Attributes:
        name: file name.
        outcome: `refused` (ArtifactError), `read`, or `leaked` (any other exception).
        message: the exception's text.
        events: audit events that a reader has no business to raise.
        grown: bytes by which the peak memory of the process grew.
        seconds: processor seconds.
    """

    name: str
    outcome: str
    message: str
    events: tuple[str, ...]
    grown: int
    seconds: float


def audit(target: str, warm: Sequence[Path], files: Sequence[Path], timeout: float = 280) -> dict[str, Audit]:
    """Read every file with `target` (`"module:function"`) in one child process; file name -> what happened.

    A file that kills the child ends the list there: the files after it are missing from the result.
    """
    command = [sys.executable, "-m", "gsegkit_foreign.audit", target, *map(str, warm), "--", *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    if not done.stdout:
        raise RuntimeError(f"the child wrote nothing: {done.stderr[-2000:]}")
    rows = (json.loads(line) for line in done.stdout.splitlines())
    return {row["name"]: Audit(**{**row, "events": tuple(row["events"])}) for row in rows}


def _reset_peak() -> None:
    """Forget the peak so far, where the system can (Linux); importing torch alone peaks high."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak_bytes() -> int:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def _main(arguments: list[str]) -> None:
    import time

    split = arguments.index("--")
    module, _, function = arguments[0].partition(":")
    read = getattr(importlib.import_module(module), function)
    events: list[str] = []
    armed = False

    def hook(event: str, details: tuple[Any, ...]) -> None:
        if not armed or event in _HARMLESS:
            return
        writing = event == "open" and len(details) > 2 and _writes(details[1], details[2])
        if writing or event.startswith(_FORBIDDEN):
            events.append(f"{event} {details!r:.120}")

    sys.addaudithook(hook)
    for path in arguments[1:split]:
        read(Path(path))
    for path in arguments[split + 1 :]:
        events.clear()
        _reset_peak()
        before, start = _peak_bytes(), time.process_time()
        armed = True
        try:
            read(Path(path))
            outcome, message = "read", ""
        except ArtifactError as error:
            outcome, message = "refused", str(error)
        except BaseException as error:  # reported, whatever it is
            outcome, message = "leaked", f"{type(error).__name__}: {error}"
        armed = False
        row = {
            "name": Path(path).name,
            "outcome": outcome,
            "message": message,
            "events": list(events),
            "grown": _peak_bytes() - before,
            "seconds": time.process_time() - start,
        }
        sys.stdout.write(json.dumps(row) + "\n")
        sys.stdout.flush()


def _writes(mode: Any, flags: Any) -> bool:
    import os

    if isinstance(mode, str):
        return any(letter in mode for letter in "wax+")
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


if __name__ == "__main__":
    _main(sys.argv[1:])
