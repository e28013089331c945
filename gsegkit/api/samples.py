"""Photographs that ship with a plugin, copied to where the user wants them."""

from __future__ import annotations

from pathlib import Path

from gsegkit.api.arguments import checked
from gsegkit.api.session import Session
from gsegkit.errors import ConfigError
from gsegkit.images import list_images
from gsegkit.interfaces import ATTRIBUTION_FILE, Samples
from gsegkit.storage import atomic_write


@checked
def copy_samples(name: str, out: str | Path, *, session: Session | None = None) -> list[Path]:
    """Copy sample photographs and their attribution into a folder; files that are already the same stay.

    Args:
        name: component of the kind `samples`.
        out: folder to copy to; made when missing.
        session: see `run`.

    Returns:
        The photographs there, in order of their names.

    Raises:
        UnknownPluginError: no samples of that name.
        ConfigError: a file of one of these names is there, with other content; nothing was copied.
        StorageError: the folder cannot be written.
    """
    samples: Samples = (session or Session.default()).registry.build("samples", name)
    source, out = samples.folder(), Path(out)
    photographs = list_images(source)
    content = {out / path.name: path.read_bytes() for path in (*photographs, source / ATTRIBUTION_FILE)}
    taken = [path for path, data in content.items() if path.exists() and not _holds(path, data)]
    if taken:
        raise ConfigError(f"'{taken[0]}' exists with other content", "choose another folder with --out")
    for path, data in content.items():
        if not path.exists():
            atomic_write(path, data)
    return [out / path.name for path in photographs]


def _holds(path: Path, data: bytes) -> bool:
    return path.is_file() and path.read_bytes() == data
