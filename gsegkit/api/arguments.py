"""What callers give to the verbs: every argument is what its annotation says, or there is one sentence about it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from numbers import Integral, Real
from pathlib import Path
from types import NoneType, SimpleNamespace, UnionType
from typing import Any, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

from gsegkit.errors import ConfigError
from gsegkit.records.text import shown

Given = ParamSpec("Given")
Returned = TypeVar("Returned")


def checked(verb: Callable[Given, Returned]) -> Callable[Given, Returned]:
    """A verb that looks at its arguments before it does anything; none is converted.

    Raises:
        ConfigError: an argument is not what its annotation says, or a text holds a null character, which no path may.

    Example:
        >>> checked(lambda: None)()
    """
    signature = inspect.signature(verb)
    hints: dict[str, Any] = {}

    @wraps(verb)
    def call(*args: Given.args, **kwargs: Given.kwargs) -> Returned:
        hints.update(hints or _hints(verb))
        for name, value in signature.bind(*args, **kwargs).arguments.items():
            parameter = signature.parameters[name]
            if parameter.kind is parameter.VAR_KEYWORD:
                continue
            if not fits(value, hints[name]):
                raise ConfigError(
                    f"{verb.__name__}({name}=...) takes {parameter.annotation}, not {_named(value)}",
                    f"help(gsegkit.{verb.__name__}) describes every argument",
                )
            if isinstance(value, str | Path) and "\0" in str(value):
                raise ConfigError(f"{verb.__name__}({name}=...) holds a null character", "remove it")
        return verb(*args, **kwargs)

    return call


def _hints(verb: Callable[..., object]) -> dict[str, Any]:
    """The evaluated annotations of a verb's parameters; what it returns may name types of lazy modules."""
    given = {name: text for name, text in verb.__annotations__.items() if name != "return"}
    return get_type_hints(SimpleNamespace(__annotations__=given), verb.__globals__)


def fits(value: object, hint: Any) -> bool:
    """Whether a value is what a type hint says, looked at in depth; numbers of NumPy count as numbers.

    Example:
        >>> fits(["label"], str | Sequence[str]), fits([b"label"], str | Sequence[str]), fits(True, int)
        (True, False, False)
    """
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if hint is None or hint is NoneType:
        return value is None
    if origin in (Union, UnionType):
        return any(fits(value, one) for one in inner)
    if origin is tuple and inner[-1] is not ...:
        return isinstance(value, list | tuple) and len(value) == len(inner) and all(map(fits, value, inner))
    if origin in (tuple, list, Sequence):
        plain = isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray)
        return plain and all(fits(item, inner[0]) for item in value)  # type: ignore[attr-defined]
    if origin in (dict, Mapping):
        return isinstance(value, Mapping) and all(fits(k, inner[0]) and fits(v, inner[1]) for k, v in value.items())
    if hint in (int, float):
        return isinstance(value, Integral if hint is int else Real) and not isinstance(value, bool)
    return isinstance(value, hint)


def _named(value: object) -> str:
    """A value in a message: plain ones as they are, others by their type."""
    plain = value is None or isinstance(value, str | bytes | int | float | list | tuple | dict)
    return shown(value) if plain else f"a {type(value).__name__}"
