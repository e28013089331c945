"""A foreign file, opened: raw values that become plain data or tensors one level at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from gsegkit.errors import ArtifactError
from gsegkit_foreign.arrays import read_npy, read_safetensors
from gsegkit_foreign.kinds import refuse_tensor
from gsegkit_foreign.limits import HOSTILE, Budget, Limits, printable, refuse
from gsegkit_foreign.nodes import Opaque, describe
from gsegkit_foreign.shapes import Evaluator
from gsegkit_foreign.sniff import container
from gsegkit_foreign.torchzip import Parsed, read_legacy, read_pickle, read_zip

_DATA_ERRORS = (ValueError, KeyError, IndexError, OverflowError, RecursionError, MemoryError)


class ForeignFile:
    """The content of a checkpoint of any supported kind; nothing in it has been executed.

    Attributes:
        path: where it was read from.
        container: `torch-zip`, `torch-legacy`, `pickle`, `npy` or `safetensors`.
        sha256: hash of the very bytes that were parsed.
        num_bytes: size of the file.
        names: every global that the file mentions.
        root: the raw value at the top; `shallow`, `plain` and `tensor` evaluate raw values.
        metadata: the text table of a safetensors file.

    Example:
        >>> checkpoint = read_foreign("model.pt")             # doctest: +SKIP
        >>> weights = checkpoint.tensors(checkpoint.root)     # doctest: +SKIP
    """

    def __init__(self, path: Path, data: bytes, limits: Limits) -> None:
        self.path = path
        self.num_bytes = len(data)
        self.sha256 = hashlib.sha256(data).hexdigest()
        self.metadata: dict[str, str] = {}
        budget = Budget(limits, file_bytes=len(data))
        with self._naming():
            self.container = container(data)
            parsed = self._parse(data, budget)
            self.names = frozenset(parsed.names)
            self.root = parsed.root
            self._evaluator = Evaluator(parsed.storages, budget)

    def _parse(self, data: bytes, budget: Budget) -> Parsed:
        if self.container == "npy":
            return Parsed(read_npy(data, budget))
        if self.container == "safetensors":
            tensors, self.metadata = read_safetensors(data, budget)
            return Parsed(tensors)
        if self.container == "torch-zip":
            return read_zip(data, budget)
        parsed = read_legacy(data, budget) if self.container == "torch-legacy" else read_pickle(data, budget)[0]
        if parsed.end != len(data):
            refuse(f"{len(data) - parsed.end} bytes after the end of the checkpoint", HOSTILE)
        return parsed

    def shallow(self, raw: Any) -> Any:
        """Evaluate one level: a scalar, tensor, dict or list of raw values, `Record`, `Opaque`."""
        with self._naming():
            return self._evaluator.shallow(raw)

    def plain(self, raw: Any) -> Any:
        """Evaluate to JSON-like data; tensors and unknown calls become short texts."""
        with self._naming():
            return self._evaluator.plain(raw, 0)

    def tensor(self, raw: Any, name: str) -> torch.Tensor:
        """Evaluate to a tensor, or say that `name` is something else."""
        value = self.shallow(raw)
        if isinstance(value, (int, float)):
            value = torch.tensor(value)
        if not isinstance(value, torch.Tensor):
            with self._naming():
                if isinstance(value, Opaque):
                    refuse_tensor(value.name, name)
                refuse(
                    f"{name[:80]!r} should be a tensor but is {describe(value)}",
                    "the file may come from modified code; nothing in it was executed",
                )
        return value

    def mapping(self, raw: Any, name: str) -> dict[str, Any]:
        """Evaluate one level to a dict with text keys, or say that `name` is something else."""
        value = self.shallow(raw)
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            with self._naming():
                refuse(f"{name[:80]!r} should be a table of names but is {describe(value)}")
        return value

    def tensors(self, raw: Any, name: str = "the checkpoint") -> dict[str, torch.Tensor]:
        """Evaluate a flat table of tensors: a state dict."""
        table = self.mapping(raw, name)
        return {key: self.tensor(value, key) for key, value in table.items()}

    @contextmanager
    def _naming(self) -> Iterator[None]:
        """Put the file's name into every refusal; damage seen by numpy or torch becomes one."""
        try:
            yield
        except ArtifactError as error:
            prefix = f"{self.path}: "
            if error.message.startswith(prefix):
                raise
            raise ArtifactError(prefix + printable(error.message), error.hint) from None
        except _DATA_ERRORS as error:
            what = f"{self.path}: cannot be read ({type(error).__name__}: {str(error)[:100]})"
            raise ArtifactError(what, "the file is damaged, or needs more memory") from error


def read_foreign(path: str | Path, limits: Limits | None = None) -> ForeignFile:
    """Read a checkpoint made by other software, executing nothing of it.

    Torch files (zip and legacy), plain pickles of NVIDIA and TensorFlow-era GANs, `.npy` and
    safetensors are understood; the bytes are read once, hashed and parsed from memory.

    Raises:
        ArtifactError: the file is missing, damaged, hostile, or of another kind (which is named).
    """
    path = Path(path)
    limits = limits or Limits()
    try:
        if path.is_dir():
            raise ArtifactError(f"{path}: a folder, not a file", "name the checkpoint file in it")
        if path.exists() and not path.is_file():
            raise ArtifactError(f"{path}: a device or a pipe, not a file", "copy it to a file first")
        size = path.stat().st_size
        if size > limits.file_bytes:
            raise ArtifactError(
                f"{path}: {size} bytes, more than the limit of {limits.file_bytes}",
                "pass Limits(file_bytes=...) if the file is really that large",
            )
        with path.open("rb") as stream:
            data = stream.read(size)
    except OSError as error:
        raise ArtifactError(f"{path}: {error.strerror}", "check the path") from error
    return ForeignFile(path, data, limits)


def inspect(path: str | Path) -> dict[str, Any]:
    """All that a checkpoint holds, as JSON-like data: names it mentions, classes, options, shapes.

    Raises:
        ArtifactError: see `read_foreign`.
    """
    file = read_foreign(path)
    return {
        "container": file.container,
        "sha256": file.sha256,
        "num_bytes": file.num_bytes,
        "names": sorted(file.names),
        "content": file.plain(file.root),
    }
