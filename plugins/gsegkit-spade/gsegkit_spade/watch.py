"""Alarms of a painter's training: it ignores the latent, or paints the same for every mask."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

EVERY = 100  # steps between two looks
WARM_UP = 300  # steps before the first warning
UNSEEN = 2 / 255  # of [-1, 1]: one step of 8 bits
COLLAPSED = 0.25  # pictures vary less than this share of what true ones do


class Watch:
    """What two latents change, and how much pictures vary; each alarm is given once.

    Attributes:
        diversity: mean absolute difference of two pictures of one mask, in units of [-1, 1].
        variety: deviation over a batch as a share of that of the true pictures.
    """

    def __init__(self) -> None:
        self.diversity, self.variety = 0.0, 0.0
        self.told: set[str] = set()

    def look(self, step: int, network: nn.Module, labels: Tensor, z: Tensor, true: Tensor) -> list[str]:
        """Look at one batch; returns what the user should be told. `z` [2, N, latent_dim], `true` [N, 3, H, W]."""
        self.diversity, painted = diversity(network, labels, z)
        self.variety = float(painted.std(dim=0).mean() / true.std(dim=0).mean().clamp_min(1e-6))
        alarms = {
            "latent": self.diversity < UNSEEN
            and "two latents give the same picture: the latent is ignored. Lower feature_matching or perceptual",
            "collapse": self.variety < COLLAPSED
            and f"pictures vary only {self.variety:.0%} as much as the true ones: collapse? Lower lr_discriminator",
        }
        if step < WARM_UP:
            return []
        new = [name for name, text in alarms.items() if text and name not in self.told]
        self.told.update(new)
        return [str(alarms[name]) for name in new]

    def state_dict(self) -> dict[str, Any]:
        """All that changes."""
        return {"diversity": self.diversity, "variety": self.variety, "told": sorted(self.told)}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """Take a state back."""
        self.diversity, self.variety = float(state["diversity"]), float(state["variety"])
        self.told = set(state["told"])


@torch.no_grad()
def diversity(network: nn.Module, labels: Tensor, z: Tensor) -> tuple[float, Tensor]:
    """Mean absolute difference of the pictures of z[0] and z[1], and those of z[0]; the network is in eval mode."""
    one, two = network(labels, z[0]), network(labels, z[1])
    return float((one - two).abs().mean()), one
