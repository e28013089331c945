"""A pickle machine that only takes notes.

It understands the opcodes of protocols 0 to 5 and keeps a stack and a memo of its own. Where the
pickle asks for an import or a call, it writes down a `Global` or a `Call`; it imports nothing and
calls nothing that the file names.
"""

from __future__ import annotations

import codecs
import struct
from collections.abc import Callable
from typing import Any

from gsegkit_foreign.limits import DAMAGED, HOSTILE, Budget, refuse
from gsegkit_foreign.names import check_global
from gsegkit_foreign.nodes import Call, Global, LongText, Persistent, describe

_VIEW_FROM = 4096  # byte strings from this size on are views of the file, not copies
_LONG_TEXT_FROM = 1 << 20  # text from this size on is decoded only when it is asked for

Handler = Callable[["Machine"], None]
_HANDLERS: dict[int, Handler] = {}


class Machine:
    """One pickle in `data`, from byte `start` to its STOP opcode.

    Attributes:
        position: first byte after what has been read.
        budget: what is left of the limits.
        persistents: every persistent reference met, in order.
        names: every name met, as `module.name`.
    """

    def __init__(self, data: bytes, budget: Budget, start: int = 0) -> None:
        self.data = data
        self.position = start
        self.persistents: list[Persistent] = []
        self.names: set[str] = set()
        self.budget = budget
        self._stack: list[Any] = []
        self._marks: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def run(self) -> Any:
        """Read to STOP and return the raw top of the stack."""
        try:
            while True:
                opcode = self.data[self.position]
                self.position += 1
                self.budget.spend_opcode()
                if opcode == ord("."):
                    return self._stack.pop()
                handler = _HANDLERS.get(opcode)
                if handler is None:
                    refuse(f"byte {self.position - 1}: no pickle opcode {bytes([opcode])!r}")
                handler(self)
        except (IndexError, KeyError, struct.error, ValueError, OverflowError) as error:
            refuse(f"broken pickle at byte {self.position} ({type(error).__name__})")

    # --- reading -------------------------------------------------------------------------------
    def take(self, num_bytes: int) -> bytes:
        """The next bytes, copied."""
        end = self.position + num_bytes
        if num_bytes < 0 or end > len(self.data):
            refuse(f"the pickle ends at byte {len(self.data)}, but needs {end}")
        chunk = self.data[self.position : end]
        self.position = end
        return chunk

    def number(self, layout: str) -> Any:
        """The next number, in the notation of `struct`."""
        return struct.unpack("<" + layout, self.take(struct.calcsize("<" + layout)))[0]

    def line(self) -> bytes:
        """The next bytes up to a newline, which is skipped."""
        end = self.data.index(b"\n", self.position)
        line = self.take(end - self.position)
        self.position += 1
        return line

    def blob(self, num_bytes: int) -> bytes | memoryview:
        """The next bytes: a copy when small, a view of the file when large."""
        if num_bytes < _VIEW_FROM:
            return self.take(num_bytes)
        start = self.position
        if start + num_bytes > len(self.data):
            refuse(f"the pickle ends at byte {len(self.data)}, but needs {start + num_bytes}")
        self.position = start + num_bytes
        return memoryview(self.data)[start : start + num_bytes]

    def text(self, num_bytes: int, encoding: str = "utf-8") -> str | LongText:
        """The next bytes as text."""
        if num_bytes >= _LONG_TEXT_FROM:
            return LongText(memoryview(self.blob(num_bytes)), encoding)
        self.budget.spend_text(num_bytes)
        return self.take(num_bytes).decode(encoding, "surrogatepass")

    def integer(self, num_bytes: int) -> int:
        """The next bytes as a signed integer of any size."""
        if num_bytes > self.budget.limits.integer_bytes:
            refuse(f"an integer of {num_bytes} bytes", HOSTILE)
        return int.from_bytes(self.take(num_bytes), "little", signed=True)

    # --- stack ---------------------------------------------------------------------------------
    def push(self, value: Any) -> None:
        """Put a raw value on the stack."""
        self._stack.append(value)

    def pop(self) -> Any:
        """Take the top of the stack."""
        return self._stack.pop()

    def peek(self) -> Any:
        """Look at the top of the stack."""
        return self._stack[-1]

    def mark(self) -> None:
        """Start a group of values."""
        self._marks.append(self._stack)
        self._stack = []

    def pop_mark(self) -> list[Any]:
        """Take the group of values since the last mark."""
        group = self._stack
        self._stack = self._marks.pop()
        return group

    def has_values(self) -> bool:
        """Whether there is a value above the last mark."""
        return bool(self._stack)

    def remember(self, index: int | None = None) -> None:
        """Store the top of the stack in the memo."""
        index = len(self._memo) if index is None else index
        if not 0 <= index <= self.budget.limits.opcodes:
            refuse(f"memo index {index}", HOSTILE)
        self._memo[index] = self._stack[-1]

    def recall(self, index: int) -> None:
        """Push a memo entry."""
        self._stack.append(self._memo[index])

    # --- names, calls, containers --------------------------------------------------------------
    def name(self, module: Any, name: Any) -> None:
        """Push a name, after the check that it is not one of those used for attacks."""
        if not isinstance(module, str) or not isinstance(name, str):
            refuse("a global whose name is not text", HOSTILE)
        if max(len(module), len(name)) > self.budget.limits.name_chars:
            refuse(f"a global whose name has {max(len(module), len(name))} characters", HOSTILE)
        check_global(module, name)
        self.names.add(f"{module}.{name}")
        self.push(Global(module, name))

    def call(self, new: bool, kwargs: bool = False) -> None:
        """Pop function and arguments, push the note of the call."""
        if kwargs and self.pop() != {}:
            refuse("an object built with keyword arguments", HOSTILE)
        args, func = self.pop(), self.pop()
        if not isinstance(func, Global) or not isinstance(args, tuple):
            refuse(f"calls {describe(func)} with {describe(args)}", HOSTILE)
        self.push(Call(func, args, new))

    def build(self) -> None:
        """Pop a state, note it in the object below."""
        state, target = self.pop(), self.peek()
        if not isinstance(target, Call):
            refuse(f"sets attributes of {describe(target)}", HOSTILE)
        if isinstance(state, tuple) and len(state) == 2 and isinstance(state[1], dict):
            refuse(f"sets slots of {target.func.path!r}", HOSTILE)
        target.state.append(state)

    def append(self, values: list[Any]) -> None:
        """Append values to the list, or note them in the object, on top of the stack."""
        target = self.peek()
        if isinstance(target, Call):
            target.items.extend(values)
        elif isinstance(target, list):
            target.extend(values)
        else:
            refuse(f"appends to {describe(target)}", HOSTILE)

    def store(self, values: list[Any]) -> None:
        """Store key, value, key, value ... in the mapping on top of the stack."""
        target = self.peek()
        if isinstance(target, Call):
            target = target.pairs
        if not isinstance(target, dict):
            refuse(f"stores items in {describe(target)}", HOSTILE)
        target.update(_pairs(values))

    def persistent(self, pid: Any) -> None:
        """Push a persistent reference; torch's references to module classes become the name."""
        if isinstance(pid, tuple) and len(pid) == 4 and pid[0] == "module":
            if not isinstance(pid[1], Global):
                refuse(f"a module class that is {describe(pid[1])}", HOSTILE)
            self.push(pid[1])
            return
        reference = Persistent(pid)
        self.persistents.append(reference)
        self.push(reference)


def _key(key: Any) -> Any:
    """A mapping key that can be hashed in bounded time; everything else is refused."""
    scalars = key if isinstance(key, tuple) else (key,)
    if len(scalars) > 8:
        refuse(f"a mapping key of {len(scalars)} parts", HOSTILE)
    for scalar in scalars:
        small = isinstance(scalar, int) and abs(scalar) < 1 << 48
        if not (small or scalar is None or isinstance(scalar, (str, bytes))):
            refuse(f"a mapping key that is {describe(scalar)}", HOSTILE)
    return key


def _pairs(values: list[Any]) -> dict[Any, Any]:
    if len(values) % 2:
        refuse("a mapping with a key but no value")
    return {_key(key): value for key, value in zip(values[::2], values[1::2], strict=True)}


def _on(opcode: bytes, handler: Handler) -> None:
    _HANDLERS[opcode[0]] = handler


def _pop(machine: Machine) -> None:
    if machine.has_values():
        machine.pop()
    else:
        machine.pop_mark()


def _pop_mark(machine: Machine) -> None:
    machine.pop_mark()


def _int_line(machine: Machine) -> None:
    line = machine.line()
    if len(line) > 2 * machine.budget.limits.integer_bytes:
        refuse(f"an integer of {len(line)} digits", HOSTILE)
    known = {b"00": False, b"01": True}
    machine.push(known[line] if line in known else int(line.rstrip(b"L")))


def _float_line(machine: Machine) -> None:
    line = machine.line()
    if len(line) > 100:
        refuse(f"a number of {len(line)} characters", HOSTILE)
    machine.push(float(line))


def _string_line(machine: Machine) -> None:
    quoted = machine.line().strip()
    if len(quoted) < 2 or quoted[:1] != quoted[-1:] or quoted[:1] not in (b"'", b'"'):
        refuse("a text that is not quoted")
    machine.budget.spend_text(len(quoted))
    machine.push(codecs.escape_decode(quoted[1:-1])[0].decode("latin-1"))


def _unicode_line(machine: Machine) -> None:
    line = machine.line()
    machine.budget.spend_text(len(line))
    machine.push(line.decode("raw-unicode-escape"))


def _binstring(layout: str) -> Handler:
    # Text of Python 2, which is also how it stored the bytes of arrays: latin-1 loses nothing.
    return lambda m: m.push(m.text(m.number(layout), "latin-1"))


def _tuple(length: int) -> Handler:
    def handler(machine: Machine) -> None:
        values = [machine.pop() for _ in range(length)]
        machine.push(tuple(reversed(values)))

    return handler


def _frame(machine: Machine) -> None:
    length = machine.number("Q")
    if length > len(machine.data) - machine.position:
        refuse(f"a frame of {length} bytes in a file of {len(machine.data)}")


def _proto(machine: Machine) -> None:
    protocol = machine.number("B")
    if protocol > 5:
        refuse(f"pickle protocol {protocol}, newer than any known", DAMAGED)


def _stack_global(machine: Machine) -> None:
    name, module = machine.pop(), machine.pop()
    machine.name(module, name)


def _set(kind: str, values: list[Any]) -> Call:
    call = Call(Global("builtins", kind), (), True)
    call.items.extend(values)
    return call


def _refused(what: str) -> Handler:
    return lambda _: refuse(what, HOSTILE)


# Constants and numbers
_on(b"N", lambda m: m.push(None))
_on(b"\x88", lambda m: m.push(True))
_on(b"\x89", lambda m: m.push(False))
_on(b"I", _int_line)
_on(b"L", _int_line)
_on(b"J", lambda m: m.push(m.number("i")))
_on(b"K", lambda m: m.push(m.number("B")))
_on(b"M", lambda m: m.push(m.number("H")))
_on(b"\x8a", lambda m: m.push(m.integer(m.number("B"))))
_on(b"\x8b", lambda m: m.push(m.integer(m.number("I"))))
_on(b"F", _float_line)
_on(b"G", lambda m: m.push(struct.unpack(">d", m.take(8))[0]))
# Text and bytes
_on(b"S", _string_line)
_on(b"T", _binstring("I"))
_on(b"U", _binstring("B"))
_on(b"V", _unicode_line)
_on(b"X", lambda m: m.push(m.text(m.number("I"))))
_on(b"\x8c", lambda m: m.push(m.text(m.number("B"))))
_on(b"\x8d", lambda m: m.push(m.text(m.number("Q"))))
_on(b"B", lambda m: m.push(m.blob(m.number("I"))))
_on(b"C", lambda m: m.push(m.blob(m.number("B"))))
_on(b"\x8e", lambda m: m.push(m.blob(m.number("Q"))))
_on(b"\x96", lambda m: m.push(m.blob(m.number("Q"))))
# Containers
_on(b"(", Machine.mark)
_on(b"]", lambda m: m.push([]))
_on(b"l", lambda m: m.push(m.pop_mark()))
_on(b"a", lambda m: m.append([m.pop()]))
_on(b"e", lambda m: m.append(m.pop_mark()))
_on(b")", lambda m: m.push(()))
_on(b"t", lambda m: m.push(tuple(m.pop_mark())))
_on(b"\x85", _tuple(1))
_on(b"\x86", _tuple(2))
_on(b"\x87", _tuple(3))
_on(b"}", lambda m: m.push({}))
_on(b"d", lambda m: m.push(_pairs(m.pop_mark())))
_on(b"s", lambda m: m.store([m.pop(), m.pop()][::-1]))
_on(b"u", lambda m: m.store(m.pop_mark()))
_on(b"\x8f", lambda m: m.push(_set("set", [])))
_on(b"\x90", lambda m: m.append(m.pop_mark()))
_on(b"\x91", lambda m: m.push(_set("frozenset", m.pop_mark())))
# Stack and memo
_on(b"0", _pop)
_on(b"1", _pop_mark)
_on(b"2", lambda m: m.push(m.peek()))
_on(b"p", lambda m: m.remember(int(m.line())))
_on(b"q", lambda m: m.remember(m.number("B")))
_on(b"r", lambda m: m.remember(m.number("I")))
_on(b"\x94", lambda m: m.remember())
_on(b"g", lambda m: m.recall(int(m.line())))
_on(b"h", lambda m: m.recall(m.number("B")))
_on(b"j", lambda m: m.recall(m.number("I")))
# Names and calls
_on(b"c", lambda m: m.name(m.line().decode(), m.line().decode()))
_on(b"\x93", _stack_global)
_on(b"R", lambda m: m.call(new=False))
_on(b"\x81", lambda m: m.call(new=True))
_on(b"\x92", lambda m: m.call(new=True, kwargs=True))
_on(b"b", Machine.build)
_on(b"P", lambda m: m.persistent(m.line().decode()))
_on(b"Q", lambda m: m.persistent(m.pop()))
# Protocol
_on(b"\x80", _proto)
_on(b"\x95", _frame)
# Never written by anything that stores weights; each is a known way around filters.
_on(b"i", _refused("an INST opcode, which calls a class by name"))
_on(b"o", _refused("an OBJ opcode, which calls a class by name"))
_on(b"\x82", _refused("an EXT1 opcode, which names a registered object by number"))
_on(b"\x83", _refused("an EXT2 opcode, which names a registered object by number"))
_on(b"\x84", _refused("an EXT4 opcode, which names a registered object by number"))
_on(b"\x97", _refused("a buffer that lies outside the pickle"))
_on(b"\x98", _refused("a buffer that lies outside the pickle"))
