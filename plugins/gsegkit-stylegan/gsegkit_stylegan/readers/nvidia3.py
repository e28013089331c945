"""StyleGAN3 in NVIDIA's PyTorch pickles: the attributes of every module are compared with what our network would do."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from gsegkit_foreign import ForeignFile, ModuleTree

from gsegkit.errors import ArtifactError
from gsegkit_stylegan.config import StyleGAN3Arch
from gsegkit_stylegan.networks.stylegan3 import CLAMP, CRITICAL, MARGIN, OUTPUT_SCALE, LayerPlan, plans, signals
from gsegkit_stylegan.readers import stylegan3
from gsegkit_stylegan.readers.found import Found
from gsegkit_stylegan.readers.nvidia import DENSE, Attributes, multiplier


def read_nvidia3(file: ForeignFile, tree: ModuleTree) -> Found:
    """The generator of a pickle whose modules are NVIDIA's StyleGAN3.

    Raises:
        ArtifactError: attributes that our network cannot have; the first is named.
    """
    attributes = Attributes(file, tree)
    attributes.expect(DENSE, "activation", "lrelu", "mapping")
    attributes.expect(re.compile(r"synthesis(\.\w+)?\.affine"), "activation", "linear", "affine")
    found = stylegan3.from_state_dict(tree.tensors, {"lr_multiplier": multiplier(attributes)})
    assert isinstance(found.arch, StyleGAN3Arch)
    for module, name, expected in _expected(found.arch):
        value = attributes.one(module, name)
        if not _same(value, expected):
            raise ArtifactError(
                f"{file.path}: '{module}' has {name}={str(value)[:40]}, not {expected}",
                "a modified network; only NVIDIA's own configurations T and R are supported",
            )
    return replace(found, sources=tree.sources)


def _expected(arch: StyleGAN3Arch) -> Iterator[tuple[str, str, Any]]:
    """(module, attribute, value) of everything that tensors do not show."""
    first = signals(arch)[0]
    synthesis = {"num_critical": CRITICAL, "margin_size": MARGIN, "output_scale": OUTPUT_SCALE}
    yield from (("synthesis", name, value) for name, value in synthesis.items())
    for name, value in (("sampling_rate", first.rate), ("bandwidth", first.cutoff)):
        yield "synthesis.input", name, value
    for layer, plan in plans(arch).items():
        yield from ((f"synthesis.{layer}", name, value) for name, value in _of_layer(plan).items())


def _of_layer(plan: LayerPlan) -> dict[str, Any]:
    first, last = plan.padding
    return {
        "conv_clamp": CLAMP,
        "up_factor": plan.up,
        "down_factor": plan.down,
        "padding": [first, last, first, last],
        "is_torgb": plan.to_rgb,
    }


def _same(value: Any, expected: Any) -> bool:
    if isinstance(expected, list):
        return isinstance(value, list | tuple) and list(value) == expected
    if isinstance(expected, bool):
        return isinstance(value, bool) and value == expected
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isclose(value, expected, rel_tol=1e-6)
