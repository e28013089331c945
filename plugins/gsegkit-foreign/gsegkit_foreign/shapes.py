"""Meaning of the few calls that checkpoints are made of; every other call stays opaque.

Each function here re-creates plain data from the notes of a call. The callable that the file
named is not involved.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import torch

from gsegkit_foreign.arrays import Bytes, array_tensor, numpy_dtype, numpy_scalar, strided_tensor
from gsegkit_foreign.limits import HOSTILE, Budget, refuse
from gsegkit_foreign.nodes import Call, Global, LongText, Opaque, Persistent, Record, describe
from gsegkit_foreign.torchzip import read_legacy, storage_fields, storage_tensor

_TENSOR_CLASSES = ("torch.Tensor", "torch._tensor.Tensor", "torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer")


class Evaluator:
    """Turns raw values of one file into data; results are kept, so shared parts cost once."""

    def __init__(self, storages: dict[str, bytes | memoryview], budget: Budget) -> None:
        self.budget = budget
        self._storages = storages
        self._storage_tensors: dict[Any, torch.Tensor] = {}
        self._done: dict[int, tuple[Any, Any]] = {}  # the raw value is kept so that its id stays
        self._nesting = 0

    def shallow(self, raw: Any) -> Any:
        """Evaluate one level; containers keep raw values inside."""
        if isinstance(raw, LongText):
            self.budget.spend_text(len(raw.data))
            return raw.decode()
        if not isinstance(raw, (Call, Global, Persistent)):
            return raw
        if id(raw) in self._done:
            return self._done[id(raw)][1]
        self._nesting += 1
        if self._nesting > self.budget.limits.depth:
            refuse("calls nested too deeply", HOSTILE)
        try:
            value = self._evaluate(raw)
        finally:
            self._nesting -= 1
        self._done[id(raw)] = (raw, value)
        return value

    def _evaluate(self, raw: Call | Global | Persistent) -> Any:
        if isinstance(raw, Persistent):
            return self.storage(raw)
        if isinstance(raw, Global):
            return raw.path
        shape = SHAPES.get(raw.func.path)
        if shape is not None:
            return shape(self, raw)
        if raw.func.path in ("copyreg._reconstructor", "copy_reg._reconstructor"):
            return self._record(self.shallow(raw.args[0]) if raw.args else "?", raw)
        if raw.new or raw.func.path.endswith((".Network", "Namespace")):
            return self._record(raw.func.path, raw)
        return Opaque(raw.func.path)

    def _record(self, class_name: Any, call: Call) -> Any:
        state = self.state(call)
        if not isinstance(class_name, str) or not isinstance(state, dict):
            return Opaque(call.func.path)
        if call.state and call.pairs:  # tables of a class of their own
            self.budget.spend_opcode(len(state) + len(call.pairs))
            state = {**call.pairs, **state}
        if class_name in ("argparse.Namespace", "types.SimpleNamespace"):
            return state
        return Record(class_name, state)

    def state(self, call: Call) -> Any:
        """The one state of an object, as a table of raw values when it is one."""
        if not call.state:
            return dict(call.pairs)
        if len(call.state) > 1:
            refuse(f"sets the state of {call.func.path!r} {len(call.state)} times", HOSTILE)
        return self.shallow(call.state[0])

    def storage(self, raw: Any) -> torch.Tensor:
        """A torch storage: a persistent reference, or bytes of a torch file of one storage."""
        key: Any = id(raw)
        if isinstance(raw, Persistent):  # two references to one storage share its tensor
            key = (*storage_fields(raw), str(self.plain(raw.pid[5:], 0)))
        if key not in self._storage_tensors:
            self._storage_tensors[key] = self._new_storage(raw)
        return self._storage_tensors[key]

    def _new_storage(self, raw: Any) -> torch.Tensor:
        if isinstance(raw, Persistent):
            return storage_tensor(raw, self._storages, self.budget)
        if isinstance(raw, Call) and raw.func.path == "torch.storage._load_from_bytes":
            value = self.shallow(raw)
            if isinstance(value, torch.Tensor):
                return value
        refuse(f"a tensor whose storage is {describe(raw)}", HOSTILE)

    def plain(self, raw: Any, depth: int) -> Any:
        """JSON-like data; tensors and unknown calls become texts. Bounded by depth and by the budget."""
        if depth > self.budget.limits.depth:
            refuse("containers nested too deeply", HOSTILE)
        self.budget.spend_opcode()
        value = self.shallow(raw)
        if isinstance(value, str):
            self.budget.spend_text(len(value))
            return value
        if value is None or isinstance(value, (bool, int, float)):
            return value
        if isinstance(value, dict):
            return {str(key): self.plain(item, depth + 1) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.plain(item, depth + 1) for item in value]
        if isinstance(value, Record):
            state = {name: self.plain(item, depth + 1) for name, item in value.state.items()}
            return {"class": value.class_name, "source_sha256": value.source_sha256, "state": state}
        return describe(value)


def _exactly(call: Call, least: int, most: int) -> tuple[Any, ...]:
    if not least <= len(call.args) <= most:
        refuse(f"{call.func.path} with {len(call.args)} arguments", HOSTILE)
    return call.args


def _dict(evaluator: Evaluator, call: Call) -> dict[Any, Any]:
    """OrderedDict, EasyDict: items stored one by one, or given as a list of pairs."""
    result: dict[Any, Any] = {}
    (given,) = _exactly(call, 0, 1) or ((),)
    pairs = evaluator.shallow(given)
    if isinstance(pairs, (dict, list, tuple)):
        evaluator.budget.spend_opcode(len(pairs))
    if isinstance(pairs, dict):
        result.update(pairs)
    else:
        for pair in pairs if isinstance(pairs, (list, tuple)) else ():
            if not isinstance(pair, (list, tuple)) or len(pair) != 2 or not isinstance(pair[0], str):
                refuse(f"{call.func.path} made from something other than pairs")
            result[pair[0]] = pair[1]
    result.update(call.pairs)
    return result


def _default_dict(evaluator: Evaluator, call: Call) -> dict[Any, Any]:
    """collections.defaultdict: what it makes of missing keys does not matter here."""
    _exactly(call, 0, 1)
    return dict(call.pairs)


def _easy_dict(evaluator: Evaluator, call: Call) -> dict[Any, Any]:
    result = _dict(evaluator, call)
    state = evaluator.state(call) if call.state else {}
    if not isinstance(state, dict):
        return result
    evaluator.budget.spend_opcode(len(state))
    return {**result, **state}


def _tensor(evaluator: Evaluator, call: Call) -> torch.Tensor:
    storage, offset, size, stride = _exactly(call, 4, 7)[:4]
    size, stride = evaluator.shallow(size), evaluator.shallow(stride)
    flat = evaluator.storage(storage)
    return strided_tensor(flat, offset, size, stride, evaluator.budget)


def _attributed_tensor(evaluator: Evaluator, call: Call) -> Any:
    """A tensor or buffer with attributes of its own, which are not needed; of another class it stays a note."""
    func, kind, args, _ = _exactly(call, 4, 4)
    args = evaluator.shallow(args)
    known = isinstance(func, Global) and SHAPES.get(func.path) in (_tensor, _parameter) and isinstance(args, tuple)
    if not known or not isinstance(kind, Global) or kind.path not in _TENSOR_CLASSES:
        return Opaque(call.func.path)
    return evaluator.shallow(Call(func, args, new=False))


def _parameter(evaluator: Evaluator, call: Call) -> torch.Tensor:
    value = evaluator.shallow(_exactly(call, 1, 4)[0])
    if not isinstance(value, torch.Tensor):
        refuse(f"a parameter made from {describe(value)}", HOSTILE)
    return value


def _nested_storage(evaluator: Evaluator, call: Call) -> torch.Tensor:
    """`_load_from_bytes` unpickles its argument: here that is one more inert reading."""
    (data,) = _exactly(call, 1, 1)
    data = _bytes(evaluator, data)
    evaluator.budget.spend_tensor(len(data))
    parsed = read_legacy(bytes(data), evaluator.budget)
    if not isinstance(parsed.root, Persistent) or parsed.end != len(data):
        refuse(f"a nested torch file that holds {describe(parsed.root)}, not one storage", HOSTILE)
    return storage_tensor(parsed.root, parsed.storages, evaluator.budget)


def _bytes(evaluator: Evaluator, raw: Any) -> Bytes:
    value = raw.decode() if isinstance(raw, LongText) else evaluator.shallow(raw)
    if isinstance(value, str):  # Python 2 has no other type for bytes
        value = value.encode("latin-1")
    if not isinstance(value, (bytes, memoryview)):
        refuse(f"{describe(value)} where bytes were expected")
    return value


def _encode(evaluator: Evaluator, call: Call) -> bytes:
    """Bytes in protocols 0 to 2 of Python 3: text to be encoded as latin-1."""
    text, encoding = _exactly(call, 2, 2)
    if isinstance(text, (LongText, str)):
        evaluator.budget.spend_tensor(len(text.data if isinstance(text, LongText) else text))
    if isinstance(text, LongText):
        text = text.decode()
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        refuse(f"a text to be encoded as {describe(encoding)}", HOSTILE)
    return text.encode("latin-1")


def _byte_array(evaluator: Evaluator, call: Call) -> Bytes:
    args = _exactly(call, 0, 2)
    if not args:
        return b""
    if len(args) == 2:  # bytearray(text, "latin-1")
        return _encode(evaluator, call)
    if isinstance(evaluator.shallow(args[0]), int):
        refuse("an array of zeros of a length that the file chooses", HOSTILE)
    return _bytes(evaluator, args[0])


def _numpy_dtype(evaluator: Evaluator, call: Call) -> Any:
    code = _exactly(call, 1, 3)[0]
    order: Any = "="
    if call.state:
        state = evaluator.state(call)
        if not isinstance(state, tuple) or len(state) < 2 or any(x is not None for x in state[2:5]):
            refuse("an array whose elements are records", "only arrays of plain numbers are read")
        order = state[1]
    return numpy_dtype(code, order)


def _dtype_of(evaluator: Evaluator, raw: Any) -> Any:
    if not isinstance(raw, Call) or raw.func.path != "numpy.dtype":
        refuse(f"{describe(raw)} where a numpy dtype was expected")
    return evaluator.shallow(raw)


def _numpy_array(evaluator: Evaluator, call: Call) -> torch.Tensor:
    state = evaluator.state(call)
    if not isinstance(state, tuple) or len(state) != 5:
        refuse("a numpy array without its state")
    _, shape, dtype, fortran, data = state
    return array_tensor(
        _bytes(evaluator, data),
        _dtype_of(evaluator, dtype),
        evaluator.shallow(shape),
        fortran is True,
        evaluator.budget,
    )


def _numpy_frombuffer(evaluator: Evaluator, call: Call) -> torch.Tensor:
    data, dtype, shape, order = _exactly(call, 4, 5)[:4]
    return array_tensor(
        _bytes(evaluator, data),
        _dtype_of(evaluator, dtype),
        evaluator.shallow(shape),
        order == "F",
        evaluator.budget,
    )


def _numpy_scalar(evaluator: Evaluator, call: Call) -> int | float | bool:
    dtype, data = _exactly(call, 2, 2)
    return numpy_scalar(_bytes(evaluator, data), _dtype_of(evaluator, dtype))


def _persistent_object(evaluator: Evaluator, call: Call) -> Record:
    """NVIDIA's hook: class name, source text and state of an object. The text is only hashed."""
    meta = evaluator.shallow(_exactly(call, 1, 1)[0])
    if not isinstance(meta, dict) or meta.get("type") != "class":
        refuse("a persistent object without its description")
    name, state = meta.get("class_name"), evaluator.shallow(meta.get("state"))
    source = evaluator.shallow(meta.get("module_src"))
    if not isinstance(name, str) or not isinstance(state, dict) or not isinstance(source, str):
        refuse("a persistent object without class name, source or state")
    evaluator.budget.spend_text(len(source))
    sha256 = hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest()
    return Record(name, state, sha256)


def _sequence(evaluator: Evaluator, call: Call) -> tuple[Any, ...]:
    args = _exactly(call, 0, 1)
    given = evaluator.shallow(args[0]) if args else ()
    if not isinstance(given, (list, tuple)):
        refuse(f"{call.func.path} made from {describe(given)}")
    evaluator.budget.spend_opcode(len(given))
    return (*given, *call.items)


def _first_text(evaluator: Evaluator, call: Call) -> str:
    parts = [evaluator.shallow(arg) for arg in _exactly(call, 0, 32)]
    text = ":".join(part if isinstance(part, str) else describe(part) for part in parts)
    if len(text) > 4096:
        refuse(f"{call.func.path} of {len(text)} characters", HOSTILE)
    return text


SHAPES: dict[str, Callable[[Evaluator, Call], Any]] = {
    "collections.OrderedDict": _dict,
    "collections.defaultdict": _default_dict,
    "builtins.dict": _dict,
    "dnnlib.util.EasyDict": _easy_dict,
    "dnnlib.EasyDict": _easy_dict,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._tensor._rebuild_from_type_v2": _attributed_tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch.storage._load_from_bytes": _nested_storage,
    "torch_utils.persistence._reconstruct_persistent_obj": _persistent_object,
    "_codecs.encode": _encode,
    "builtins.bytearray": _byte_array,
    "builtins.bytes": _byte_array,
    "builtins.set": _sequence,
    "builtins.frozenset": _sequence,
    "builtins.list": _sequence,
    "builtins.tuple": _sequence,
    "__builtin__.set": _sequence,
    "__builtin__.bytearray": _byte_array,
    "torch.Size": _sequence,
    "torch.device": _first_text,
    "pathlib.PosixPath": _first_text,
    "pathlib.WindowsPath": _first_text,
    "pathlib._local.PosixPath": _first_text,
    "numpy.dtype": _numpy_dtype,
}
for _core in ("numpy.core", "numpy._core"):
    SHAPES[f"{_core}.multiarray._reconstruct"] = _numpy_array
    SHAPES[f"{_core}.multiarray.scalar"] = _numpy_scalar
    SHAPES[f"{_core}.numeric._frombuffer"] = _numpy_frombuffer
