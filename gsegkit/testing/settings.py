"""What a plugin tells the conformance kit about itself. Light: imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class KitSettings:
    """How the kit should treat one component; its record names it: `Component(kit="package.kit:SETTINGS")`.

    Attributes:
        options: options that make the component small; every check but those of the defaults uses them.
        expected_failures: check name -> why the component may fail it. A check that passes after all is reported.
        slow: names of checks that take more than some seconds; pytest marks them `slow`.
        iou_floor: extractors: foreground IoU on the toy that a fit must reach; from a measurement over several seeds.
        quality_options: extractors: options of that fit, instead of `options`.
        sample: checkpoint readers: `"package.module:function"` that writes a small file of the format to a given path.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    expected_failures: Mapping[str, str] = field(default_factory=dict)
    slow: tuple[str, ...] = ()
    iou_floor: float = 0.5
    quality_options: Mapping[str, Any] = field(default_factory=dict)
    sample: str = ""
