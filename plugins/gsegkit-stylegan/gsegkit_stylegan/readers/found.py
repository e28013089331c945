"""What a checkpoint turned out to be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from gsegkit_stylegan.config import Arch


@dataclass(frozen=True)
class Found:
    """A generator read from a foreign file.

    Attributes:
        generator: name of the component: `stylegan2`, `stylegan3`, `stylegan` or `pggan`.
        layout: one line for people: whose format it is.
        arch: shape of the network, from module attributes and tensor shapes.
        state: canonical name -> float32 tensor; fits the network of `arch` exactly.
        notes: what the file did not say and how it was filled in.
        sources: class name -> SHA-256 of the source text that the file carries; never executed.
    """

    generator: str
    layout: str
    arch: Arch
    state: Mapping[str, Tensor]
    notes: tuple[str, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)
