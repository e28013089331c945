"""Writes a data set for other tools, streamed, all or nothing. The formats are in `formats`."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from gsegkit.context import RunContext
from gsegkit.dataset import LabelledDataset
from gsegkit.errors import ConfigError, DataError
from gsegkit.exports.formats import DATASET_FORMATS, load_writer
from gsegkit.exports.places import refuse_stage, unique_name
from gsegkit.exports.writers import CLASSES_FILE, DatasetWriter, classes_yaml, write_text
from gsegkit.rundir import LOCK_FILE
from gsegkit.storage import is_temporary, storage_errors, temporary_beside

CONTENT = "content"  # of the hidden folder: what becomes the output
FOR_FILE = "for.txt"  # of the hidden folder: the name of the output


@dataclass(frozen=True)
class ExportSummary:
    """What export_dataset made.

    Attributes:
        path: the new folder.
        format: its format.
        pairs: number of (image, mask) pairs in it.
        linked: it holds the data set's own files, which had this format already; nothing was copied.
    """

    path: Path
    format: str
    pairs: int
    linked: bool = False

    def __str__(self) -> str:
        how = f"{self.format}, the same files, not copied" if self.linked else self.format
        return f"{self.pairs} pairs in {self.path} ({how})"


def export_dataset(
    dataset: LabelledDataset, out: str | Path, format: str = "png", ctx: RunContext | None = None
) -> ExportSummary:
    """Write a data set for another tool, pair by pair. The folder appears when it is complete, or not at all.

    Files that have the format already get a second name there (a hard link) and take no space; on another disk they are
    copied.

    Args:
        dataset: any pairs; images may differ in size.
        out: the folder to make; an empty one may be there.
        format: a name of `gsegkit.exports.formats.DATASET_FORMATS`.
        ctx: progress and stop.

    Raises:
        ConfigError: unknown format.
        DataError: `out` holds something already, or the data set is empty.
        MissingDependencyError: the format needs an extra that is not installed.
        StorageError: it cannot be written; nothing is left behind.
    """
    out = Path(out)
    ctx = ctx or RunContext(folder=out)
    if format not in DATASET_FORMATS:
        raise ConfigError(f"no data set format '{format}'", f"formats: {', '.join(DATASET_FORMATS)}")
    if len(dataset) == 0:
        raise DataError("the data set is empty", "relax the refiners or make more samples")
    if ready := dataset.ready(format):
        with new_folder(out) as folder:
            linked = _named_again(ready, folder, dataset)
        return ExportSummary(out, format, len(dataset), linked)
    with new_folder(out) as folder:
        writer: DatasetWriter = load_writer(DATASET_FORMATS[format])(folder, dataset)
        taken: set[str] = set()
        try:
            for index in ctx.track(range(len(dataset)), f"exporting {format}"):
                sample = dataset[index]
                writer.add(unique_name(sample.name, taken), sample)
            writer.close()
        finally:
            writer.discard()
    return ExportSummary(out, format, len(dataset))


def _named_again(ready: Sequence[Path], folder: Path, dataset: LabelledDataset) -> bool:
    """Put files into a folder without a copy; False where a link cannot be made and they had to be copied."""
    linked = True
    write_text(folder / CLASSES_FILE, classes_yaml(dataset))
    for number, path in enumerate(ready):
        name = folder / f"pairs-{number:06d}{path.suffix}"
        with storage_errors(name):
            try:
                os.link(path, name)
            except OSError:  # another disk, or a file system without links
                linked = False
                shutil.copyfile(path, name)
    return linked


@contextlib.contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A hidden folder beside `out` that becomes `out` when the block ends well, and vanishes otherwise.

    What a killed export of the same `out` left beside it is removed; that of a living one is not.

    Raises:
        DataError: `out` is a file or not empty, or lies in the folder of a run's stage.
    """
    refuse_stage(out)
    _refuse_content(out)
    out = out.absolute()
    temporary = temporary_beside(out)
    lock = FileLock(temporary / LOCK_FILE, timeout=0)
    try:
        with storage_errors(out):
            _remove_left(out)
            (temporary / CONTENT).mkdir(parents=True)
        with contextlib.suppress(OSError, NotImplementedError):  # no locks there: then nothing is cleared later either
            lock.acquire()
        with storage_errors(out):  # after the lock: an export beside this one removes what is marked and not locked
            (temporary / FOR_FILE).write_text(out.name, encoding="utf-8", errors="backslashreplace")
        yield temporary / CONTENT
        with storage_errors(out):
            _sync_tree(temporary / CONTENT)
            _refuse_content(out)  # another export may have finished meanwhile
            if out.exists():
                out.rmdir()
            os.replace(temporary / CONTENT, out)
    finally:
        lock.release()
        shutil.rmtree(temporary, ignore_errors=True)


def _refuse_content(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        what = "is not empty" if out.is_dir() else "is a file"
        raise DataError(f"'{out}' {what}", "choose a new folder; existing files are never overwritten")


def _remove_left(out: Path) -> None:
    """Remove the hidden folders of dead exports of `out`: told by their names, their mark and their free lock."""
    if not out.parent.is_dir():
        return
    name = out.name.encode(errors="backslashreplace")
    for left in [path for path in out.parent.glob(".*.tmp") if is_temporary(path) and path.is_dir()]:
        mark = left / FOR_FILE
        if mark.is_file() and mark.read_bytes() == name:
            with contextlib.suppress(Timeout, OSError, NotImplementedError), FileLock(left / LOCK_FILE, timeout=0):
                shutil.rmtree(left)


def _sync_tree(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                os.fsync(file.fileno())
