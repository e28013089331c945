"""What is asked of `start`. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gsegkit.config import parse_assignments
from gsegkit.errors import ConfigError
from gsegkit.plugins import SHORT_KINDS
from gsegkit.starting.experience import FEWEST

MOST_HOURS = 1000
PARTS = ("gen", "extractor", "seg", "run", "selftrain", "refine")  # that take options
GENERATOR, RUN, COMPARE = "generator", "run", "compare"  # folders of steps


@dataclass(frozen=True)
class Wanted:
    """What is asked of `start`.

    Attributes:
        hours: for everything.
        gen: generator, by name.
        extractor: mask extractor.
        seg: segmenter.
        target: classes of the run, see `Plan.target`.
        fewest: photographs below which no generator is trained.
        options: part (gen, extractor, seg, run, selftrain) -> its options.
        seed: of every random number.
        device: where to compute.
    """

    hours: float = 2.0
    gen: str = "stylegan2"
    extractor: str = "klish"
    seg: str = "unet"
    target: str = "parts"
    fewest: int = FEWEST
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        if not 0 < self.hours <= MOST_HOURS:
            raise ConfigError(
                f"--hours {self.hours:g} is not a time", f"more than 0 and at most {MOST_HOURS:,}; 2 is usual"
            )

    @property
    def seconds(self) -> float:
        """For everything."""
        return self.hours * 3600

    def of(self, part: str) -> dict[str, Any]:
        """The options of a part."""
        return dict(self.options.get(part, {}))

    @property
    def of_run(self) -> tuple[str, ...]:
        """The options of the run, as after `-o`; those of the generator belong to its training."""
        parts = [part for part in self.options if part != "gen"]
        return tuple(text for part in parts for text in assignments(part, self.options[part]))


def options_of(given: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Options as after `-o`, of each part.

    Raises:
        ConfigError: one is not of the form, is given twice, or of a part that `start` has no use for.
    """
    found = {SHORT_KINDS.get(part, part): options for part, options in parse_assignments(given).items()}
    for part in found:
        if part not in PARTS:
            raise ConfigError(f"option '{part}.…' does not belong here", f"parts: {', '.join(PARTS)}")
    return found


def assignments(part: str, options: Mapping[str, Any]) -> tuple[str, ...]:
    """Options as they are written after `-o`.

    Example:
        >>> assignments("gen", {"resolution": 64})
        ('gen.resolution=64',)
    """
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in options.items()}
    return tuple(f"{part}.{name}={text}" for name, text in texts.items())
