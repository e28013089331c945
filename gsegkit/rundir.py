"""The run folder: lock, run.json, and stages that are reused when nothing they depend on has changed."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from gsegkit.errors import ArtifactError, InterruptedRunError, RunLockedError, StorageError
from gsegkit.storage import atomic_write_json, is_temporary, read_json, storage_errors

STAGE_FILE = "stage.json"
RUN_FILE = "run.json"
CONFIG_FILE = "config.json"
LOCK_FILE = ".lock"
RECIPE_FILE = "recipe.json"
WORK_FILE = "work.json"  # of a trained part: what it was made from
IMAGES_FILE = "images.json"  # of a run: the images that it was fitted to, with their hashes
HASHES_FILE = "hashes.json"  # what files were hashed to, with the stamps that they had then
PHOTOGRAPHS_FILE = "photographs.json"  # of a run: the photographs of its self-training, with their hashes
SCORES_FILE = "metrics.json"  # of the stage `report`: the evaluator's numbers
CHECKPOINT_FILE = "checkpoint.safetensors"  # of a stage: its training loop's state
FIGURES_FOLDER = "figures"  # of a stage: what `RunContext.figure` left
JOBS_FOLDER = "jobs"  # of a run: what a launcher needs for jobs of a cluster: scripts, logs
METRICS_FILE = "metrics.jsonl"  # of a stage: its training loop's numbers
STAGES = ("generator", "extractor", "dataset", "selftrain", "segmenter", "report")  # in the order they run


def stage_name(stage: str, round: int = 0) -> str:
    """Folder name of a stage: round 0 has no number, round r is `stage-r`."""
    return stage if round == 0 else f"{stage}-{round}"


def split_round(name: str) -> tuple[str, int]:
    """`"segmenter-2"` -> `("segmenter", 2)`; the inverse of `stage_name`."""
    match = re.fullmatch(r"(.+?)-(\d+)", name)
    return (match[1], int(match[2])) if match else (name, 0)


def stage_folders(run: Path) -> list[Path]:
    """Sub-folders of a run that are stages, in the order they ran."""
    marks = (STAGE_FILE, f"{STAGE_FILE}.started", METRICS_FILE)
    found = [path for path in run.iterdir() if path.is_dir() and any((path / mark).exists() for mark in marks)]
    return sorted(found, key=_stage_order)


def last_round(run: Path, stage: str, holding: str, rounds: int | None = None) -> Path | None:
    """Folder of the last round of a stage (of the first `rounds`) that holds the file `holding`; None without one."""
    found = {split_round(path.parent.name): path.parent for path in run.glob(f"{stage}*/{holding}")}
    numbers = [number for name, number in found if name == stage and (rounds is None or number < rounds)]
    return found[stage, max(numbers)] if numbers else None


def _stage_order(path: Path) -> tuple[bool, int, int, str]:
    base, round = split_round(path.name)
    position = STAGES.index(base) if base in STAGES else len(STAGES)
    return base == "report", round, position, path.name


class RunFolder:
    """A folder `runs/<name>/` with one sub-folder a stage.

    A stage is finished when its `stage.json` names its key. The key is a hash of everything the result depends on, so
    the same command run again reloads finished stages, continues the unfinished one, and remakes what changed.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder's lock; made on first use.

        Raises:
            RunLockedError: another process holds it; names the process.
            StorageError: the folder cannot be made or written, or its file system has no locks.
        """
        path = self.path / LOCK_FILE
        lock = FileLock(path, timeout=0, fallback_to_soft=False)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout:
            raise RunLockedError(
                f"run folder '{self.path}' is in use by {_holder(path)}",
                "wait for it, or choose another folder with --out",
            ) from None
        except (OSError, NotImplementedError) as error:
            raise _unusable(self.path, error) from None
        try:
            with storage_errors(path):
                path.write_text(f"process {os.getpid()} on {socket.gethostname()} since {_now()}", encoding="utf-8")
            for left in filter(is_temporary, self.path.rglob(".*.tmp*")):
                if left.is_file() and not left.is_symlink():
                    left.unlink(missing_ok=True)
            yield
        finally:
            lock.release()

    @contextlib.contextmanager
    def recorded(self, warnings: Sequence[str], ended: str = "done", **facts: Any) -> Iterator[None]:
        """Keep run.json while a run works: facts, then how it `ended`, how long it took, and the warnings so far."""
        started = time.time()
        self.write_status("running", **facts)
        try:
            yield
        except BaseException as error:
            stopped = isinstance(error, InterruptedRunError | KeyboardInterrupt)
            self.write_status("interrupted" if stopped else "failed", error=str(error), warnings=list(warnings))
            raise
        self.write_status(ended, error=None, seconds=round(time.time() - started, 1), warnings=list(warnings))

    # ---- stages ------------------------------------------------------------------------------------------------

    def stage_done(self, folder: Path, key: str) -> bool:
        """True when the stage in `folder` is finished with this key and its files are all there, unchanged in size."""
        record = _read_record(folder / STAGE_FILE)
        if record is None or record.get("key") != key:
            return False
        files = record.get("files", {})
        return isinstance(files, dict) and all(_size(folder / name) == size for name, size in files.items())

    def begin_stage(self, folder: Path, key: str) -> None:
        """Prepare a stage: keep what an interrupted run of the same key left, remove anything else."""
        if folder.is_symlink():  # what it points to is not ours to remove
            raise StorageError(f"stage folder '{folder}' is a symbolic link", "remove the link, then run again")
        started = folder / f"{STAGE_FILE}.started"
        finished = _read_record(folder / STAGE_FILE)
        record = finished or _read_record(started)
        if folder.exists() and (record is None or record.get("key") != key):
            shutil.rmtree(folder)
        (folder / STAGE_FILE).unlink(missing_ok=True)
        atomic_write_json(started, {"key": key})

    def stage_begun(self, folder: Path, key: str) -> bool:
        """True when the stage in `folder` was prepared with this key, and is not finished."""
        return (_read_record(folder / f"{STAGE_FILE}.started") or {}).get("key") == key

    def end_stage(self, folder: Path, key: str, seconds: float, facts: Mapping[str, Any] | None = None) -> None:
        """Commit a stage: record its key and the sizes of its files. Written last."""
        (folder / f"{STAGE_FILE}.started").unlink(missing_ok=True)
        files = {
            str(path.relative_to(folder)): path.stat().st_size
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.name != STAGE_FILE
        }
        record = {"key": key, "seconds": round(seconds, 3), "facts": dict(facts or {}), "files": files}
        atomic_write_json(folder / STAGE_FILE, record)

    def stage_record(self, folder: Path) -> dict[str, Any]:
        """What `end_stage` wrote; {} for an unfinished stage."""
        return _read_record(folder / STAGE_FILE) or {}

    # ---- the run's own files -------------------------------------------------------------------------------------

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Store the resolved configuration, from which the run can be replayed."""
        atomic_write_json(self.path / CONFIG_FILE, dict(config))

    def read_config(self) -> dict[str, Any]:
        """The stored configuration.

        Raises:
            ArtifactError: this is not a run folder.
        """
        path = self.path / CONFIG_FILE
        if not path.exists():
            raise ArtifactError(f"'{self.path}' is not a run folder (no {CONFIG_FILE})", "give a folder made by run")
        record = read_json(path)
        if not isinstance(record, dict):
            raise ArtifactError(f"'{path}' is not the plan of a run", "it was changed or damaged; make the run again")
        return record

    def write_status(self, status: str, **facts: Any) -> None:
        """Update run.json: status ("running", "done", "failed", "interrupted") and facts about the run."""
        record = _read_record(self.path / RUN_FILE) or {}
        record.update(status=status, updated=_now(), **facts)
        atomic_write_json(self.path / RUN_FILE, record)

    def read_status(self) -> dict[str, Any]:
        """run.json, {} when there is none."""
        return _read_record(self.path / RUN_FILE) or {}


def stage_key(*parts: Any) -> str:
    """Hash of JSON-ready values: what a stage's result depends on."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S")


def _holder(path: Path) -> str:
    """What the process that holds the lock wrote into it."""
    try:
        return path.read_text(encoding="utf-8").strip() or "another process"
    except OSError:
        return "another process"


def _unusable(folder: Path, error: Exception) -> StorageError:
    number = error.errno if isinstance(error, OSError) else errno.ENOSYS
    if number in (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP):
        return StorageError(
            f"the file system of run folder '{folder}' cannot lock files, so two runs could overwrite each other there",
            "choose a folder on a local disk with --out",
        )
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return StorageError(f"run folder '{folder}' cannot be used: {reason}", "choose another with --out")


def _read_record(path: Path) -> dict[str, Any] | None:
    try:
        record = read_json(path)
    except ArtifactError:
        return None
    return record if isinstance(record, dict) else None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1
