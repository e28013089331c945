"""What a stored part says of itself: its record, and after it was restored its sizes, fit rule and class names."""

from __future__ import annotations

from typing import Any

from pydantic import Field, StrictStr

from gsegkit.records.files import Record
from gsegkit.records.names import is_class_name
from gsegkit.records.text import shown

MAX_SIDE = 16_384  # of images, as `gsegkit.images` reads them
MAX_AREA = 2**22  # pixels that a network works on: at more, features alone fill the memory
MAX_CLASSES = 255  # a mask has 8 bits, and 255 means ignored
FIT_RULES = ("squash", "crop", "pad", "native")


class Component(Record):
    """component.json: kind and name of a part, its options, its facts, and the hash of its tensors."""

    kind: StrictStr
    name: StrictStr
    sha256: StrictStr
    config: dict[str, Any] = Field(default_factory=dict)
    facts: dict[str, Any] = Field(default_factory=dict)


def check_restored(part: Any) -> None:
    """Check `classes`, `train_size` and `fit_rule` of a segmenter or an extractor, and a generator's `info`.

    Raises:
        ValueError: one of them is out of bounds, so that predicting would fail or fill the memory.
    """
    classes = getattr(part, "classes", ())
    names = isinstance(classes, tuple) and all(isinstance(name, str) and is_class_name(name) for name in classes)
    if not names or len(classes) > MAX_CLASSES:
        raise ValueError(f"these are not class names: {shown(classes)}")
    info = getattr(part, "info", None)
    for size in (getattr(part, "train_size", None), (info.height, info.width) if info is not None else None):
        if size is not None and not _is_size(size):
            raise ValueError(f"no network works at the size {shown(size)}")
    for rule in (getattr(part, "fit_rule", "squash"), getattr(info, "fit_rule", "squash")):
        if rule not in FIT_RULES:
            raise ValueError(f"there is no fit rule {shown(rule)}")


def _is_size(size: Any) -> bool:
    numbers = isinstance(size, tuple) and all(isinstance(side, int) and not isinstance(side, bool) for side in size)
    sides = numbers and len(size) == 2 and all(1 <= side <= MAX_SIDE for side in size)
    return sides and size[0] * size[1] <= MAX_AREA
