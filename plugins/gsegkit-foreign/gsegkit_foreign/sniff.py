"""What kind of file this is, by its first bytes alone."""

from __future__ import annotations

import json
import struct

from gsegkit_foreign.limits import refuse
from gsegkit_foreign.torchzip import LEGACY_START

_FETCH = "fetch the file again; a browser or a drive service often saves a page instead of the file"
_STARTS: tuple[tuple[bytes, str, str], ...] = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself", "run: git lfs pull"),
    (b"\x1f\x8b", "a gzip archive", "unpack it first: gunzip FILE"),
    (b"BZh", "a bzip2 archive", "unpack it first: bunzip2 FILE"),
    (b"\xfd7zXZ\x00", "an xz archive", "unpack it first: unxz FILE"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive", "unpack it first: unzstd FILE"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it first"),
    (b"Rar!", "a rar archive", "unpack it first"),
    (
        b"\x89HDF",
        "an HDF5 file (Keras, or a dump of TF-Hub)",
        "convert it to torch first: for TF-Hub's BigGAN and BigBiGAN, BigGAN-PyTorch's folder TFHub has the script",
    ),
    (b"\x89PNG", "a PNG image", "give the checkpoint, not an image of its samples"),
    (b"\xff\xd8\xff", "a JPEG image", "give the checkpoint, not an image of its samples"),
    (b"GIF8", "a GIF image", "give the checkpoint, not an image of its samples"),
    (b"%PDF", "a PDF document", _FETCH),
    (b"\x7fELF", "a program", "do not run it; it is no checkpoint"),
    (b"MZ", "a Windows program", "do not run it; it is no checkpoint"),
    (b"PK\x05\x06", "an empty zip", _FETCH),
)
_PAGES = (b"<!doctype", b"<html", b"<head", b"<?xml", b"<script", b"<!--")


def container(data: bytes) -> str:
    """One of `torch-zip`, `torch-legacy`, `pickle`, `npy`, `safetensors`; refuses anything else."""
    if not data:
        refuse("an empty file", _FETCH)
    head = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith(_PAGES):
        refuse("a web page, not a checkpoint", _FETCH)
    for start, what, hint in _STARTS:
        if data.startswith(start):
            refuse(what, hint)
    if data[:1] == b"\x08" and data[2:3] == b"\x12" and data[1] < 32:
        refuse("an ONNX model", "only torch, pickle, npy and safetensors are read")
    if data[257:262] == b"ustar":
        refuse("a tar archive", "unpack it first: tar -xf FILE")
    if not data.strip(b"\0"):
        refuse("a file of zeros", _FETCH)
    if data.startswith(b"PK\x03\x04"):
        return "torch-zip"
    if data.startswith(b"\x93NUMPY"):
        return "npy"
    if LEGACY_START in data[:16]:
        return "torch-legacy"
    if _is_safetensors(data):
        return "safetensors"
    if _is_pickle(data):
        return "pickle"
    if head.startswith((b"{", b"[")) and _is_json(data):
        refuse("a JSON text", "give the weights that belong to it")
    refuse(
        f"not a checkpoint: it starts with {data[:16]!r}",
        "expected a torch file, a pickle, npy or safetensors",
    )


def _is_safetensors(data: bytes) -> bool:
    if len(data) < 9:
        return False
    (length,) = struct.unpack_from("<Q", data)
    return data[8:9] == b"{" and 2 <= length < 1 << 40


def _is_pickle(data: bytes) -> bool:
    """Protocol 2 and later start with a mark; the older ones with an opcode of a container."""
    return (data[0] == 0x80 and len(data) > 1 and data[1] < 16) or data[:1] in b"(]}cI\x8a"


def _is_json(data: bytes) -> bool:
    try:
        json.loads(data[: 1 << 20])
    except (ValueError, RecursionError):
        return False
    return True
