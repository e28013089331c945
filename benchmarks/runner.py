"""Runs a recipe and writes its result."""

from __future__ import annotations

import datetime
import os
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.protocols.common import Lab
from benchmarks.recipe import RECIPES, ROOT, Recipe
from benchmarks.result import RESULTS, Result, changed, commit, device_name, judged, load, versions
from gsegkit.errors import GsegkitError
from gsegkit.storage import atomic_write_json, read_json


def run(
    recipe: Recipe,
    *,
    work: Path | None = None,
    out: Path | None = None,
    device: str = "cpu",
    tiny: bool = False,
    dirty: bool = False,
) -> Result:
    """Measure, judge, and write the result.

    Args:
        recipe: what to run.
        work: keeps finished steps, so that the same command continues; None = a temporary folder.
        out: folder of the result; None = `benchmarks/results`.
        device: to compute on.
        tiny: three steps of everything and one seed, to see that it works. Wants `out`.
        dirty: accept code that is not committed; the result says so.

    Raises:
        GsegkitError: uncommitted code or recipe without `dirty`, missing data, an option that the protocol lacks.
    """
    if tiny and out is None:
        raise GsegkitError("a tiny run is not a result", "give a folder with --out")
    differing = changed([RECIPES / f"{recipe.name}.toml"])
    if differing and not dirty:
        raise GsegkitError(
            f"not committed: {', '.join(differing[:5])}", "commit first, or add --dirty and the result says so"
        )
    began, cpu, before, code = time.perf_counter(), _cpu_seconds(), load(), commit()
    torch.set_num_threads(recipe.threads)
    with tempfile.TemporaryDirectory(prefix="gsegkit-benchmark-") as scratch:
        values = _values(recipe, (work or Path(scratch)).resolve(), device, tiny)
    result = Result(
        **_described(recipe), origin="runner", commit=code, dirty=bool(differing),
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"), versions=versions(),
        device=device_name(device), cpus=os.cpu_count(), load_average=[before, load()],
        seconds=round(time.perf_counter() - began, 1), cpu_seconds=round(_cpu_seconds() - cpu, 1), peak_mb=_peak_mb(),
        values=values, **judged(recipe, values) if not tiny else {"checks": [], "verdict": "nothing expected"},
    )  # fmt: skip
    atomic_write_json((out or RESULTS) / f"{recipe.name}.json", result.model_dump(mode="json"))
    return result


def _described(recipe: Recipe) -> dict[str, Any]:
    facts = recipe.model_dump(include={"what", "protocol", "options", "seeds", "threads", "data"})
    return {"recipe": recipe.name, "command": shlex.join(recipe.words()), **facts}


def _values(recipe: Recipe, work: Path, device: str, tiny: bool) -> dict[str, Any]:
    lab = Lab(work, torch.device(device), tuple(recipe.seeds[:1] if tiny else recipe.seeds), tiny)
    for name in recipe.data:
        lab.data(name)
    if recipe.protocol is not None:
        return recipe.function()(lab, **recipe.options)
    return _command(recipe, lab)


def _command(recipe: Recipe, lab: Lab) -> dict[str, Any]:
    """Run a command line; its exit code, seconds, and the JSON files that it leaves behind."""
    lab.work.mkdir(parents=True, exist_ok=True)
    words = [
        word.format(work=lab.work, **{name: str(lab.data(name)) for name in recipe.data}) for word in recipe.command
    ]
    words += ["--smoke"] if lab.tiny else []
    words[0] = str(Path(sys.executable).parent / words[0])
    environment = {**os.environ, "OMP_NUM_THREADS": str(recipe.threads)}
    began = time.perf_counter()
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise GsegkitError(f"'{words[0]}' ended with {done.returncode}: {done.stderr[-500:]}", "run it by hand")
    return {
        "seconds": round(time.perf_counter() - began, 1),
        "peak_mb": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024,
        **{name: read_json(lab.work / file) for name, file in recipe.reads.items()},
    }


def _cpu_seconds() -> float:
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def _peak_mb() -> int:
    """Of this process, or of the largest one that it started."""
    return max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) // 1024
