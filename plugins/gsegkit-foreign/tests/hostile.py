"""Hostile and damaged files, built byte by byte. Every payload would touch the canary if it ran."""

from __future__ import annotations

import collections
import gzip
import io
import json
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import torch

MAGIC = 0x1950A86A20F9469CFC6C


class Reduced:
    """Pickles as `func(*args)`, with optional state."""

    def __init__(self, func, args, state=None):
        self.reduced = (func, args) if state is None else (func, args, state)

    def __reduce__(self):
        return self.reduced


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


def call(module: str, attribute: str, *args: bytes) -> bytes:
    return name(module, attribute) + b"(" + b"".join(args) + b"tR"


def whole(body: bytes) -> bytes:
    return b"\x80\x02" + body + b"."


def integer(value: int) -> bytes:
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def raw_bytes(value: bytes) -> bytes:
    return b"B" + struct.pack("<I", len(value)) + value


def ints(*values: int) -> bytes:
    return b"(" + b"".join(map(integer, values)) + b"t"


def storage(count: int, kind: bytes | None = None, key: str = "0", tail: bytes = b"N") -> bytes:
    kind = kind or name("torch", "FloatStorage")
    return b"(" + text("storage") + kind + text(key) + text("cpu") + integer(count) + tail + b"tQ"


def rebuilt(source: bytes, offset: int, size: bytes, stride: bytes) -> bytes:
    empty = name("collections", "OrderedDict") + b")R"
    return call("torch._utils", "_rebuild_tensor_v2", source, integer(offset), size, stride, b"\x89", empty)


def legacy(obj: bytes, keys: bytes = b"](X\x01\x00\x00\x000e", data: bytes | None = None) -> bytes:
    """A legacy torch file around the raw pickle body `obj`; one storage "0" of four floats."""
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"int": 4}}
    heads = b"".join(pickle.dumps(part, 2) for part in (MAGIC, 1001, system))
    data = struct.pack("<q4f", 4, 1, 2, 3, 4) if data is None else data
    return heads + whole(obj) + whole(keys) + data


def zipped(pkl: bytes, entries: dict[str, bytes] | None = None, method: int = 0, order: bytes = b"little") -> bytes:
    """A torch zip around a complete pickle; one storage "0" of four floats unless given."""
    entries = {"data/0": struct.pack("<4f", 1, 2, 3, 4)} if entries is None else entries
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr("m/data.pkl", pkl)
        archive.writestr("m/byteorder", order)
        for key, value in entries.items():
            archive.writestr(key if key.startswith("/") or ".." in key else f"m/{key}", value)
        archive.writestr("m/version", b"3\n")
    return buffer.getvalue()


def safetensors(header: object, body: bytes = b"\0" * 16) -> bytes:
    data = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(data)) + data + body


def f32(shape: list[int], begin: int, end: int) -> dict:
    return {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}


def npy(header: str, body: bytes = b"\0" * 16, length: int | None = None) -> bytes:
    data = header.encode("latin-1")
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(data) if length is None else length) + data + body


def good_state() -> dict[str, torch.Tensor]:
    return collections.OrderedDict(
        weight=torch.arange(12, dtype=torch.float32).reshape(3, 4).t(),
        bias=torch.tensor([1.0, -1.0], dtype=torch.float16),
        count=torch.tensor(3),
    )


def saved(state: object, zip_format: bool = True) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer, _use_new_zipfile_serialization=zip_format)
    return buffer.getvalue()


def good_files() -> dict[str, bytes]:
    """One honest file of each container, to damage."""
    array = io.BytesIO()
    np.save(array, np.arange(6, dtype=np.float32).reshape(2, 3))
    state = good_state()
    arrays = {"w": np.arange(6, dtype=np.float64).reshape(2, 3), "gain": np.float32(2.5)}
    header = {"a": f32([2, 2], 0, 16), "__metadata__": {"k": "v"}}
    return {
        "good-zip.pt": saved(state),
        "good-legacy.pt": saved(state, zip_format=False),
        "good-p2.pkl": pickle.dumps({"G": state, "arrays": arrays}, 2),
        "good-p4.pkl": pickle.dumps({"G": state, "arrays": arrays}, 4),
        "good-p5.pkl": pickle.dumps({"G": state, "arrays": arrays}, 5),
        "good.npy": array.getvalue(),
        "good.safetensors": safetensors(header),
    }


def executing(canary: Path) -> dict[str, bytes]:
    """Pickles that run code when they are loaded in the ordinary way."""
    import builtins
    import functools
    import os
    import subprocess

    touch = f"touch {canary}"
    code = f"open({str(canary)!r}, 'w').close()"
    system = call("os", "system", text(touch))
    nested = raw_bytes(legacy(system))
    load = lambda data: call("torch.storage", "_load_from_bytes", raw_bytes(data))  # noqa: E731
    cases = {f"system-p{p}.pkl": pickle.dumps(Reduced(os.system, (touch,)), p) for p in range(6)}
    cases |= {
        "popen.pkl": pickle.dumps(Reduced(subprocess.Popen, (["touch", str(canary)],))),
        "eval.pkl": pickle.dumps(Reduced(builtins.eval, (code,))),
        "exec-py2.pkl": whole(call("__builtin__", "exec", text(code))),
        "import.pkl": whole(call("builtins", "__import__", text("os"))),
        "getattr.pkl": whole(call("builtins", "getattr", name("math", "sin"), text("__self__"))),
        "partial.pkl": pickle.dumps(functools.partial(os.system, touch)),
        "importlib.pkl": whole(call("importlib", "import_module", text("antigravity"))),
        "runpy.pkl": whole(call("runpy", "_run_code", text(code), b"}")),
        "pty.pkl": whole(call("pty", "spawn", text(touch))),
        "socket.pkl": whole(call("socket", "create_connection", b"(" + text("127.0.0.1") + b"K\x09t")),
        "ctypes.pkl": whole(call("ctypes", "CDLL", text("libc.so.6"))),
        "urlopen.pkl": whole(call("urllib.request", "urlopen", text("http://127.0.0.1:9"))),
        "webbrowser.pkl": whole(call("webbrowser", "open", text("http://127.0.0.1:9"))),
        "shutil.pkl": whole(call("shutil", "rmtree", text(str(canary.parent / "x")))),
        "marshal.pkl": whole(call("marshal", "loads", raw_bytes(b"N"))),
        "pickle-loads.pkl": whole(call("pickle", "loads", raw_bytes(whole(system)))),
        "dill.pkl": whole(call("dill._dill", "_create_code", text(code))),
        "hub.pkl": whole(call("torch.hub", "load", text("a/b"), text("c"))),
        "torch-load.pkl": whole(call("torch", "load", text("x.pt"))),
        "collect-env.pkl": whole(call("torch.utils.collect_env", "run", text(touch))),
        "runstring.pkl": whole(call("numpy.testing._private.utils", "runstring", text(code), b"}")),
        "attrgetter.pkl": whole(call("operator", "attrgetter", text("system")) + name("os", "path") + b"\x85R"),
        "timeit.pkl": whole(call("timeit", "timeit", text(code))),
        "code.pkl": whole(name("types", "FunctionType") + b")R"),
        "dotted.pkl": b"\x80\x04" + text("os") + text("path.os.system") + b"\x93" + text(touch) + b"\x85R.",
        "nested-load.pkl": whole(call("torch.storage", "_load_from_bytes", nested)),
        "nested-twice.pkl": whole(load(legacy(load(legacy(system)), b"]", b""))),
        "nested-plain.pkl": whole(load(whole(system))),
        "nested-object.pkl": whole(load(legacy(b"}" + text("a") + storage(4) + b"s"))),
        "zip-system.pt": zipped(whole(system)),
        "legacy-system.pt": legacy(system),
        "legacy-system-in-keys.pt": legacy(storage(4), keys=system),
        "legacy-module-id.pt": legacy(b"(" + text("module") + system + b"NNtQ"),
        "pid-system.pt": zipped(whole(b"(" + text("storage") + system + b"tQ")),
        "newobj.pkl": whole(name("subprocess", "Popen") + b"(" + text(touch) + b"t\x81"),
        "newobj-ex.pkl": b"\x80\x04" + name("subprocess", "Popen") + b")}" + text("args") + text(touch) + b"s\x92.",
        "newobj-kwargs.pkl": b"\x80\x04" + name("collections", "Counter") + b")}" + text("a") + b"K\x01s\x92.",
        "inst.pkl": b"(" + text(touch) + b"ios\nsystem\n.",
        "inst-honest.pkl": b"(icollections\nOrderedDict\n.",
        "obj.pkl": b"(" + name("collections", "OrderedDict") + text(touch) + b"o.",
        "ext1.pkl": whole(b"\x82\x01)R"),
        "ext2.pkl": whole(b"\x83\x01\x01)R"),
        "ext4.pkl": whole(b"\x84\x01\x01\x00\x00)R"),
        "copyreg.pkl": whole(call("copyreg", "add_extension", text("os"), text("system"), b"K\x01") + b"0\x82\x01"),
        "build-class.pkl": whole(name("torch.nn", "Module") + b"}" + text("forward") + system + b"sb"),
        "build-class-state.pkl": whole(name("collections", "OrderedDict") + b"}" + text("get") + text("x") + b"sb"),
        "build-slots.pkl": whole(name("collections", "OrderedDict") + b")R" + b"N}" + text("get") + text("x") + b"s\x86b"),
        "build-dict.pkl": whole(b"}}b"),
        "build-module.pkl": whole(name("torch", "nn") + b"}" + text("Module") + b"K\x01sb"),
        "call-of-call.pkl": whole(call("collections", "OrderedDict") + text(touch) + b"\x85R"),
        "call-of-text.pkl": whole(text("os.system") + text(touch) + b"\x85R"),
        "numpy-object.pkl": pickle.dumps(np.array([Reduced(os.system, (touch,))], dtype=object)),
        "npy-object.npy": npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", whole(system)),
        "npy-eval.npy": npy(f"{{'descr': __import__('os').system({touch!r}), 'fortran_order': False, 'shape': (4,), }}"),
        "torchscript.pt": zipped(whole(b"}"), {"constants.pkl": whole(system), "code/m.py": code.encode()}),
    }  # fmt: skip
    return cases


def bombs() -> dict[str, bytes]:
    """Small files that cost much."""
    double = b"]" + b"q\x00" + b"".join(b"](h" + bytes([i]) + b"h" + bytes([i]) + b"eq" + bytes([i + 1]) for i in range(200))  # fmt: skip
    key = b")" + b"".join(b"q" + bytes([i]) + b"0h" + bytes([i]) + b"h" + bytes([i]) + b"\x86" for i in range(60))  # fmt: skip
    chain = b")" + b"".join(name("collections", "OrderedDict") + b")R" for _ in range(3))
    deep = b"".join(name("collections", "OrderedDict") + b"(" for _ in range(5000)) + b"}" + b"tR" * 5000
    deflated = zipped(whole(b"}"), {"data/0": b"\0" * (64 << 20)}, zipfile.ZIP_DEFLATED)
    shared = whole(
        b"](" + b"".join(rebuilt(storage(1 << 18), 0, ints((1 << 18) - 1), ints(1)) for _ in range(2000)) + b"e"
    )
    entry = {f"t{i}": f32([0], 0, 0) for i in range(100_000)}
    return {
        "memo-long-binput.pkl": whole(b"Nr\xff\xff\xff\xff"),
        "memo-put.pkl": whole(b"Np99999999999999999999\n"),
        "memo-missing.pkl": whole(b"h\x05"),
        "memo-negative.pkl": whole(b"Np-1\n"),
        "opcodes.pkl": whole(b"N0" * 3_000_000 + b"N"),
        "marks.pkl": whole(b"(" * 3_000_000),
        "lists-deep.pkl": whole(b"]" * 100_000 + b"a" * 99_999),
        "tuples-deep.pkl": whole(b")" + b"\x85" * 500_000),
        "calls-deep.pkl": whole(deep),
        "laughs.pkl": whole(double),
        "laughs-key.pkl": whole(b"}" + key + b"Ns"),
        "hash-collisions.pkl": whole(b"}(" + b"".join(integer(i * (2**61 - 1)) + b"N" for i in range(1, 60_000)) + b"u"),
        "ordered-chain.pkl": whole(b"(" + chain * 400_000 + b"t"),
        "bytearray.pkl": whole(call("builtins", "bytearray", integer(1 << 32))),
        "bytes.pkl": whole(call("builtins", "bytes", integer(1 << 34))),
        "long4.pkl": whole(b"\x8b" + struct.pack("<I", 4 << 20) + b"\x7f" * (4 << 20)),
        "long4-lie.pkl": whole(b"\x8b\xff\xff\xff\x7f"),
        "int-line.pkl": b"I" + b"9" * 2_000_000 + b"\n.",
        "long-line.pkl": b"(L" + b"9" * 4_000 + b"L\n.",
        "float-line.pkl": b"(F" + b"9" * 200_000 + b"\n.",
        "binbytes8-lie.pkl": whole(b"\x8e" + struct.pack("<Q", 1 << 62)),
        "binunicode8-lie.pkl": whole(b"\x8d" + struct.pack("<Q", 1 << 62)),
        "bytearray8-lie.pkl": whole(b"\x96" + struct.pack("<Q", 1 << 62)),
        "frame-lie.pkl": b"\x80\x04\x95" + struct.pack("<Q", 1 << 62) + b"N.",
        "stride-zero.pt": zipped(whole(rebuilt(storage(4), 0, ints(100_000, 100_000), ints(0, 0)))),
        "stride-far.pt": zipped(whole(rebuilt(storage(4), 0, ints(2, 2), ints(1000, 1)))),
        "stride-negative.pt": zipped(whole(rebuilt(storage(4), 3, ints(2), ints(-1)))),
        "offset-far.pt": zipped(whole(rebuilt(storage(4), 1 << 39, ints(1), ints(1)))),
        "offset-negative.pt": zipped(whole(rebuilt(storage(4), -4, ints(1), ints(1)))),
        "size-overflow.pt": zipped(whole(rebuilt(storage(4), 0, ints(1 << 39, 1 << 39), ints(0, 0)))),
        "size-huge.pt": zipped(whole(rebuilt(storage(4), 0, ints(1 << 62), ints(1)))),
        "stride-legacy.pt": legacy(rebuilt(storage(4), 0, ints(100_000, 100_000), ints(0, 0))),
        "rank.pt": zipped(whole(rebuilt(storage(4), 0, ints(*[1] * 40), ints(*[1] * 40)))),
        "shared-storage.pt": zipped(shared, {"data/0": b"\0" * (1 << 20)}),
        "zip-deflated.pt": deflated,
        "zip-deflated-pickle.pt": zipped(whole(b"N0" * 400_000 + b"}"), {}, zipfile.ZIP_DEFLATED),
        "zip-entries.pt": zipped(whole(b"}"), {f"data/{i}": b"" for i in range(21_000)}),
        "npy-shape.npy": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999, 9999999), }"),
        "npy-header.npy": npy("{" + " " * 60_000),
        "safetensors-header.safetensors": struct.pack("<Q", 1 << 39) + b"{" + b" " * 64,
        "safetensors-many.safetensors": safetensors(entry, b""),
        "safetensors-deep.safetensors": safetensors(b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}"),
        "paths-double.pkl": whole(text("ab") + b"".join(b"q" + bytes([i]) + name("pathlib", "PosixPath") + b"h" + bytes([i]) + b"h" + bytes([i]) + b"\x86R" for i in range(60))),
        "copies-of-tuple.pkl": whole(b"(" + b"N" * 200_000 + b"tq\x000](" + (name("builtins", "set") + b"h\x00\x85R") * 20_000 + b"e"),
        "copies-of-dict.pkl": whole(b"}(" + b"".join(text(str(i)) + b"N" for i in range(100_000)) + b"uq\x000](" + (name("collections", "OrderedDict") + b"h\x00\x85R") * 20_000 + b"e"),
        "copies-of-state.pkl": whole(b"}(" + b"".join(text(str(i)) + b"N" for i in range(100_000)) + b"uq\x000](" + (name("dnnlib.util", "EasyDict") + b")\x81h\x00b") * 20_000 + b"e"),
        "copies-of-text.pkl": whole(text("x" * 900_000) + b"q\x000" + text("latin1") + b"q\x010](" + (name("_codecs", "encode") + b"h\x00h\x01\x86R") * 20_000 + b"e"),
        "copies-of-file.pkl": whole(raw_bytes(legacy(raw_bytes(b"x" * (4 << 20)) + b"0" + storage(4), b"](" + text("0") + b"e")) + b"q\x000](" + (name("torch.storage", "_load_from_bytes") + b"h\x00\x85R") * 20_000 + b"e"),
        "copies-of-source.pkl": whole(text("x" * 900_000) + b"q\x000](" + (call("torch_utils.persistence", "_reconstruct_persistent_obj", b"}(" + text("type") + text("class") + text("class_name") + text("G") + text("state") + b"}" + text("module_src") + b"h\x00u")) * 2_000 + b"e"),
        "names-long.pkl": b"\x80\x04" + text("m" * 900_000) + b"q\x000](" + b"".join(b"h\x00" + text(f"n{i}") + b"\x93" for i in range(20_000)) + b"e.",
        "keys-laugh.pt": legacy(storage(4), keys=b"](" + double + b"e"),
        "dtype-laugh.pkl": whole(call("numpy", "dtype", double, b"\x89", b"\x88")),
        "repeated-text.pkl": whole(text("x" * 900_000) + b"q\x000](" + b"h\x00" * 300_000 + b"e"),
        "zip-directory.pt": zipped(whole(b"}"), {f"data/{i}": b"" for i in range(60_000)}),
        "array-shape.pkl": whole(_array(1 << 38, b"\0" * 16)),
    }  # fmt: skip


def _array(length: int, data: bytes, code: str = "f4") -> bytes:
    dtype = call("numpy", "dtype", text(code), b"\x89", b"\x88")
    dtype += b"(K\x03" + text("<") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    start = call("numpy.core.multiarray", "_reconstruct", name("numpy", "ndarray"), ints(0), raw_bytes(b"b"))  # fmt: skip
    return start + b"(K\x01" + ints(length) + dtype + b"\x89" + raw_bytes(data) + b"tb"


def broken() -> dict[str, bytes]:
    """Lies, wrong containers, and files that are no checkpoints."""
    good = good_files()
    plain = whole(rebuilt(storage(4), 0, ints(2, 2), ints(2, 1)))
    honest = zipped(plain)
    crc = bytearray(honest)
    crc[honest.index(struct.pack("<4f", 1, 2, 3, 4))] ^= 1
    local = bytearray(honest)
    local[8] = 8  # the first local header says "deflated", the central directory says "stored"
    encrypted = bytearray(honest)
    encrypted[honest.index(b"PK\x01\x02") + 8] |= 1
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("storages"), io.BytesIO())
    twice = io.BytesIO(honest)
    with zipfile.ZipFile(twice, "a") as archive:
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            archive.writestr("m/data.pkl", whole(b"}"))
    half = {"a": f32([2], 0, 8), "b": f32([2], 8, 16)}
    return {
        "empty.pt": b"",
        "zeros.pt": b"\0" * 4096,
        "html.pkl": b"\n <!DOCTYPE html><html><body>quota exceeded</body></html>",
        "html-bom.pkl": b"\xef\xbb\xbf<html>sign in</html>",
        "xml.pkl": b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>",
        "lfs.pkl": b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 1\n",
        "gzip.pt": gzip.compress(honest),
        "bzip2.pt": b"BZh91AY&SY" + b"\1" * 50,
        "xz.pt": b"\xfd7zXZ\x00" + b"\1" * 50,
        "tar.pt": tar.getvalue(),
        "png.pt": b"\x89PNG\r\n\x1a\n" + b"\1" * 50,
        "elf.pt": b"\x7fELF" + b"\1" * 50,
        "hdf5.pt": b"\x89HDF\r\n\x1a\n" + b"\1" * 50,
        "json.pt": b'{"message": "Not Found"}',
        "words.pt": b"Google Drive - Virus scan warning",
        "one-byte.pt": b"\x80",
        "zip-empty.pt": b"PK\x05\x06" + b"\0" * 18,
        "zip-other.pt": _zip_of({"readme.txt": b"hello"}),
        "zip-two-roots.pt": _zip_of({"a/data.pkl": whole(b"}"), "b/data.pkl": whole(b"}")}),
        "zip-twice.pt": twice.getvalue(),
        "zip-dotdot.pt": zipped(plain, {"data/0": b"", "../../../etc/passwd": b"x"}),
        "zip-absolute.pt": zipped(plain, {"data/0": b"", "/etc/passwd": b"x"}),
        "zip-drive.pt": _zip_of({"m/data.pkl": plain, "m/C:evil": b"x"}),
        "zip-backslash.pt": _zip_of({"m/data.pkl": plain, "m\\..\\..\\evil": b"x"}),
        "zip-crc.pt": bytes(crc),
        "zip-local-deflated.pt": bytes(local),
        "zip-encrypted.pt": bytes(encrypted),
        "zip-trailing-pickle.pt": zipped(plain + whole(b"}")),
        "zip-no-storage.pt": zipped(plain, {}),
        "zip-short-storage.pt": zipped(plain, {"data/0": b"\0" * 12}),
        "zip-long-storage.pt": zipped(plain, {"data/0": b"\0" * 20}),
        "zip-big-endian.pt": zipped(plain, order=b"big"),
        "dtype-complex.pt": zipped(whole(rebuilt(storage(4, name("torch", "ComplexFloatStorage")), 0, ints(2), ints(1)))),
        "dtype-quantised.pt": zipped(whole(rebuilt(storage(4, name("torch", "QUInt8Storage")), 0, ints(2), ints(1)))),
        "dtype-foreign.pt": zipped(whole(rebuilt(storage(4, name("evil", "FloatStorage")), 0, ints(2), ints(1)))),
        "storage-text.pt": zipped(whole(rebuilt(text("x"), 0, ints(2), ints(1)))),
        "storage-view.pt": zipped(whole(rebuilt(storage(4, tail=b"(" + text("v") + b"K\x03K\x09t"), 0, ints(2), ints(1)))),
        "pid-text.pt": zipped(whole(b"}" + text("a") + rebuilt(text("0") + b"Q", 0, ints(2), ints(1)) + b"s")),
        "pid-short.pt": zipped(whole(rebuilt(b"(" + text("storage") + b"tQ", 0, ints(2), ints(1)))),
        "size-text.pt": zipped(whole(rebuilt(storage(4), 0, text("22"), ints(1)))),
        "size-bool.pt": zipped(whole(rebuilt(storage(4), 0, b"\x88\x85", ints(1)))),
        "rank-mismatch.pt": zipped(whole(rebuilt(storage(4), 0, ints(2, 2), ints(1)))),
        "size-hidden.pt": zipped(whole(rebuilt(storage(4), 0, call("torch", "Size", text("22")), ints(1)))),
        "parameter-text.pt": zipped(whole(call("torch._utils", "_rebuild_parameter", text("x"), b"\x88", b"N"))),
        "legacy-past-end.pt": legacy(storage(4), data=struct.pack("<q", 1 << 40)),
        "legacy-negative.pt": legacy(storage(4), data=struct.pack("<q4f", -4, 1, 2, 3, 4)),
        "legacy-count-lie.pt": legacy(rebuilt(storage(8), 0, ints(8), ints(1))),
        "legacy-key-unknown.pt": legacy(storage(4), keys=b"]" + text("9") + b"a"),
        "legacy-key-twice.pt": legacy(storage(4), keys=b"](" + text("0") + text("0") + b"e"),
        "legacy-trailing.pt": legacy(storage(4)) + b"more",
        "legacy-magic.pt": legacy(storage(4)).replace(pickle.dumps(1001, 2), pickle.dumps(1002, 2)),
        "legacy-big-endian.pt": legacy(storage(4)).replace(b"\x88s", b"\x89s").replace(b"\x88X", b"\x89X"),
        "escape-sequence.pkl": whole(b"}" + text("\x1b[2J\x07 all is well") + rebuilt(text("\x1b[2J"), 0, ints(1), ints(1)) + b"s"),
        "pickle-trailing.pkl": good["good-p2.pkl"] + b"more",
        "pickle-protocol.pkl": b"\x80\x09N.",
        "pickle-opcode.pkl": whole(b"\xf0"),
        "pickle-underflow.pkl": whole(b"0"),
        "pickle-buffer.pkl": b"\x80\x05\x97.",
        "pickle-odd-dict.pkl": whole(b"(K\x01d"),
        "pickle-list-key.pkl": whole(b"}]Ns"),
        "pickle-call-key.pkl": whole(b"}" + name("collections", "OrderedDict") + b")RNs"),
        "pickle-float-key.pkl": whole(b"}G" + struct.pack(">d", 0.5) + b"Ns"),
        "pickle-append-text.pkl": whole(text("x") + b"Na"),
        "pickle-text-utf8.pkl": whole(b"X\x02\x00\x00\x00\xff\xff"),
        "pickle-string-quotes.pkl": b"(S'abc\n.",
        "pickle-global-bytes.pkl": b"\x80\x04" + raw_bytes(b"os") + raw_bytes(b"system") + b"\x93.",
        "array-short.pkl": whole(_array(4, b"\0" * 8)),
        "array-object.pkl": whole(_array(1, b"\0" * 8, "O8")),
        "array-record.pkl": whole(_array(1, b"\0" * 8, "V8")),
        "array-complex.pkl": whole(_array(1, b"\0" * 8, "c8")),
        "array-scalar.pkl": whole(call("numpy.core.multiarray", "scalar", call("numpy", "dtype", text("f8"), b"\x89", b"\x88"), raw_bytes(b"\0"))),
        "array-encoding.pkl": whole(call("_codecs", "encode", text("x"), text("rot13"))),
        "npy-short.npy": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (9,), }"),
        "npy-version.npy": b"\x93NUMPY\x09\x00\x10\x00" + b" " * 32,
        "npy-length.npy": npy("{'descr'", length=9_999),
        "safetensors-overlap.safetensors": safetensors({"a": f32([3], 0, 12), "b": f32([2], 8, 16)}),
        "safetensors-hole.safetensors": safetensors({"a": f32([1], 0, 4), "b": f32([2], 8, 16)}),
        "safetensors-beyond.safetensors": safetensors(half, b"\0" * 12),
        "safetensors-trailing.safetensors": safetensors(half, b"\0" * 24),
        "safetensors-shape.safetensors": safetensors({"a": f32([5], 0, 16)}),
        "safetensors-overflow.safetensors": safetensors({"a": f32([1 << 62, 4], 0, 16)}),
        "safetensors-negative.safetensors": safetensors({"a": f32([-4], 0, 16)}),
        "safetensors-bool-shape.safetensors": safetensors({"a": f32([True, 4], 0, 16)}),
        "safetensors-dtype.safetensors": safetensors({"a": {**f32([4], 0, 16), "dtype": "Q4"}}),
        "safetensors-dtype-list.safetensors": safetensors({"a": {**f32([4], 0, 16), "dtype": ["F32"]}}),
        "safetensors-fields.safetensors": safetensors({"a": {"dtype": "F32"}}),
        "safetensors-extra.safetensors": safetensors({"a": {**f32([4], 0, 16), "code": "x"}}),
        "safetensors-twice.safetensors": safetensors(b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}'),
        "safetensors-nan.safetensors": safetensors(b'{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,16]}}'),
        "safetensors-text.safetensors": safetensors(b"{not json}"),
        "safetensors-metadata.safetensors": safetensors({**half, "__metadata__": {"k": 1}}),
        "safetensors-float-offset.safetensors": safetensors({"a": {**f32([4], 0, 16), "data_offsets": [0, 16.0]}}),
    }  # fmt: skip


def _zip_of(entries: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for key, value in entries.items():
            archive.writestr(zipfile.ZipInfo(key), value)
    return buffer.getvalue()


def truncated(points: int = 25) -> dict[str, bytes]:
    """Each honest file cut at many places; a cut container is never a smaller honest one."""
    cases = {}
    for file, data in good_files().items():
        for i in range(points):
            cut = len(data) * i // points
            cases[f"cut-{cut:06d}-{file}"] = data[:cut]
        cases[f"cut-{len(data) - 1:06d}-{file}"] = data[:-1]
    return cases
