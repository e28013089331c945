"""The run folder: lock, run.json, and stages that are reused when nothing they depend on has changed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import shutil
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from gsegkit.errors import ArtifactError, RunLockedError, StorageError
from gsegkit.storage import atomic_write_json

STAGE_FILE = "stage.json"
RUN_FILE = "run.json"
CONFIG_FILE = "config.json"
LOCK_FILE = ".lock"


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
            StorageError: the folder cannot be made or written.
        """
        path = self.path / LOCK_FILE
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            handle = open(path, "a+", encoding="utf-8")  # noqa: SIM115 (closed below; lives as long as the lock)
        except OSError as error:
            raise StorageError(
                f"run folder '{self.path}' cannot be used: {error.strerror}",
                "choose another with --out",
            ) from None
        with handle:
            if not _try_lock(handle):
                handle.seek(0)
                raise RunLockedError(
                    f"run folder '{self.path}' is in use by {handle.read().strip() or 'another process'}",
                    "wait for it, or choose another folder with --out",
                )
            handle.seek(0)
            handle.truncate()
            handle.write(f"process {os.getpid()} on {socket.gethostname()} since {_now()}")
            handle.flush()
            _remove_temporaries(self.path)
            yield

    # ---- stages ------------------------------------------------------------------------------------------------

    def stage_done(self, folder: Path, key: str) -> bool:
        """True when the stage in `folder` is finished with this key and its files are all there, unchanged in size."""
        record = _read_record(folder / STAGE_FILE)
        if record is None or record.get("key") != key:
            return False
        files = record.get("files", {})
        return all(_size(folder / name) == size for name, size in files.items())

    def begin_stage(self, folder: Path, key: str) -> None:
        """Prepare a stage: keep what an interrupted run of the same key left, remove anything else."""
        started = folder / f"{STAGE_FILE}.started"
        finished = _read_record(folder / STAGE_FILE)
        record = finished or _read_record(started)
        if folder.exists() and (record is None or record.get("key") != key):
            shutil.rmtree(folder)
        (folder / STAGE_FILE).unlink(missing_ok=True)
        atomic_write_json(started, {"key": key})

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
        record = _read_record(self.path / CONFIG_FILE)
        if record is None:
            raise ArtifactError(f"'{self.path}' is not a run folder (no {CONFIG_FILE})", "give a folder made by run")
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


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S")


def _try_lock(handle: IO[str]) -> bool:
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(handle.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _remove_temporaries(folder: Path) -> None:
    for path in folder.rglob(".*.tmp"):
        path.unlink(missing_ok=True)


def _read_record(path: Path) -> dict[str, Any] | None:
    try:
        record = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1
