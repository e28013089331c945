"""JSON, YAML and TOML as plain values, within bounds; and values in messages, within bounds.

A value that comes out of here is made of None, bool, int, float, str, list and dict alone, nests at most `MAX_DEPTH`
deep and holds at most `MAX_VALUES` values, aliases counted as often as they are used. So whoever walks, compares or
prints it ends.
"""

from __future__ import annotations

import json
import math
import re
import reprlib
import tomllib
import unicodedata
from collections.abc import Iterable
from typing import Any

import yaml

MAX_DEPTH = 100
MAX_VALUES = 2_000_000  # about 200 MB of Python objects
MAX_INTEGER = 2**64
MAX_SHOWN = 200  # characters of a value in a message
JOINERS = "\u200c\u200d"  # of letters and emoji

#: libyaml's parser where it is built in: ten times as fast.
_Parser: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_LONG_KEY = re.compile(rf"""(?<![\w"'-])(?:[\w"'-]++[ \t]*+\.[ \t]*+){{{MAX_DEPTH}}}""")
_BOOL = "tag:yaml.org,2002:bool"
_TIME = "tag:yaml.org,2002:timestamp"
_MERGE = "tag:yaml.org,2002:merge"


class UnreadableError(ValueError):
    """What is wrong with a text, as the end of a sentence that begins with its source: "is not valid json: ..."."""


#: YAML as people mean it: `no` is a word and `2024-05-01` a text, as in YAML 1.2; booleans are true and false.
_Loader: Any = type("_Loader", (_Parser,), {})
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in entries if tag not in (_BOOL, _TIME)]
    for first, entries in _Parser.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_BOOL, re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))


def json_value(text: str | bytes, *, finite: bool = True, most: int = MAX_VALUES) -> Any:
    """The value of a JSON text.

    Args:
        text: UTF-8 if bytes, with or without a byte-order mark.
        finite: refuse NaN and infinity, which JSON does not have, and numbers too large for a float.
        most: values that it may hold.

    Raises:
        UnreadableError: not JSON, or beyond the bounds.
    """
    text = _decoded(text)
    if sum(text.count(mark) for mark in "[{,") > most:
        raise _too_many(most)
    try:
        value = json.loads(text, object_pairs_hook=_once)
    except UnreadableError:
        raise
    except (ValueError, RecursionError) as error:
        raise _invalid("json", error) from None
    _check(value, finite, most)
    return value


def yaml_value(text: str | bytes) -> Any:
    """The value of a YAML text; as `json_value`. Tags that stand for other types than JSON has are refused."""
    text = _decoded(text)
    try:
        _check_events(yaml.parse(text, Loader=_Loader))
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is not None:
                _expanded(node, {}, ())
            value = loader.construct_document(node) if node is not None else None
        finally:
            loader.dispose()
    except UnreadableError:
        raise
    except (ValueError, TypeError, OverflowError, RecursionError, yaml.YAMLError) as error:
        raise _invalid("yaml", error) from None
    _check(value, finite=True)
    return value


def toml_value(text: str | bytes) -> Any:
    """The value of a TOML text; as `json_value`. Dates are refused."""
    text = _decoded(text)
    if _LONG_KEY.search(text):  # tomllib takes quadratic time for it
        raise _too_deep()
    try:
        value = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise _invalid("toml", error) from None
    _check(value, finite=True)
    return value


def shown(value: Any, limit: int = MAX_SHOWN) -> str:
    """A value for a message: `repr`, cut in depth and length, without control characters.

    Example:
        >>> shown(["a"] * 1000, limit=30)
        "['a', 'a', 'a', 'a', 'a', ..."
    """
    short = reprlib.Repr()
    short.maxlevel, short.maxlist, short.maxtuple, short.maxdict = 4, 20, 20, 20
    short.maxstring = short.maxother = limit
    return cut(printable(short.repr(value)), limit)


def cut(text: str, limit: int) -> str:
    """A text of at most `limit` characters, with dots where it was cut."""
    return text if len(text) <= limit else text[: limit - 4] + " ..."


def printable(text: str) -> str:
    r"""A text without what would steer a terminal: control characters and lone surrogates as `\x1b`; lines stay.

    Example:
        >>> printable("leaf\x1b[31m")
        'leaf\\x1b[31m'
    """
    if text.isprintable():
        return text
    return "".join(mark.encode("unicode_escape").decode() if _steers(mark) else mark for mark in text)


def non_finite(value: Any, where: str = "") -> str:
    """Where the first NaN or infinity of a JSON-ready value stands, as `per_class.leaf.iou`; "" when there is none."""
    if isinstance(value, float):
        return "" if math.isfinite(value) else where or str(value)
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    return next((found for key, item in inside if (found := non_finite(item, f"{where}.{key}".lstrip(".")))), "")


# ---- inside ------------------------------------------------------------------------------------------------------


def _steers(mark: str) -> bool:
    return mark not in "\n\t" + JOINERS and unicodedata.category(mark) in ("Cc", "Cf", "Cs", "Zl", "Zp")


def _decoded(text: str | bytes) -> str:
    try:
        return text.removeprefix("\ufeff") if isinstance(text, str) else text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableError(f"is not UTF-8 text (byte {error.start})") from None


def _check(value: Any, finite: bool, most: int = MAX_VALUES) -> None:
    stack, count = [(value, 1)], 0
    while stack:
        item, depth = stack.pop()
        count += 1
        if depth > MAX_DEPTH:
            raise _too_deep()
        if count > most:
            raise _too_many(most)
        if isinstance(item, dict):
            stack += [(key, depth) for key in item]
            stack += [(inner, depth + 1) for inner in item.values()]
        elif isinstance(item, list):
            stack += [(inner, depth + 1) for inner in item]
        else:
            _check_plain(item, finite)


def _check_plain(item: Any, finite: bool) -> None:
    if isinstance(item, float):
        if finite and not math.isfinite(item):
            raise UnreadableError("holds a number that is not finite")
    elif isinstance(item, int):
        if abs(item) >= MAX_INTEGER:
            raise UnreadableError(f"holds a number of {len(str(abs(item)))} digits")
    elif item is not None and not isinstance(item, str):
        raise UnreadableError(f"holds a value of the type {type(item).__name__}; write it in quotes")


def _check_events(events: Iterable[Any]) -> None:
    """Depth and number of YAML's events, before anything is built from them."""
    depth = 0
    for count, event in enumerate(events):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise _too_deep()
        if count > MAX_VALUES:
            raise _too_many()


def _expanded(node: Any, known: dict[int, tuple[int, int]], open_nodes: tuple[int, ...]) -> tuple[int, int]:
    """Values and depth of a YAML node when every alias is written out; a mapping that gives a key twice is refused."""
    if id(node) in open_nodes:
        raise UnreadableError("holds an alias that lies in what it stands for")
    if id(node) not in known:
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        keys = [(key.tag, key.value) for key, _ in pairs if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE]
        if len(set(keys)) < len(keys):
            raise _twice([value for _, value in keys])
        inner = [part for pair in pairs for part in pair]
        inner += node.value if isinstance(node, yaml.SequenceNode) else []
        found = [_expanded(part, known, (*open_nodes, id(node))) for part in inner]
        known[id(node)] = 1 + sum(size for size, _ in found), 1 + max((depth for _, depth in found), default=0)
    size, depth = known[id(node)]
    if size > MAX_VALUES:
        raise _too_many()
    if depth > MAX_DEPTH:
        raise _too_deep()
    return size, depth


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _twice([name for name, _ in pairs])
    return found


def _twice(names: list[str]) -> UnreadableError:
    return UnreadableError(f"gives {shown(next(name for name in names if names.count(name) > 1), 60)} twice")


def _too_deep() -> UnreadableError:
    return UnreadableError(f"nests values more than {MAX_DEPTH} deep")


def _too_many(most: int = MAX_VALUES) -> UnreadableError:
    return UnreadableError(f"holds more than {most:,} values")


def _invalid(kind: str, error: Exception) -> UnreadableError:
    if isinstance(error, RecursionError) or "maximum nesting depth" in str(error):  # libyaml has a limit of its own
        return _too_deep()
    reason = " ".join(printable(str(error)).split())
    return UnreadableError(f"is not valid {kind}: {cut(reason, MAX_SHOWN)}")
