"""Folders of data that come with this package."""

from __future__ import annotations

from pathlib import Path

from gsegkit.errors import ArtifactError


def bundled(folder: Path, needed: str) -> Path:
    """The folder, if it is there with the file that makes it usable.

    Raises:
        ArtifactError: the package was installed without its data.
    """
    if not (folder / needed).is_file():
        raise ArtifactError(f"the zoo has no files of '{folder.name}' in '{folder}'", "reinstall gsegkit-zoo")
    return folder
