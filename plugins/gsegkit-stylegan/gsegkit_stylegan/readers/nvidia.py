"""StyleGAN2 in NVIDIA's PyTorch pickles (stylegan2-ada-pytorch, stylegan3): the configuration is in the modules."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any

from gsegkit_foreign import ForeignFile, ModuleTree

from gsegkit.errors import ArtifactError
from gsegkit_stylegan.readers import stylegan2
from gsegkit_stylegan.readers.found import Found

_CONV = re.compile(r"synthesis\.b\d+\.conv[01]")
_RGB = re.compile(r"synthesis\.b\d+\.torgb")
_BLOCK = re.compile(r"synthesis\.b\d+")
DENSE = re.compile(r"mapping\.fc\d+")


def read_nvidia(file: ForeignFile, tree: ModuleTree) -> Found:
    """The generator of a pickle whose modules are NVIDIA's StyleGAN2.

    Raises:
        ArtifactError: attributes that our network cannot have.
    """
    attributes = Attributes(file, tree)
    attributes.expect(_CONV, "activation", "lrelu", "synthesis")
    attributes.expect(DENSE, "activation", "lrelu", "mapping")
    for name in tree.attributes:
        if _CONV.fullmatch(name):
            up = attributes.one(name, "up")
            if up != (2 if name.endswith("conv0") else 1):
                raise ArtifactError(f"{file.path}: '{name}' up-samples by {up}", "a modified network is not supported")
    facts = {
        "conv_clamp": attributes.same(re.compile(f"{_CONV.pattern}|{_RGB.pattern}"), "conv_clamp"),
        "lr_multiplier": multiplier(attributes),
    }
    found = stylegan2.from_state_dict(tree.tensors, facts)
    architecture = attributes.same(_BLOCK, "architecture")
    if found.arch.model_dump()["architecture"] != architecture:
        raise ArtifactError(
            f"{file.path}: the modules say architecture {architecture!r}, the tensors another one",
            "the file was modified",
        )
    return replace(found, sources=tree.sources)


def multiplier(attributes: Attributes) -> float:
    """Learning-rate multiplier of the mapping; its two appearances must agree."""
    gain = attributes.same(DENSE, "bias_gain")
    first = attributes.one("mapping.fc0", "weight_gain")
    weight = attributes.tree.tensors.get("mapping.fc0.weight")
    if not all(isinstance(value, (int, float)) for value in (gain, first)) or weight is None or weight.ndim != 2:
        raise ArtifactError("a mapping network without its gains", "the file was modified")
    if not math.isclose(first, gain / math.sqrt(weight.shape[1] or 1), rel_tol=1e-4):
        raise ArtifactError(f"mapping gains {first} and {gain} that do not match", "the file was modified")
    return float(gain)


class Attributes:
    """Plain attributes of the modules, with the refusals that go with them."""

    def __init__(self, file: ForeignFile, tree: ModuleTree) -> None:
        self.file = file
        self.tree = tree

    def one(self, module: str, name: str) -> Any:
        """An attribute of one module."""
        table = self.tree.attributes.get(module, {})
        if name not in table:
            raise ArtifactError(
                f"{self.file.path}: module '{module}' has no attribute '{name}'",
                "the network differs from NVIDIA's; only unmodified ones are supported",
            )
        return self.file.plain(table[name])

    def same(self, modules: re.Pattern[str], name: str) -> Any:
        """An attribute that all matching modules share."""
        values = {repr(self.one(m, name)): self.one(m, name) for m in self.tree.attributes if modules.fullmatch(m)}
        if len(values) != 1:
            raise ArtifactError(
                f"{self.file.path}: '{name}' is {' and '.join(sorted(values))[:80] or 'nowhere'} in different layers",
                "one value for all layers is supported",
            )
        return next(iter(values.values()))

    def expect(self, modules: re.Pattern[str], name: str, value: Any, part: str) -> None:
        """Refuse another value than `value`."""
        found = self.same(modules, name)
        if found != value:
            what = f"{part} layers with the {name} {str(found)[:40]!r}"
            raise ArtifactError(f"{self.file.path}: {what}", f"only {value!r} is supported")
