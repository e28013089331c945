"""What a foreign file may cost, and how it is refused."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NoReturn

from gsegkit.errors import ArtifactError

DAMAGED = "the file is damaged or incomplete: fetch it again and compare its size and checksum"
HOSTILE = "no honest checkpoint does this: do not trust the file or its source"


def printable(text: str) -> str:
    """Text of a file made safe for a terminal: no control characters, no escape sequences."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def refuse(message: str, hint: str = DAMAGED) -> NoReturn:
    """Raise the one exception that leaves this package."""
    raise ArtifactError(message, hint)


@dataclass(frozen=True)
class Limits:
    """Upper bounds; each is at least twenty times what the largest published checkpoints need."""

    file_bytes: int = 8 << 30  # bytes of the file; it is read into memory once
    pickle_bytes: int = 64 << 20  # bytes of `data.pkl` in a torch zip
    opcodes: int = 1_000_000  # pickle opcodes, nested pickles included
    text_bytes: int = 64 << 20  # bytes of text in all pickles together, arrays stored as text aside
    integer_bytes: int = 256  # bytes of one integer
    depth: int = 64  # nesting of containers that are evaluated
    zip_entries: int = 20_000  # entries of a zip
    name_chars: int = 256  # characters of one name of a class or function
    header_bytes: int = 4 << 20  # JSON header of a safetensors file, directory of a zip
    expansion: int = 4  # bytes of tensors built, per byte of the file


@dataclass
class Budget:
    """What is left of the limits; shared by a file and the pickles nested in it."""

    limits: Limits = field(default_factory=Limits)
    opcodes: int = 0
    text_bytes: int = 0
    tensor_bytes: int = 0
    file_bytes: int = 0

    def spend_opcode(self, count: int = 1) -> None:
        """Count pickle opcodes, and what costs as much: items that are copied or walked over."""
        self.opcodes += count
        if self.opcodes > self.limits.opcodes:
            refuse(f"more than {self.limits.opcodes} pickle opcodes", HOSTILE)

    def spend_text(self, num_bytes: int) -> None:
        """Count text that is about to be decoded (it may grow fourfold in memory)."""
        self.text_bytes += num_bytes
        if self.text_bytes > self.limits.text_bytes:
            refuse(f"more than {self.limits.text_bytes} bytes of text in the pickle", HOSTILE)

    def spend_tensor(self, num_bytes: int) -> None:
        """Count bytes of a tensor that is about to be built."""
        self.tensor_bytes += num_bytes
        allowed = self.limits.expansion * self.file_bytes + (16 << 20)
        if self.tensor_bytes > allowed:
            refuse(
                f"its tensors need {self.tensor_bytes} bytes or more, the file has "
                f"{self.file_bytes}: the same data is used over and over",
                HOSTILE,
            )
