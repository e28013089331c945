"""Results: one schema for all, filled by the runner alone."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from benchmarks.recipe import ROOT, Recipe
from gsegkit.errors import GsegkitError
from gsegkit.storage import read_json

RESULTS = ROOT / "benchmarks" / "results"
LIBRARIES = ("torch", "numpy", "scipy", "scikit-learn", "timm", "segmentation-models-pytorch", "faiss-cpu")
#: Results of before the runner keep this word, and null for what was not noted then.
BEFORE = "recorded before the runner"
#: Verdict of those: their recipe was written afterwards and expects what they hold, so there is nothing to judge.
UNJUDGED = "recorded before the runner; the recipe's expected values are taken from this file"


class Result(BaseModel):
    """A file of `benchmarks/results`. Null: not known, which only results of before the runner may have.

    Attributes:
        recipe, what, command, protocol, options, seeds, threads, data: what was run.
        origin: who wrote this: "runner" or `BEFORE`.
        commit, dirty: the code; dirty: tracked files differed from the commit. In results of before the runner it is
            the commit that recorded the numbers, not always the one that made them.
        date, versions, device, cpus, load_average: when and where; load before and after.
        seconds, cpu_seconds, peak_mb: of the whole.
        values: what was measured.
        checks, verdict: the recipe's expected numbers beside those found; of results of before the runner no checks,
            and `UNJUDGED`.
        notes: what else a reader must know.
    """

    model_config = ConfigDict(extra="forbid")

    format: Literal[1] = 1
    recipe: str
    what: str
    command: str | None
    protocol: str | None
    options: dict[str, Any] | None
    seeds: list[int] | None
    threads: int | None
    data: list[str]
    origin: Literal["runner", "recorded before the runner"]
    commit: str | None
    dirty: bool | None
    date: str | None
    versions: dict[str, str] | None
    device: str | None
    cpus: int | None
    load_average: list[float] | None
    seconds: float | None
    cpu_seconds: float | None
    peak_mb: int | None
    notes: list[str] = []
    checks: list[dict[str, Any]]
    verdict: Literal[
        "as expected",
        "not as expected",
        "nothing expected",
        "recorded before the runner; the recipe's expected values are taken from this file",
    ]
    values: dict[str, Any]


def judged(recipe: Recipe, values: dict[str, Any], origin: str = "runner") -> dict[str, Any]:
    """`checks` and `verdict` of a result. One of before the runner is not judged by what was taken from itself."""
    if origin == BEFORE:
        return {"checks": [], "verdict": UNJUDGED if recipe.expected else "nothing expected"}
    checks = [expected.check(values) for expected in recipe.expected]
    good = all(check["ok"] for check in checks)
    return {
        "checks": checks,
        "verdict": ("as expected" if good else "not as expected") if checks else "nothing expected",
    }


def read_result(name: str, folder: Path = RESULTS) -> Result:
    """The result of a recipe.

    Raises:
        GsegkitError: there is none.
    """
    path = folder / f"{name}.json"
    if not path.exists():
        raise GsegkitError(f"there is no result '{name}'", f"python -m benchmarks run {name}")
    return Result(**read_json(path))


# ---- the machine and the code ------------------------------------------------------------------------------------


def versions() -> dict[str, str]:
    """Of Python, of gsegkit's distributions and of the libraries that numbers depend on."""
    found = {"python": platform.python_version()}
    ours = sorted(d.name for d in metadata.distributions() if (d.name or "").startswith("gsegkit"))
    for name in (*ours, *LIBRARIES):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def device_name(device: str) -> str:
    """The processor's or the GPU's name."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def commit() -> str | None:
    """The checked-out commit, or None outside a checkout."""
    return _git("rev-parse", "HEAD") or None


def changed(paths: Iterable[Path] = ()) -> list[str]:
    """Tracked files that differ from the commit, results and pages left out; of `paths`, untracked ones too."""
    found = _git("status", "--porcelain", "-uno", "--", ".", ":!benchmarks/results", ":!*.md").splitlines()
    for path in paths:
        found += _git("status", "--porcelain", "--", str(path)).splitlines()
    return sorted({line[3:] for line in found})


def load() -> float:
    """The load average of the last minute."""
    return round(os.getloadavg()[0], 2)


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.rstrip("\n") if done.returncode == 0 else ""
