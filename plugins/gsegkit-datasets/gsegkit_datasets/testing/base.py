"""What a miniature is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Miniature:
    """A small data set on the disk, and what it holds.

    Attributes:
        folder: to give to the reader.
        options: of the reader that this layout needs.
        splits: split -> names of its samples, in order.
        masks: name of a sample -> [H, W] uint8, its mask with these options; of all samples that have one.
        exact: whether the reader's masks are exactly these; False = JPEG blurs them.
    """

    folder: Path
    options: Mapping[str, Any] = field(default_factory=dict)
    splits: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    masks: Mapping[str, np.ndarray] = field(default_factory=dict)
    exact: bool = True
