"""Checks of launchers: a small run through them, and one that cannot be."""

from __future__ import annotations

import json
import tempfile
import threading
from pathlib import Path

from gsegkit.errors import GsegkitError
from gsegkit.launching import Launcher, Request
from gsegkit.plugins import installed
from gsegkit.rundir import RunFolder
from gsegkit.testing.subject import CheckSkippedError, Subject

TOY = ("--gen", "toy", "--extractor", "native", "--device", "cpu", "--samples", "8", "-o", "gen.size=32")


def _launched(subject: Subject, out: Path, arguments: tuple[str, ...], workers: int) -> tuple[int, list[str]]:
    """The status that a run of the launcher ends with, and what was said; an error of a user is status 2."""
    part: Launcher = subject.make()
    said: list[str] = []
    request = Request(("run", *arguments, "--out", str(out)), out, out.parent, workers, "cpu")
    try:
        return part.launch(request, said.append, threading.Event()), said
    except GsegkitError as error:
        return error.exit_code, [*said, str(error)]


def check_failing_run(subject: Subject) -> None:
    """A run that fails is told: by another status than 0, or by an error."""
    with tempfile.TemporaryDirectory(prefix="gsegkit-kit-") as folder:
        status, _ = _launched(subject, Path(folder) / "run", (*TOY, "--seg", "no-such-segmenter"), 1)
    subject.expect(status == 2, "launch", f"a run with an unknown part ended with {status}, not with 2")


def check_launched_run(subject: Subject) -> None:
    """Two processes carry out a run together, and it is finished when `launch` returns."""
    segmenters = [e for e in installed().of_kind("segmenter") if "without-pairs" not in e.component.provides]
    if not segmenters or "masks" not in installed().available("evaluator"):
        raise CheckSkippedError("needs a segmenter that learns from pairs, and the evaluator 'masks'")
    arguments = (*TOY, "--seg", segmenters[0].full_name, "--smoke")
    with tempfile.TemporaryDirectory(prefix="gsegkit-kit-") as folder:
        out = Path(folder) / "run"
        status, said = _launched(subject, out, arguments, 2)
        subject.expect(status == 0, "launch", f"ended with {status}: {said[-5:]}")
        record = RunFolder(out).read_status()
        subject.expect(record.get("status") == "done", "launch", f"returned, and the run is {record.get('status')}")
        subject.expect(record.get("processes") == 2, "launch", f"{record.get('processes')} processes, not 2")
        stages = json.loads((out / "dataset/stage.json").read_text(encoding="utf-8"))
        subject.expect(stages["facts"]["pairs"] > 0, "launch", "the run has no pairs")


LAUNCHER_CHECKS = (check_failing_run, check_launched_run)
