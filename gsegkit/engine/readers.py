"""Which reader opens a folder: that of plain folders, or the one that `-o data_reader.name=NAME` names. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gsegkit.config import build_config
from gsegkit.errors import ConfigError
from gsegkit.plugins import Entry, Registry
from gsegkit.records.text import shown

if TYPE_CHECKING:
    from gsegkit.interfaces import DatasetReader

PLAIN = "folder"
NAME = "name"  # of the reader, among its options


def named_reader(options: Mapping[str, Any] | None, registry: Registry) -> tuple[Entry, dict[str, Any]]:
    """The reader that options name, and the options that are its own.

    Raises:
        ConfigError: the name is none.
        UnknownPluginError: no such reader is installed.
    """
    own = dict(options or {})
    name = own.pop(NAME, PLAIN)
    if not isinstance(name, str) or not name:
        raise ConfigError(f"data_reader.name is {shown(name, 60)}, not a reader's name", "gsegkit list names them")
    return registry.find("dataset", name), own


def build_reader(options: Mapping[str, Any] | None, registry: Registry, **defaults: object) -> DatasetReader:
    """The reader that options name, that of plain folders where they name none.

    Args:
        options: of `-o data_reader.OPTION=VALUE`, with the reader's `name`.
        registry: where it comes from.
        defaults: options that these do not have to name, for readers that have them.

    Raises:
        ConfigError: options that it does not have.
    """
    entry, own = named_reader(options, registry)
    cls = entry.config_class()
    own = {**{key: value for key, value in defaults.items() if key in cls.model_fields}, **own}
    reader: DatasetReader = entry.build(build_config(cls, own, entry.component.name))
    return reader
