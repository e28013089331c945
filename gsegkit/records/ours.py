"""Single files that the user names as output: only what an earlier call wrote there is replaced."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

from gsegkit.errors import ConfigError

PNG_MARK = b"tEXtSoftware\0gsegkit"  # a text chunk, as `marked_png` adds it
PNG_HEADER = 33  # bytes of a PNG's signature and first chunk
READ = 8192  # bytes in which a mark is looked for


def check_own_file(path: Path, mark: bytes) -> None:
    """Refuse to write over a file that no earlier call made.

    Args:
        path: the file to write; it need not exist.
        mark: stands near the beginning of every file of this sort that is ours.

    Raises:
        ConfigError: there is a file without the mark, a folder, or a link.
    """
    if not os.path.lexists(path):
        return
    try:
        with path.open("rb") as file:
            mine = not path.is_symlink() and mark in file.read(READ)
    except OSError:  # a folder, or nothing that may be read
        mine = False
    if not mine:
        raise ConfigError(f"'{path}' would be overwritten, and gsegkit did not write it", "choose another file")


def marked_png(data: bytes) -> bytes:
    """A PNG with a mark that `check_own_file` finds; its pixels stay."""
    length = (len(PNG_MARK) - 4).to_bytes(4, "big")
    return data[:PNG_HEADER] + length + PNG_MARK + zlib.crc32(PNG_MARK).to_bytes(4, "big") + data[PNG_HEADER:]
