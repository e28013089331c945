"""A pretended GPU: everything is computed on the CPU, and a mix of devices is the error that it would be on a GPU.

Tensors that were moved to `cuda` are marked by their storage, say so when they are asked, and pass the mark on. A call
that gets marked and unmarked tensors together fails, as CUDA's does: numbers without dimensions, copies, and indices on
the CPU apart. So does `.numpy()` of a marked tensor, and a generator of the CPU's random numbers that shall fill a
marked one. What happens inside one call of torch, a backward pass among them, is not looked at.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

DEVICE = torch.device("cuda", 0)
_DEVICE: Any = Tensor.device  # the getters, which a type checker takes for their values
_GRAD: Any = Tensor.grad
_DATA: Any = Tensor.data
_IS_CUDA: Any = Tensor.is_cuda
_IS_CPU: Any = Tensor.is_cpu
GETTERS = {_DEVICE.__get__, _IS_CUDA.__get__, _IS_CPU.__get__}
MOVES = {Tensor.to, Tensor.cuda, Tensor.cpu}
#: Take tensors of both places, on a GPU too.
BETWEEN = {Tensor.copy_, _GRAD.__set__, _DATA.__set__, torch._has_compatible_shallow_copy_type}


class MixedDevices(RuntimeError):
    """What a GPU would have refused."""


class Elsewhere(TorchFunctionMode):
    """While it is entered, `cuda` is a device.

    Example:
        >>> with Elsewhere():
        ...     there = torch.zeros(2, device="cuda")
        ...     print(there.device)
        ...     try:
        ...         there + torch.ones(2)
        ...     except MixedDevices as error:
        ...         print(error)
        cuda:0
        add: tensors on cuda:0 and on the CPU
    """

    def __init__(self) -> None:
        super().__init__()
        self._marked: dict[int, torch.UntypedStorage] = {}  # holds them, so that no address is used twice

    def there(self, tensor: Tensor) -> bool:
        """Whether a tensor is on the pretended device."""
        return tensor.layout == torch.strided and tensor.untyped_storage()._cdata in self._marked

    def mark(self, value: Any) -> Any:
        """Put what a call returned there."""
        for tensor in tensors(value):
            storage = tensor.untyped_storage()
            self._marked[storage._cdata] = storage
        return value

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        if func in GETTERS:
            return self._asked(func, args[0])
        if func is _GRAD.__get__:
            found = func(*args)
            return self.mark(found) if found is not None and self.there(args[0]) else found
        if func in MOVES:
            return self._moved(func, list(args), given)
        if func is Tensor.pin_memory:
            return args[0]
        if func in (Tensor.numpy, Tensor.__array__) and self.there(args[0]):
            raise MixedDevices("numpy: the tensor is on cuda:0")
        wanted = _device_of(given.get("device"))
        if wanted is not None:
            given["device"] = torch.device("cpu")
            drawn = given.get("generator")
            if drawn is not None and (wanted.type == "cuda") != getattr(drawn, "elsewhere", False):
                raise MixedDevices(f"{name_of(func)}: the generator is another device's")
        inputs = list(tensors((args, given)))
        marked = [self.there(tensor) for tensor in inputs]
        if func not in BETWEEN:
            self._check(func, args, inputs, marked)
        if not any(marked) and (wanted is None or wanted.type != "cuda"):
            return func(*args, **given)
        found = func(*args, **given)
        if wanted is not None and wanted.type != "cuda" and not _same_storage(found, inputs):
            return found
        return self.mark(found) if func not in BETWEEN else found

    def _asked(self, func: Any, tensor: Tensor) -> Any:
        if not self.there(tensor):
            return func(tensor)
        return {"device": DEVICE, "is_cuda": True, "is_cpu": False}[func.__self__.__name__]

    def _moved(self, func: Any, args: list[Any], given: dict[str, Any]) -> Any:
        """A copy at the other place; of an aliased tensor the original would move too."""
        tensor = args[0]
        aim = {Tensor.cuda: DEVICE, Tensor.cpu: torch.device("cpu")}.get(func)
        if func is Tensor.to:
            for i, value in enumerate(args[1:], 1):
                if isinstance(value, Tensor):
                    aim = DEVICE if self.there(value) else torch.device("cpu")
                    args[i] = value.dtype
                elif (found := _device_of(value)) is not None:
                    aim, args[i] = found, torch.device("cpu")
            if given.get("device") is not None:
                aim, given["device"] = _device_of(given["device"]), torch.device("cpu")
            given = {key: value for key, value in given.items() if value is not None}
            moved = Tensor.to(*args, **given) if len(args) > 1 or given else tensor
        else:
            moved = tensor
        here = not self.there(tensor)
        if aim is None or (aim.type == "cpu") == here:
            return moved if here else self.mark(moved)
        moved = moved.clone() if moved.untyped_storage()._cdata == tensor.untyped_storage()._cdata else moved
        return self.mark(moved) if aim.type == "cuda" else moved

    def _check(self, func: Any, args: Sequence[Any], inputs: list[Tensor], marked: list[bool]) -> None:
        there = [tensor for tensor, mark in zip(inputs, marked, strict=True) if mark]
        here = [tensor for tensor, mark in zip(inputs, marked, strict=True) if not mark and tensor.ndim]
        if not there or not here:
            return
        if func in (Tensor.__getitem__, Tensor.__setitem__) and self.there(args[0]):
            indices = list(tensors(args[1]))
            value = [tensor for tensor in tensors(args[2:]) if tensor.numel() > 1 and not self.there(tensor)]
            if not value or not indices:  # indices may be the CPU's; without any, values are copied
                return
        if all(tensor.ndim == 0 for tensor in there) and func not in (torch.stack, torch.cat):
            raise MixedDevices(f"{name_of(func)}: a number on cuda:0 and tensors on the CPU")
        raise MixedDevices(f"{name_of(func)}: tensors on cuda:0 and on the CPU")


@contextlib.contextmanager
def pretended() -> Iterator[Elsewhere]:
    """A machine with one pretended GPU: its streams do nothing, and recording a graph fails as it may on a true one."""
    values = {"device_count": 1, "is_bf16_supported": True, "mem_get_info": (1 << 33, 1 << 33), "graph_pool_handle": 0}
    names = {"Stream": mock.MagicMock(), "current_stream": mock.MagicMock(), "CUDAGraph": _no_graph}
    names |= {name: lambda *_, value=value, **__: value for name, value in values.items()}
    names |= dict.fromkeys(("device", "stream"), lambda *_: contextlib.nullcontext())
    names["set_device"] = mock.MagicMock()
    with contextlib.ExitStack() as stack:
        for name, replacement in names.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, replacement))
        stack.enter_context(mock.patch.object(torch, "Generator", Drawing))
        yield stack.enter_context(Elsewhere())


class Drawing(torch.Generator):
    """Random numbers of either place; those of the pretended GPU are the CPU's too."""

    def __new__(cls, device: Any = "cpu") -> Drawing:
        """See `torch.Generator`."""
        made = super().__new__(cls)
        made.elsewhere = torch.device(device).type == "cuda"  # type: ignore[attr-defined]
        return made

    def __init__(self, device: Any = "cpu") -> None:
        super().__init__()

    def manual_seed(self, seed: int) -> Drawing:
        """See `torch.Generator.manual_seed`, which returns another object."""
        super().manual_seed(seed)
        return self


def _no_graph() -> None:
    raise RuntimeError("a pretended GPU records no graph")


def tensors(value: Any) -> Iterator[Tensor]:
    """All tensors in nested lists and dictionaries."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors(item)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from tensors(item)


def name_of(func: Any) -> str:
    """A function's name for people."""
    return str(getattr(func, "__name__", func)).strip("_")


def _device_of(value: Any) -> torch.device | None:
    if isinstance(value, torch.device):
        return value
    if isinstance(value, str) and value.partition(":")[0] in ("cuda", "cpu"):
        return torch.device(value)
    return None


def _same_storage(found: Any, inputs: list[Tensor]) -> bool:
    own = {tensor.untyped_storage()._cdata for tensor in inputs}
    return any(tensor.untyped_storage()._cdata in own for tensor in tensors(found))
