"""The check on one card, in at most eight minutes: every CUDA path once, and the speeds that matter.

Each item is measured in a process that does them one after the other (device_items.py). One that fails writes its
error; one that takes too long, or takes the process with it, is ended and noted, and a new process goes on with the
next. The tests marked `gpu` come last and have all the time that is left.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import torch

from benchmarks.protocols.common import ROOT, Lab, say
from benchmarks.protocols.device_items import ITEMS
from gsegkit.errors import GsegkitError

WORKER = ("-m", "benchmarks.protocols.device_items")
STARTING = 60.0  # seconds that a process may take before its first item
TINY_TIMES = 4  # as much time on a CPU, which compiles slowly
GRACE = 10.0  # seconds that an item may take beyond its own: it looks at them only now and then
TESTS = "tests"
OUTCOME = re.compile(r"^(\S+::\S.*?) (PASSED|FAILED|ERROR|SKIPPED)", re.M)


def check(lab: Lab, seconds: float = 470, items: list[str] | None = None, tests: str = "") -> dict[str, Any]:
    """Every item, or those named; `tests` are further words for pytest.

    Raises:
        GsegkitError: an item that there is not.
    """
    wanted = [*ITEMS, TESTS] if items is None else items
    unknown = [name for name in wanted if name not in (*ITEMS, TESTS)]
    if unknown:
        raise GsegkitError(f"there is no item '{unknown[0]}'", f"items: {', '.join([*ITEMS, TESTS])}")
    seconds *= TINY_TIMES if lab.tiny else 1
    until = time.monotonic() + seconds
    found: dict[str, Any] = {}
    queue = [name for name in wanted if name != TESTS]
    while queue:
        done = _one_process(lab, queue, until)
        found |= done
        queue = [name for name in queue if name not in done]
    if TESTS in wanted:
        found[TESTS] = _tests(lab, tests.split(), until - time.monotonic())
    return {name: found[name] for name in wanted}


def _one_process(lab: Lab, names: list[str], until: float) -> dict[str, Any]:
    """Items until the process ends or has to be ended; the item that was at fault is among them."""
    left = until - time.monotonic()
    allowed = {name: min(ITEMS[name][1] * (TINY_TIMES if lab.tiny else 1), left) for name in names}
    if left < 5:
        return {name: {"skipped": "no time was left"} for name in names}
    setting = {"items": names, "device": lab.device.type, "tiny": lab.tiny, "work": str(lab.work), "seconds": allowed,
               "threads": torch.get_num_threads()}  # fmt: skip
    words = [sys.executable, *WORKER, json.dumps(setting)]
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines: Queue[str | None] = Queue()
    threading.Thread(target=_read, args=(process.stdout, lines), daemon=True).start()
    found: dict[str, Any] = {}
    name, deadline = names[0], time.monotonic() + STARTING
    problem = ""
    while not problem:
        try:
            line = lines.get(timeout=max(0.0, min(deadline, until) - time.monotonic()))
        except Empty:
            problem = "it was ended: its time was over"
            break
        if line is None:
            break
        said = json.loads(line)
        if "begins" in said:
            name, deadline = said["begins"], time.monotonic() + allowed[said["begins"]] + GRACE
        else:
            found[said["item"]] = said["found"]
            say(f"{said['item']}: {said['found']}")
            deadline = time.monotonic() + STARTING
    if problem:
        process.kill()
    code = process.wait()
    if len(found) < len(names) and name not in found:
        found[name] = {"error": problem or f"the process ended with {code}"}
        say(f"{name}: {found[name]}")
    return found


def _read(stream: Any, lines: Queue[str | None]) -> None:
    for line in stream:
        if line.startswith("{"):
            lines.put(line)
    lines.put(None)


def _tests(lab: Lab, words: list[str], seconds: float) -> dict[str, Any]:
    """The tests marked gpu: how many passed, failed and were skipped, and the names of those that failed."""
    if seconds < 10:
        return {"skipped": "no time was left"}
    lab.work.mkdir(parents=True, exist_ok=True)
    log = lab.work / "tests.txt"
    given = words or (["tests/gpu", "-k", "kmeans"] if lab.tiny else ["tests", "plugins"])
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-m",
        "gpu",
        "-v",
        "-n",
        "0",
        "--tb=short",
        "-p",
        "no:cacheprovider",
        *given,
    ]
    environment = {**os.environ, "GSEGKIT_TEST_DEVICE": lab.device.type, "COLUMNS": "400"}
    over = False
    began = time.monotonic()
    with open(log, "w", encoding="utf-8") as file:
        try:
            code = subprocess.run(
                command, cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT, timeout=seconds
            ).returncode
        except subprocess.TimeoutExpired:
            over, code = True, -1
    text = Path(log).read_text(encoding="utf-8", errors="replace")
    outcomes = OUTCOME.findall(text)
    names = {word: [name for name, outcome in outcomes if outcome == word] for word in ("FAILED", "ERROR", "SKIPPED")}
    facts = {"passed": sum(outcome == "PASSED" for _, outcome in outcomes), "failed": names["FAILED"] + names["ERROR"],
             "skipped": names["SKIPPED"], "exit": code, "item_seconds": round(time.monotonic() - began, 1)}  # fmt: skip
    if over:
        facts["stopped"] = f"the time was over after {len(outcomes)} tests"
    if facts["failed"] or not outcomes:
        facts["tail"] = text[-3000:]
    return facts
