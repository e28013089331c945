"""Files of JSON, YAML and TOML, read through the boundary of `gsegkit.records.text`; records with a model."""

from __future__ import annotations

import contextlib
import errno
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from gsegkit.errors import ArtifactError
from gsegkit.records.text import MAX_SHOWN, UnreadableError, cut, json_value, printable, shown, toml_value, yaml_value

MAX_JSON_BYTES = 64 << 20
MAX_BYTES = 256 << 10  # of YAML and TOML, which people write; their parsers are slow
MAX_PROBLEMS = 3  # of a record, named in the message


class Record(BaseModel):
    """Base of what a stored file holds: only its own fields are read. Numbers are finite; declare strict types."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a JSON file; ArtifactError when it is missing, damaged, or holds something else."""
        return cls.parse(read_json(path), path)

    @classmethod
    def parse(cls, value: Any, source: Path) -> Self:
        """A value out of a file; ArtifactError when it is not such a record."""
        try:
            return cls.model_validate(value if isinstance(value, Mapping) else {"": value})
        except ValidationError as error:
            problems = error.errors(include_url=False, include_context=False)
            lines = [f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in problems[:MAX_PROBLEMS]]
            found = cut(printable("; ".join(lines)), 300) if isinstance(value, Mapping) else f"it holds {shown(value)}"
            raise ArtifactError(
                f"'{source}' is not the record it should be: {found}", "it was changed or damaged; make it again"
            ) from None


def regular(path: Path) -> Path:
    """The path; OSError unless it is a regular file: a pipe or a device never ends."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return path


def read_bytes(path: Path, limit: int = MAX_JSON_BYTES) -> bytes:
    """The bytes of a file.

    Raises:
        OSError: it cannot be read, or is not a regular file.
        UnreadableError: it is larger than `limit`.
    """
    with regular(path).open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise UnreadableError(f"has {max(path.stat().st_size, len(data)):,} bytes; at most {limit:,} are read")
    return data


def read_json(path: Path) -> Any:
    """Read a stored JSON file; ArtifactError when it is missing, not JSON, or beyond the bounds."""
    try:
        return json_value(read_bytes(path))
    except FileNotFoundError:
        raise ArtifactError(f"'{path}' does not exist", "check the path") from None
    except OSError as error:
        raise ArtifactError(f"'{path}' cannot be read: {error.strerror}", "check its permissions") from None
    except UnreadableError as error:
        raise ArtifactError(f"'{path}' {error}", "it is damaged; make it again") from None


def read_value(path: Path) -> Any:
    """Read a file that a person wrote, by its suffix: .json, .toml, .yaml or .yml.

    Raises:
        OSError: it cannot be read.
        UnreadableError: not of that format, another suffix, or beyond the bounds.
    """
    suffix = path.suffix.lower()
    if suffix == ".json":
        return json_value(read_bytes(path))
    if suffix == ".toml":
        return toml_value(read_bytes(path, MAX_BYTES))
    if suffix in (".yaml", ".yml"):
        return yaml_value(read_bytes(path, MAX_BYTES))
    raise UnreadableError(f"has no format that is known by its suffix '{path.suffix}'")


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Lines of a metrics.jsonl, in order; a torn last line is skipped, a file that cannot be read has none."""
    try:
        text = read_bytes(path).decode(errors="replace")
    except (OSError, UnreadableError):
        return []
    rows = []
    for line in text.splitlines():
        try:
            row = json_value(line, finite=False)
        except UnreadableError:  # the process was killed while it wrote this line
            continue
        rows += [row] if isinstance(row, dict) else []
    return rows


@contextlib.contextmanager
def damaged_file(path: Path, remedy: str) -> Iterator[None]:
    """Turn what a stored file's content makes go wrong in the block into an ArtifactError with this remedy."""
    try:
        yield
    except ArtifactError as error:
        raise ArtifactError(error.message, remedy) from None
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError) as error:
        reason = cut(printable(" ".join(str(error).split())), MAX_SHOWN)
        raise ArtifactError(f"'{path}' does not fit: {type(error).__name__}: {reason}", remedy) from None
