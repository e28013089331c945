"""Which weights a generator of the family takes when none are named."""

from __future__ import annotations

from gsegkit.weights import NONE
from gsegkit_stylegan.config import Arch, SampleOptions

AUTO = "auto"
AUTO_WEIGHTS = "coffee-leaf-64"


def wanted_weights(config: SampleOptions, arch_class: type[Arch]) -> str:
    """The option `weights` with `auto` resolved: the zoo's, unless an option of the network's shape was changed."""
    if config.weights != AUTO:
        return config.weights
    # by value, not by which were given: a resolved plan gives them all
    options = type(config).model_fields
    changed = any(getattr(config, name) != options[name].default for name in arch_class.model_fields)
    return NONE if changed else AUTO_WEIGHTS
