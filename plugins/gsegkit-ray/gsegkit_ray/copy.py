"""A copy of a finished run on any file system that fsspec knows: object stores, SSH, another disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec

from gsegkit.errors import ConfigError, DataError, StorageError
from gsegkit.records.files import read_bytes
from gsegkit.rundir import CONFIG_FILE, LOCK_FILE
from gsegkit.storage import is_temporary

REMEDY = "choose another -o launcher.copy_to, or copy the run folder yourself"


@dataclass(frozen=True)
class Copy:
    """Where a run is copied to.

    Attributes:
        url: as the user gave it.
        system: fsspec's file system.
        folder: path in it.
    """

    url: str
    system: Any
    folder: str

    @staticmethod
    def checked(url: str) -> Copy:
        """Before the run: the file system is there.

        Raises:
            ConfigError: fsspec does not know it, or cannot reach it.
        """
        try:
            system, folder = fsspec.url_to_fs(url)
            system.exists(folder)
        except Exception as error:  # each file system has errors of its own
            raise ConfigError(f"'{url}' cannot be reached: {type(error).__name__}: {_line(error)}", REMEDY) from None
        return Copy(url, system, folder.rstrip("/"))

    def take(self, run: Path) -> None:
        """Copy a run folder; an earlier copy of the same run is renewed, anything else is left as it is.

        Raises:
            DataError: something else is there.
            StorageError: it could not be written.
        """
        try:
            self._check_own(run)
            for path in sorted(run.rglob("*")):
                if path.is_file() and path.name != LOCK_FILE and not is_temporary(path):
                    target = f"{self.folder}/{path.relative_to(run).as_posix()}"
                    self.system.makedirs(target.rpartition("/")[0], exist_ok=True)
                    self.system.put_file(str(path), target)
        except DataError:
            raise
        except Exception as error:
            raise StorageError(
                f"the run could not be copied to '{self.url}': {type(error).__name__}: {_line(error)}", REMEDY
            ) from None

    def _check_own(self, run: Path) -> None:
        config = f"{self.folder}/{CONFIG_FILE}"
        if self.system.exists(config):
            if self.system.cat_file(config) == read_bytes(run / CONFIG_FILE):
                return
        elif not self.system.exists(self.folder) or not self.system.ls(self.folder, detail=False):
            return
        raise DataError(f"'{self.url}' is not empty and not a copy of this run", REMEDY)


def _line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [""]
    return lines[0][:200]
