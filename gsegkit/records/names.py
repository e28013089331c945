"""What a class may be called, wherever the name comes from."""

from __future__ import annotations

from gsegkit.records.text import printable

MAX_LENGTH = 100
CLASS_NAME_RULE = f"a class name has 1 to {MAX_LENGTH} printable characters, and no space at its ends"


def is_class_name(name: str) -> bool:
    """Whether a name can stand in every format, in a report and on a terminal."""
    return 1 <= len(name) <= MAX_LENGTH and name == name.strip() and "\n" not in name and printable(name) == name
