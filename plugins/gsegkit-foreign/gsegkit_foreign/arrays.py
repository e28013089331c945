"""Tensors from bytes: torch storages, numpy arrays and scalars, `.npy` and safetensors files.

Every extent is checked against the bytes that are there before anything is built.
"""

from __future__ import annotations

import json
import math
import re
import struct
from typing import Any, NoReturn

import numpy as np
import torch

from gsegkit_foreign.limits import HOSTILE, Budget, refuse
from gsegkit_foreign.nodes import describe

Bytes = bytes | memoryview

STORAGE_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "UntypedStorage": torch.uint8,
}
_SAFETENSORS_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_NUMPY_CODE = re.compile(r"([<>|=]?)(f[248]|[iu][1248]|b1)")
_NPY_HEADER = re.compile(
    r"\{'descr': '([^']{1,8})', 'fortran_order': (True|False), "
    r"'shape': \(((?:\d{1,18},? ?)*)\),? \}\s*"
)


def flat_tensor(data: Bytes, dtype: torch.dtype, budget: Budget) -> torch.Tensor:
    """A fresh one-dimensional tensor over a copy of `data`, which must hold whole elements."""
    if len(data) % dtype.itemsize:
        refuse(f"{len(data)} bytes are not a whole number of {dtype} elements")
    budget.spend_tensor(len(data))
    if not len(data):
        return torch.empty(0, dtype=dtype)
    if dtype == torch.bool and bytes(data).strip(b"\0\1"):
        refuse("a boolean tensor with values other than 0 and 1")
    return torch.frombuffer(bytearray(data), dtype=dtype)


def strided_tensor(storage: torch.Tensor, offset: Any, size: Any, stride: Any, budget: Budget) -> torch.Tensor:
    """The view of `storage`, contiguous; refuses views that leave or inflate it."""
    size, stride = _extents(size, "size"), _extents(stride, "stride")
    (offset,) = _extents((offset,), "offset")
    if len(size) != len(stride):
        refuse(f"a tensor with {len(size)} sizes but {len(stride)} strides", HOSTILE)
    count = math.prod(size)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if count and (last >= storage.numel() or count > storage.numel()):
        refuse(
            f"a tensor of shape {size} and strides {stride} does not fit its storage of {storage.numel()} elements",
            HOSTILE,
        )
    if not count:
        return torch.empty(size, dtype=storage.dtype)
    if count == storage.numel() and last == count - 1 and storage.as_strided(size, stride, offset).is_contiguous():
        return storage.view(size)  # the usual case: the whole storage, which nobody else owns
    budget.spend_tensor(count * storage.element_size())
    return storage.as_strided(size, stride, offset).clone(memory_format=torch.contiguous_format)


def _extents(values: Any, what: str) -> tuple[int, ...]:
    if not isinstance(values, (tuple, list)) or len(values) > 8:
        refuse(f"a tensor whose {what} is not a tuple of at most 8 numbers", HOSTILE)
    for value in values:
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 40:
            refuse(f"a tensor whose {what} has an entry outside 0 .. 2^40", HOSTILE)
    return tuple(values)


def numpy_dtype(code: Any, byte_order: Any = "=") -> np.dtype[Any]:
    """The dtype for a code such as `f4` or `<f4`; plain numbers only."""
    match = _NUMPY_CODE.fullmatch(code) if isinstance(code, str) else None
    order = byte_order if isinstance(byte_order, str) and byte_order in "<>=|" else None
    if match is None or order is None:
        refuse(f"an array of dtype {describe(code)}", "only arrays of plain numbers are read")
    return np.dtype((match[1] or order).replace("|", "=") + match[2])


def array_tensor(data: Bytes, dtype: np.dtype[Any], shape: Any, fortran: bool, budget: Budget) -> torch.Tensor:
    """A tensor from the bytes of a numpy array, which must be exactly as many as the shape needs."""
    shape = _extents(shape, "shape")
    needed = math.prod(shape) * dtype.itemsize
    if len(data) != needed:
        refuse(f"an array of shape {shape} and dtype {dtype} needs {needed} bytes, not {len(data)}")
    budget.spend_tensor(2 * needed)
    array = np.frombuffer(data, dtype=dtype).reshape(shape, order="F" if fortran else "C")
    native = np.array(array, dtype=_signed(dtype), order="C")  # a writable copy
    return torch.from_numpy(native)


def _signed(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The native-order dtype that torch has; larger unsigned integers become int64."""
    if dtype.kind == "u" and dtype.itemsize > 1:
        if dtype.itemsize == 8:
            refuse("an array of dtype uint64", "torch has no such type")
        return np.dtype(np.int64)
    return dtype.newbyteorder("=")


def numpy_scalar(data: Bytes, dtype: np.dtype[Any]) -> int | float | bool:
    """A Python number from the bytes of a numpy scalar."""
    if len(data) != dtype.itemsize:
        refuse(f"a numpy scalar of {len(data)} bytes, its dtype needs {dtype.itemsize}")
    number: int | float | bool = np.frombuffer(data, dtype=dtype)[0].item()
    return number


def read_npy(data: bytes, budget: Budget) -> torch.Tensor:
    """The array of a `.npy` file; the header is matched, never evaluated."""
    if len(data) < 12:
        refuse(f"an npy file of {len(data)} bytes")
    version = data[6]
    layout = {1: "<H", 2: "<I", 3: "<I"}.get(version)
    if layout is None:
        refuse(f"npy format version {version}")
    start = 8 + struct.calcsize(layout)
    (length,) = struct.unpack_from(layout, data, 8)
    if length > 10_000 or start + length > len(data):
        refuse(f"an npy header of {length} bytes in a file of {len(data)}")
    header = data[start : start + length].decode("latin-1")
    match = _NPY_HEADER.fullmatch(header)
    if match is None:
        refuse(f"an npy header that cannot be parsed: {header[:80]!r}")
    shape = tuple(int(part) for part in match[3].split(",") if part.strip())
    body = memoryview(data)[start + length :]
    return array_tensor(body, numpy_dtype(match[1]), shape, match[2] == "True", budget)


def read_safetensors(data: bytes, budget: Budget) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file.

    The tensors must cover the data exactly: no hole, no overlap, nothing beyond the end.
    """
    (length,) = struct.unpack_from("<Q", data)
    if length > budget.limits.header_bytes or 8 + length > len(data):
        refuse(f"a safetensors header of {length} bytes in a file of {len(data)}", HOSTILE)
    try:
        header = json.loads(data[8 : 8 + length], object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        refuse(f"a safetensors header that is not JSON ({type(error).__name__})")
    if not isinstance(header, dict):
        refuse("a safetensors header that is not a JSON object")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        refuse("safetensors metadata that is not text")
    if len(header) > budget.limits.zip_entries:
        refuse(f"{len(header)} tensors in one file", HOSTILE)
    entries = sorted((_entry(name, value) for name, value in header.items()), key=_begin_end)
    body, position, tensors = memoryview(data)[8 + length :], 0, {}
    for name, dtype, shape, begin, end in entries:
        if begin != position or end - begin != math.prod(shape) * dtype.itemsize:
            refuse(f"safetensors entry {name[:60]!r}: bytes {begin} to {end} overlap or leave a hole")
        if end > len(body):
            refuse(f"safetensors entry {name[:60]!r} ends at {end}, the data has {len(body)} bytes")
        tensors[name] = flat_tensor(body[begin:end], dtype, budget).reshape(shape)
        position = end
    if position != len(body):
        refuse(f"{len(body) - position} bytes after the last safetensors entry", HOSTILE)
    return tensors, metadata


def _begin_end(entry: tuple[str, torch.dtype, tuple[int, ...], int, int]) -> tuple[int, int]:
    return entry[3], entry[4]


def _entry(name: str, value: Any) -> tuple[str, torch.dtype, tuple[int, ...], int, int]:
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        refuse(f"safetensors entry {name[:60]!r} without dtype, shape and data_offsets")
    code = value["dtype"]
    dtype = _SAFETENSORS_DTYPES.get(code) if isinstance(code, str) else None
    if dtype is None:
        refuse(f"safetensors entry {name[:60]!r} of dtype {code!r:.20}")
    shape = _extents(value["shape"], "shape")
    offsets = _extents(value["data_offsets"], "offset")
    if len(offsets) != 2:
        refuse(f"safetensors entry {name[:60]!r} with {len(offsets)} offsets")
    return name, dtype, shape, offsets[0], offsets[1]


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        refuse("a safetensors header that names a tensor twice", HOSTILE)
    return result


def _no_constant(text: str) -> NoReturn:
    refuse(f"a safetensors header with {text}", HOSTILE)
