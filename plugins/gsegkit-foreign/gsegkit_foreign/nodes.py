"""The inert things that a pickle turns into: names and records of calls, never the objects."""

from __future__ import annotations

from typing import Any


class Global:
    """A name that the pickle mentions, such as `torch.FloatStorage`; it is never looked up."""

    __slots__ = ("module", "name")

    def __init__(self, module: str, name: str) -> None:
        self.module = module
        self.name = name

    @property
    def path(self) -> str:
        """`module.name`."""
        return f"{self.module}.{self.name}"


class Call:
    """A call that the pickle asks for; nobody performs it.

    Attributes:
        func: the name that would have been called.
        args: raw arguments.
        new: True when the pickle asks for a new object of a class, False for a function call.
        state: raw values that the pickle would have put into the object, in order.
        items: raw values that the pickle would have appended or added to the object.
        pairs: raw values that the pickle would have stored in the object under a key.
    """

    __slots__ = ("args", "func", "items", "new", "pairs", "state")

    def __init__(self, func: Global, args: tuple[Any, ...], new: bool) -> None:
        self.func = func
        self.args = args
        self.new = new
        self.state: list[Any] = []
        self.items: list[Any] = []
        self.pairs: dict[Any, Any] = {}


class Persistent:
    """A reference to something outside the pickle: in torch files, a storage."""

    __slots__ = ("pid",)

    def __init__(self, pid: Any) -> None:
        self.pid = pid


class LongText:
    """Text of a mebibyte or more, not decoded yet: protocol 2 stores the bytes of arrays so."""

    __slots__ = ("data", "encoding")

    def __init__(self, data: memoryview, encoding: str) -> None:
        self.data = data
        self.encoding = encoding

    def decode(self) -> str:
        """The text."""
        return str(self.data, self.encoding, "surrogatepass")


class Record:
    """An object of a class that is known by name only.

    Attributes:
        class_name: what the file calls the class.
        state: attribute name -> raw value (evaluate one with `ForeignFile.shallow`).
        source_sha256: hash of the class's source text when the file carries it; never executed.
    """

    __slots__ = ("class_name", "source_sha256", "state")

    def __init__(self, class_name: str, state: dict[str, Any], source_sha256: str = "") -> None:
        self.class_name = class_name
        self.state = state
        self.source_sha256 = source_sha256


class Opaque:
    """The result of a call that this package does not know; only its name is kept."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


def describe(value: object) -> str:
    """A short safe name of a raw or evaluated value, for messages."""
    if isinstance(value, Global):
        return f"the name {value.path!r}"
    if isinstance(value, Call):
        return f"a call of {value.func.path!r}"
    if isinstance(value, Record):
        return f"an object of class {value.class_name!r}"
    if isinstance(value, Opaque):
        return f"the result of {value.name!r}"
    if isinstance(value, (bool, int, float, type(None))):
        return str(value)[:40]
    if isinstance(value, str):
        return repr(value[:40])
    if hasattr(value, "shape"):
        return f"a tensor of shape {tuple(value.shape)}"
    return f"a {type(value).__name__}"
