"""The two containers of `torch.save`: a zip of stored entries, and the older row of pickles."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from dataclasses import dataclass, field
from typing import Any

import torch

from gsegkit_foreign.arrays import STORAGE_DTYPES, flat_tensor
from gsegkit_foreign.kinds import refuse_archive
from gsegkit_foreign.limits import HOSTILE, Budget, refuse
from gsegkit_foreign.machine import Machine
from gsegkit_foreign.nodes import Global, Persistent, describe

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_START = b"\x8a\x0a" + LEGACY_MAGIC.to_bytes(10, "little") + b"."


@dataclass
class Parsed:
    """A pickle that was read to its end, and where its storages lie.

    Attributes:
        root: raw value.
        names: every global named in it.
        storages: storage key -> bytes; empty for a plain pickle.
        end: first byte after it (only for files that go on).
    """

    root: Any
    names: set[str] = field(default_factory=set)
    storages: dict[str, bytes | memoryview] = field(default_factory=dict)
    end: int = 0


def read_pickle(data: bytes, budget: Budget, start: int = 0) -> tuple[Parsed, list[Persistent]]:
    """One pickle from byte `start` on, and the persistent references in it."""
    machine = Machine(data, budget, start)
    root = machine.run()
    return Parsed(root, machine.names, {}, machine.position), machine.persistents


def read_zip(data: bytes, budget: Budget) -> Parsed:
    """A checkpoint in torch's zip format; every entry is checked before one is used."""
    entries = _stored_entries(data, budget)
    root = _root_folder(entries)
    pickle = entries[f"{root}/data.pkl"]
    if len(pickle) > budget.limits.pickle_bytes:
        refuse(f"a data.pkl of {len(pickle)} bytes", HOSTILE)
    if bytes(entries.get(f"{root}/byteorder", b"little")) != b"little":
        refuse("a checkpoint written on a big-endian machine", "convert it where it was made")
    parsed, _ = read_pickle(bytes(pickle), budget)
    if parsed.end != len(pickle):
        refuse(f"{len(pickle) - parsed.end} bytes after the end of data.pkl", HOSTILE)
    prefix = f"{root}/data/"
    for name, body in entries.items():
        if name.startswith(prefix):
            parsed.storages[name.removeprefix(prefix)] = body
    return parsed


class _ShortReads(io.BytesIO):
    """Refuses long reads: the directory of a zip is read in one, before its entries can be counted."""

    def __init__(self, data: bytes, limit: int) -> None:
        super().__init__(data)
        self._limit = limit

    def read(self, size: int | None = -1, /) -> bytes:
        rest = self.getbuffer().nbytes - self.tell()
        if (rest if size is None or size < 0 else min(size, rest)) > self._limit:
            refuse(f"a zip whose directory is larger than {self._limit} bytes", HOSTILE)
        return super().read(size)


def _stored_entries(data: bytes, budget: Budget) -> dict[str, memoryview]:
    """Every entry of a zip as a view of the file: stored, uniquely named, apart, checksums right."""
    try:
        source = _ShortReads(data, budget.limits.header_bytes)
        with zipfile.ZipFile(source, metadata_encoding="utf-8") as archive:
            infos = sorted(archive.infolist(), key=lambda info: info.header_offset)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, OSError) as error:
        refuse(f"a broken zip: {str(error)[:100]}")
    if len(infos) > budget.limits.zip_entries:
        refuse(f"a zip with {len(infos)} entries", HOSTILE)
    refuse_archive([info.filename for info in infos])
    entries: dict[str, memoryview] = {}
    free = 0
    for info in infos:
        _check_entry(info, entries)
        if info.header_offset < free:
            refuse(f"zip entry {info.filename[:60]!r} overlaps another", HOSTILE)
        body, free = _body(data, info)
        if zlib.crc32(body) != info.CRC:
            refuse(f"zip entry {info.filename[:60]!r} has a wrong checksum")
        entries[info.filename] = body
    return entries


def _check_entry(info: zipfile.ZipInfo, known: dict[str, memoryview]) -> None:
    name = info.filename
    parts = info.orig_filename.replace("\\", "/").split("/")
    if name in known:
        refuse(f"a zip that holds {name[:60]!r} twice", HOSTILE)
    if name != info.orig_filename or ".." in parts or "" in parts[:-1] or ":" in name:
        refuse(f"a zip entry named {info.orig_filename[:60]!r}", HOSTILE)
    if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
        refuse(f"a compressed zip entry {name[:60]!r}; torch.save never compresses", HOSTILE)
    if info.flag_bits & 0x1:
        refuse(f"an encrypted zip entry {name[:60]!r}", "save the checkpoint without encryption")


def _body(data: bytes, info: zipfile.ZipInfo) -> tuple[memoryview, int]:
    """The bytes of a stored entry, found by its local header, and the first byte after them."""
    head = data[info.header_offset : info.header_offset + 30]
    if len(head) < 30 or head[:4] != b"PK\x03\x04":
        refuse(f"zip entry {info.filename[:60]!r} has no local header")
    name_bytes, extra_bytes = struct.unpack_from("<HH", head, 26)
    start = info.header_offset + 30 + name_bytes + extra_bytes
    if start + info.file_size > len(data):
        refuse(f"zip entry {info.filename[:60]!r} runs past the end of the file")
    if struct.unpack_from("<H", head, 8)[0] != zipfile.ZIP_STORED:
        refuse(f"zip entry {info.filename[:60]!r} is compressed by its local header", HOSTILE)
    end = start + info.file_size
    return memoryview(data)[start:end], end


def _root_folder(entries: dict[str, memoryview]) -> str:
    roots = [name.removesuffix("/data.pkl") for name in entries if name.endswith("/data.pkl")]
    if len(roots) != 1 or "/" in roots[0]:
        refuse(
            f"a zip without one data.pkl; it holds {', '.join(sorted(entries)[:3])[:120]!r}",
            "a torch checkpoint was expected; unpack an archive first",
        )
    return roots[0]


def read_legacy(data: bytes, budget: Budget) -> Parsed:
    """A checkpoint in torch's older format: magic, version, system, object, keys, raw storages."""
    position, heads = 0, []
    for _ in range(3):
        head, _ = read_pickle(data, budget, position)
        heads.append(head.root)
        position = head.end
    magic, version, system = heads
    if magic != LEGACY_MAGIC or version != 1001 or not isinstance(system, dict):
        refuse("a legacy torch file with an unknown magic number or version")
    if system.get("little_endian") is not True:
        refuse("a checkpoint written on a big-endian machine", "convert it where it was made")
    parsed, persistents = read_pickle(data, budget, position)
    keys, _ = read_pickle(data, budget, parsed.end)
    dtypes = {key: dtype for key, dtype, _ in map(storage_fields, persistents)}
    if not isinstance(keys.root, list) or not all(isinstance(key, str) for key in keys.root):
        refuse("a legacy torch file whose list of storages is broken")
    if len(keys.root) != len(set(keys.root)):
        refuse("a legacy torch file that lists a storage twice", HOSTILE)
    position, view = keys.end, memoryview(data)
    for key in keys.root:
        if key not in dtypes:
            refuse(f"a storage {describe(key)} that nothing refers to")
        if position + 8 > len(data):
            refuse(f"the file ends before storage {key[:40]!r}")
        (count,) = struct.unpack_from("<q", data, position)
        end = position + 8 + count * dtypes[key].itemsize
        if count < 0 or end > len(data):
            refuse(f"storage {key[:40]!r} of {count} elements runs past the end of the file")
        parsed.storages[key] = view[position + 8 : end]
        position = end
    parsed.end = position
    return parsed


def storage_fields(reference: Persistent) -> tuple[str, torch.dtype, int]:
    """Key, dtype and number of elements of a persistent reference to a storage."""
    pid = reference.pid
    if not isinstance(pid, tuple) or len(pid) not in (5, 6) or pid[0] != "storage":
        refuse(f"a persistent reference that is {describe(pid)}", HOSTILE)
    kind, key, count = pid[1], pid[2], pid[4]
    dtype = STORAGE_DTYPES.get(kind.name) if isinstance(kind, Global) else None
    if dtype is None or kind.module not in ("torch", "torch.storage", "torch.cuda"):
        refuse(f"a storage whose type is {describe(kind)}", "only plain number types are read")
    if not isinstance(key, str) or not isinstance(count, int):
        refuse("a storage without key or length")
    return key, dtype, count


def storage_tensor(reference: Persistent, storages: dict[str, bytes | memoryview], budget: Budget) -> torch.Tensor:
    """The storage that a persistent reference means, as a one-dimensional tensor."""
    key, dtype, count = storage_fields(reference)
    if key not in storages:
        refuse(f"the file names storage {key[:40]!r} but does not hold it")
    data = storages[key]
    if len(data) != count * dtype.itemsize:
        refuse(f"storage {key[:40]!r} has {len(data)} bytes, not {count} elements of {dtype}")
    flat = flat_tensor(data, dtype, budget)
    view = reference.pid[5] if len(reference.pid) == 6 else None
    if view is None:
        return flat
    if not isinstance(view, tuple) or len(view) != 3:
        refuse("a storage view that cannot be parsed")
    _, offset, size = view
    if not all(isinstance(n, int) and n >= 0 for n in (offset, size)) or offset + size > count:
        refuse("a storage view outside its storage", HOSTILE)
    return flat[offset : offset + size]
