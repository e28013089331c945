"""Writing safetensors files piece by piece, and where their tensors lie; whole files the library reads.

Its own functions make copies of all tensors in memory, map whole files into it, or write past the open file that makes
a write atomic. `gsegkit.tensors.read_safetensors` reads all tensors of a file with it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import torch
from torch import Tensor

from gsegkit.errors import ArtifactError
from gsegkit.records.files import regular
from gsegkit.records.text import json_value

#: Names of the format, in the order in which the library puts tensors into a file: all are aligned so.
DTYPES = {
    torch.uint64: "U64", torch.int64: "I64", torch.float64: "F64", torch.complex64: "C64",
    torch.float32: "F32", torch.uint32: "U32", torch.int32: "I32",
    torch.bfloat16: "BF16", torch.float16: "F16", torch.uint16: "U16", torch.int16: "I16",
    torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2", torch.int8: "I8", torch.uint8: "U8",
    torch.bool: "BOOL",
}  # fmt: skip


def write_tensors(file: BinaryIO, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write a whole safetensors file; what is not contiguous or on a GPU is copied one by one. They may share memory.

    Raises:
        TypeError: a tensor of numbers that the format has not.
    """
    unknown = [f"{name} is {tensor.dtype}" for name, tensor in tensors.items() if tensor.dtype not in DTYPES]
    if unknown:
        raise TypeError(f"safetensors files hold no such numbers: {unknown[0]}")
    order = list(DTYPES)
    names = sorted(tensors, key=lambda name: (order.index(tensors[name].dtype), name))
    table: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name in names:
        tensor = tensors[name]
        start, end = end, end + tensor.numel() * tensor.dtype.itemsize
        table[name] = {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    header = json.dumps(table, separators=(",", ":"), ensure_ascii=False).encode()
    header += b" " * (-len(header) % 8)
    file.write(len(header).to_bytes(8, "little") + header)
    for name in names:
        file.write(bytes_of(tensors[name]))


def bytes_of(tensor: Tensor) -> memoryview:
    """The numbers of a tensor in order, as bytes [n]; not copied when they lie so already."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file.

    Attributes:
        dtype: its numbers, in the format's words.
        shape: its shape.
        start: of its first byte in the file.
    """

    MAX_HEADER: ClassVar[int] = 1 << 20  # bytes of a file's table that are read

    dtype: str
    shape: list[int]
    start: int


def stored_tensors(path: Path) -> dict[str, StoredTensor]:
    """The table of a safetensors file, checked against the file's size; no tensor is read.

    Raises:
        ArtifactError: the file cannot be read, or is not such a file.
    """
    try:
        with regular(path).open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            table: Any = json_value(file.read(length)) if length <= StoredTensor.MAX_HEADER else None
        first, end = 8 + length, path.stat().st_size
        entries = {name: entry for name, entry in table.items() if name != "__metadata__"}
        return {name: _stored(entry, first, end) for name, entry in entries.items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ArtifactError(f"'{path}' is not a readable safetensors file: {error}", "make it again") from None


def _stored(entry: Mapping[str, Any], first: int, end: int) -> StoredTensor:
    """An entry of a table; ValueError when the file, from byte `first` on, does not hold such a tensor."""
    sizes = {name: dtype.itemsize for dtype, name in DTYPES.items()}
    start, stop = entry["data_offsets"]
    shape = entry["shape"]
    sound = all(type(value) is int and value >= 0 for value in (*shape, start, stop))
    if not sound or stop - start != math.prod(shape) * sizes[entry["dtype"]] or first + stop > end:
        raise ValueError("a tensor does not lie where its table says")
    return StoredTensor(entry["dtype"], shape, first + start)
