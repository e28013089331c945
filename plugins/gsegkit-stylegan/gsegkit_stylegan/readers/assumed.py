"""Notes on what a file does not say: which defaults of its code were assumed, and whether its weights contradict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

LR_MULTIPLIER = 0.01  # of a mapping network, in every code base
NO_MULTIPLIER = f"the file does not say the mapping's learning-rate multiplier: the format's {LR_MULTIPLIER} was taken"
FAR = 5.0  # times larger or smaller than the spread that training starts with; a training alone hardly goes so far


def assumed(what: str, options: Mapping[str, Any]) -> str:
    """One sentence: `what` holds no options, so these were assumed."""
    given = ", ".join(f"{name}={value}" for name, value in options.items())
    return (
        f"{what} does not hold the network's options, so the defaults of its code were assumed ({given}); "
        "with others the images are wrong"
    )


def own_truncation(kwargs: Mapping[str, Any]) -> list[str]:
    """A note when a TensorFlow network truncates by itself; `kwargs` with the defaults of its format."""
    psi, cutoff = kwargs.get("truncation_psi"), kwargs.get("truncation_cutoff")
    if psi is None or psi == 1:
        return []
    layers = "all layers" if cutoff is None else f"the first {str(cutoff)[:40]} layers"
    return [f"the file's own truncation is psi {str(psi)[:40]} on {layers}; here it is an option"]


def doubts(state: Mapping[str, Tensor], lr_multiplier: float = LR_MULTIPLIER) -> list[str]:
    """Notes when the weights speak against the assumed multiplier of the mapping, or against scaled weights.

    Scaled weights start with a standard deviation of 1, those of the mapping with 1 / multiplier.

    Args:
        state: canonical tensors.
        lr_multiplier: the one that was assumed.
    """
    expected = {
        "mapping.fc0.weight": (1 / lr_multiplier, f"learning-rate multiplier {lr_multiplier:g}"),
        "synthesis.b4.conv1.weight": (1.0, "scaling of the weights at run time (use_wscale)"),
    }
    notes = []
    for name, (start, option) in expected.items():
        spread = float(state[name].std()) if name in state else start
        if not start / FAR < spread < start * FAR:
            notes.append(
                f"'{name}' has a standard deviation of {spread:.3g}, not about {start:.3g} as with the {option} that "
                "was assumed: the images are probably wrong"
            )
    return notes
