"""How much memory a stored part may take: what its options and facts ask for is counted before it is made.

This file and `tensors.py` are the ones of this folder that import torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from gsegkit.errors import ArtifactError

TIMES = 4  # a part may be made once from its options and again from its facts, and half of it may not be stored
SPARE = 256 << 20  # bytes beside that
PER_TENSOR = 16 << 10  # bytes that a module takes beside its numbers, so that millions of small ones end too
UNTRAINED = 512 << 20  # bytes of a part without stored tensors: the largest published GANs take half of it


class Budget(TorchDispatchMode):
    """Within the block, new tensors are refused before they are made once they exceed what stored tensors explain.

    Example:
        >>> with Budget(1000, "a folder"):
        ...     torch.nn.Conv2d(100_000, 100_000, 3)
        Traceback (most recent call last):
        gsegkit.errors.ArtifactError: 'a folder' asks for more memory than ...
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing is compiled in the block; to say so by default, torch imports its compiler, which takes seconds."""
        return False

    def __init__(self, stored: int | None, source: str) -> None:
        """`stored`: bytes of the tensors that will be loaded, None = there are none; `source`: for the message."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.source = source
        self.left = UNTRAINED if stored is None else TIMES * stored + SPARE

    @staticmethod
    def of(state: Iterable[Tensor], source: str) -> Budget:
        """The budget of a part into which these tensors will be loaded."""
        return Budget(sum(tensor.nbytes + PER_TENSOR for tensor in state), source)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count what an operation would make from nothing; see `TorchDispatchMode`."""
        kwargs = kwargs or {}
        if any(argument.name == "device" for argument in func._schema.arguments):
            self.left -= _bytes(func, args, kwargs) + PER_TENSOR
            if self.left < 0:
                raise ArtifactError(
                    f"'{self.source}' asks for more memory than its stored tensors explain",
                    "its options or facts were changed or damaged; make it again",
                )
        return func(*args, **kwargs)


def _bytes(func: Any, args: Any, kwargs: dict[str, Any]) -> int:
    """Size of what an operation would make. From its arguments: the meta device would import torch's compiler."""
    given = {**dict(zip((argument.name for argument in func._schema.arguments), args, strict=False)), **kwargs}
    like = given.get("self")
    dtype = given.get("dtype") or (like.dtype if isinstance(like, Tensor) else torch.get_default_dtype())
    return int(max(0, _count(given))) * dtype.itemsize


def _count(given: Mapping[str, Any]) -> float:
    """Numbers in what `empty`, `rand_like`, `arange`, `linspace`, `eye` and their kind would make."""
    if "size" in given:
        return math.prod(given["size"])
    if isinstance(given.get("self"), Tensor):
        return int(given["self"].numel())
    if "steps" in given:
        return float(given["steps"])
    if "end" in given:
        return (given["end"] - given.get("start", 0)) / (given.get("step", 1) or 1) + 1
    return float(given.get("n", 1) * given.get("m", given.get("n", 1)))
