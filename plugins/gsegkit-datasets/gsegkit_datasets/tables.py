"""Tables of images and masks, as Hugging Face keeps data sets (Parquet, Arrow), saved as files."""

from __future__ import annotations

import importlib
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gsegkit.errors import ConfigError, DataError, InterruptedRunError, MissingDependencyError, StorageError
from gsegkit.progress import Progress
from gsegkit.reading.files import MAX_BYTES, walk
from gsegkit.records.text import printable
from gsegkit.storage import storage_errors, temporary_beside

SUFFIXES = (".parquet", ".arrow")
IMAGE_COLUMNS = ("image", "img", "photo", "pixel_values")
MASK_COLUMNS = ("mask", "segmentation_mask", "segmentation", "annotation", "label_image", "label", "gt")
NAME_COLUMNS = ("name", "image/filename", "filename", "file_name", "image_id", "id")
SPLITS = {  # what files and folders of tables are called -> the folder of the split
    "train": "train", "training": "train", "validation": "validation", "valid": "validation", "val": "validation",
    "dev": "validation", "test": "test",
}  # fmt: skip
WITHOUT_SPLIT = "all"
ROWS_AT_ONCE = 16
MAX_ROWS = 10_000_000
KINDS = (  # how the bytes of an image begin, and its suffix
    (b"\x89PNG\r\n\x1a\n", ".png"), (b"\xff\xd8\xff", ".jpg"), (b"GIF8", ".gif"), (b"BM", ".bmp"),
    (b"II*\0", ".tif"), (b"MM\0*", ".tif"),
)  # fmt: skip
SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_. -]{0,99}")


@dataclass
class Unpacked:
    """What `unpack` wrote.

    Attributes:
        folder: where.
        images: split -> number of images.
        masks: split -> number of masks.
        columns: column of the images, and of the masks ("" = the tables have none).
    """

    folder: Path
    images: dict[str, int] = field(default_factory=dict)
    masks: dict[str, int] = field(default_factory=dict)
    columns: tuple[str, str] = ("", "")


def unpack(
    tables: Path, out: Path, *, image: str = "", mask: str = "", progress: Progress | None = None, stop: Any = None
) -> Unpacked:
    """Save the images and masks of tables as `SPLIT/images/NAME.jpg` and `SPLIT/masks/NAME.png`.

    Their bytes are copied, not decoded. Nothing is left behind when it fails.

    Args:
        tables: a file of Parquet or Arrow, or a folder of them; a split is what a file or its folder is called.
        out: a folder that does not exist yet, or is empty.
        image: column of the images; "" = the first of the usual names that holds images.
        mask: column of the masks; "" = likewise, or none.
        progress: who listens.
        stop: an event that ends it.

    Raises:
        DataError: no tables, or they hold no images.
        ConfigError: `out` holds something, or there is no such column.
        MissingDependencyError: pyarrow is not installed.
    """
    arrow = _arrow()
    files = _files(tables)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"'{out}' is there already", "choose another --out")
    needed, made = sum(path.stat().st_size for path, _ in files), temporary_beside(out)
    progress = progress or Progress()
    with storage_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(out.parent).free
        if needed > free:
            raise StorageError(
                f"the images need about {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free", "free some space"
            )
        made.mkdir()
    done = Unpacked(out)
    try:
        progress.start("unpacking tables", len(files))
        for number, (path, split) in enumerate(files, 1):
            for batch in _batches(path, arrow):
                if stop is not None and stop.is_set():
                    raise InterruptedRunError("stopped; nothing was written", "run it again")
                done.columns = _columns(batch.schema, path, image, mask)
                _write(batch, path, made / split, split, done)
            progress.advance(number, {})
        if not done.images:
            raise DataError(f"the tables of '{tables}' hold no rows", "copy them again")
        with storage_errors(out):
            if out.exists():
                out.rmdir()
            made.replace(out)
    finally:
        progress.finish()
        shutil.rmtree(made, ignore_errors=True)
    return done


# ---- inside ------------------------------------------------------------------------------------------------------


def _arrow() -> Any:
    try:
        importlib.import_module("pyarrow.parquet")
        return importlib.import_module("pyarrow")
    except ImportError:
        raise MissingDependencyError(
            "tables need the package pyarrow", 'pip install "gsegkit-datasets[tables]"'
        ) from None


def _files(tables: Path) -> list[tuple[Path, str]]:
    """(file, split), in a stable order."""
    if tables.is_file():
        found = [tables] if tables.suffix.lower() in SUFFIXES else []
    elif tables.is_dir():
        found = [path for path in walk(tables) if path.suffix.lower() in SUFFIXES and path.is_file()]
    else:
        raise DataError(f"'{tables}' does not exist", "check the path")
    if not found:
        raise DataError(f"'{tables}' holds no table", f"tables end in {' or '.join(SUFFIXES)}")
    return [(path, _split(path, tables)) for path in found]


def _split(path: Path, tables: Path) -> str:
    """Of train-00000-of-00008.parquet or train/0000.parquet: train."""
    below = path.relative_to(tables).parent.parts if tables.is_dir() else ()
    for text in (path.stem, *reversed(below)):
        word = re.split(r"[^a-z]", text.lower(), maxsplit=1)[0]
        if word in SPLITS:
            return SPLITS[word]
    return WITHOUT_SPLIT


def _batches(path: Path, arrow: Any) -> Iterator[Any]:
    """A table's rows, a few at a time."""
    try:
        if path.suffix.lower() == ".parquet":
            file = arrow.parquet.ParquetFile(path)
            if file.metadata.num_rows > MAX_ROWS:
                raise DataError(f"'{path}' claims {file.metadata.num_rows:,} rows", f"at most {MAX_ROWS:,} are read")
            yield from file.iter_batches(ROWS_AT_ONCE)
            return
        with arrow.memory_map(str(path)) as source:
            try:
                batches: Any = arrow.ipc.open_stream(source)
            except arrow.ArrowInvalid:
                source.seek(0)
                reader = arrow.ipc.open_file(source)
                batches = (reader.get_batch(index) for index in range(reader.num_record_batches))
            for batch in batches:
                for first in range(0, batch.num_rows, ROWS_AT_ONCE):
                    yield batch.slice(first, ROWS_AT_ONCE)
    except (arrow.ArrowException, OSError) as error:
        raise DataError(f"'{path}' cannot be read: {printable(str(error))[:120]}", "copy it again") from None


def _columns(schema: Any, path: Path, image: str, mask: str) -> tuple[str, str]:
    """The columns of images and of masks."""
    holding = [column.name for column in schema if _holds_images(column.type)]
    for column in (image, mask):
        if column and column not in holding:
            there = ", ".join(printable(name)[:40] for name in holding) or "none"
            raise ConfigError(f"'{path}' has no column '{column}' of images", f"columns of images: {there}")
    found = image or next((name for name in IMAGE_COLUMNS if name in holding and name != mask), "")
    if not found:
        names = ", ".join(printable(name)[:40] for name in schema.names[:12])
        raise DataError(f"'{path}' has no column of images that is known ({names})", "say which: --image COLUMN")
    return found, mask or next((name for name in MASK_COLUMNS if name in holding and name != found), "")


def _holds_images(type_: Any) -> bool:
    """Whether a column holds encoded images: bytes, or Hugging Face's struct of bytes and path."""
    text = str(type_)
    return text in ("binary", "large_binary") or (text.startswith("struct<") and "bytes: " in text)


def _write(batch: Any, path: Path, folder: Path, split: str, done: Unpacked) -> None:
    image, mask = done.columns
    rows = batch.select([name for name in (image, mask, *NAME_COLUMNS) if name in batch.schema.names]).to_pylist()
    for row in rows:
        number = done.images.get(split, 0)
        content = _bytes(row[image])
        if content is None:
            raise DataError(f"row {number} of '{path}' has no image of its own", "take a copy that holds the images")
        name = _name(row, image, number, folder)
        _save(folder / "images" / f"{name}{_suffix(content, path, number)}", content)
        done.images[split] = number + 1
        content = _bytes(row[mask]) if mask else None
        if content is not None:
            _save(folder / "masks" / f"{name}{_suffix(content, path, number)}", content)
            done.masks[split] = done.masks.get(split, 0) + 1


def _name(row: Mapping[str, Any], image: str, number: int, folder: Path) -> str:
    """The row's own name, where it is harmless and new; else its number."""
    inner = row[image].get("path") if isinstance(row[image], dict) else None
    for given in (inner, *(row.get(column) for column in NAME_COLUMNS)):
        if not isinstance(given, str):
            continue
        last = given.replace("\\", "/").rpartition("/")[2]
        stem = last.rpartition(".")[0] or last
        if SAFE_NAME.fullmatch(stem) and not stem.endswith((".", " ")) and not _taken(folder / "images", stem):
            return stem
    return f"{number:07d}"


def _taken(folder: Path, stem: str) -> bool:
    return any((folder / f"{stem}{suffix}").exists() for suffix in sorted({kind for _, kind in KINDS} | {".webp"}))


def _bytes(value: Any) -> bytes | None:
    found = value.get("bytes") if isinstance(value, dict) else value
    return found if isinstance(found, bytes) and found else None


def _suffix(content: bytes, path: Path, number: int) -> str:
    if len(content) > MAX_BYTES:
        raise DataError(f"row {number} of '{path}' has {len(content) >> 20} MB", f"the limit is {MAX_BYTES >> 20} MB")
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return ".webp"
    for start, suffix in KINDS:
        if content.startswith(start):
            return suffix
    raise DataError(f"row {number} of '{path}' holds no image of a known format", "say which column: --image, --mask")


def _save(path: Path, content: bytes) -> None:
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
