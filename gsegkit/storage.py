"""Bytes and JSON on disk: atomic writes, hashes, storage errors with a remedy. Imports no torch."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from gsegkit.errors import ContractError, StorageError
from gsegkit.records.files import read_json as read_json
from gsegkit.records.files import regular
from gsegkit.records.text import non_finite


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn an OSError of the block into a StorageError that names the path and the remedy."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise StorageError(
                f"no space left while writing '{path}'",
                "free some space, then run the same command again: finished work is kept",
            ) from error
        raise StorageError(
            f"cannot write '{path}': {error.strerror or error}",
            "choose a folder with write permission",
        ) from error


def temporary_beside(path: Path, suffix: str = "") -> Path:
    """A name for an unfinished file or folder beside `path`: short, and told from files of the user's."""
    return path.with_name(f".{os.getpid()}-{secrets.token_hex(4)}.tmp{suffix}")


def is_temporary(path: Path) -> bool:
    """Whether a name is one of `temporary_beside`, of this version or an earlier one."""
    return re.fullmatch(r"\.(.+\.)?\d+-[0-9a-f]{8}\.tmp(\.\w+)?", path.name) is not None


def atomic_write(path: Path, data: bytes | memoryview) -> None:
    """Write a file at once; see `atomic_file`."""
    with atomic_file(path) as file:
        file.write(data)


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write into, so that `path` holds either the old content or all of the new one, whatever happens.

    A temporary file in the same folder is written, flushed to disk and renamed.

    Raises:
        StorageError: disk full, read-only, no permission; `path` is untouched and the temporary file is gone.
    """
    temporary = temporary_beside(path)
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        _sync_folder(path.parent)


def atomic_write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, indented, keys in the given order; bytes of a name that are not UTF-8 as an escape.

    Raises StorageError as `atomic_write`, and ContractError when a number is NaN or infinite, which JSON has not.
    """
    try:
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    except ValueError:
        raise ContractError(
            f"'{path}' would hold a number that is not finite: {non_finite(value)}",
            "a plugin must give None where a number is undefined; report it to its author",
        ) from None
    atomic_write(path, (text + "\n").encode(errors="backslashreplace"))


def file_hash(path: Path) -> str:
    """SHA-256 of a file, in hex; OSError for a pipe or a device, which never end."""
    regular(path)
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":  # a folder cannot be opened elsewhere; the rename is still atomic
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:  # some network file systems refuse; the content is already safe
        pass
    finally:
        os.close(handle)
