"""Which of two layers holds the object: nothing in the paper's losses decides it."""

from __future__ import annotations

import torch
from torch import Tensor

from gsegkit_layered.networks import Layers

EDGE = 1 / 16  # width of the border, of the side
MIDDLE = 1 / 4  # what the middle leaves out on each side
MARGIN = 0.1  # by which the border must have more of the mask, so that a mask that lies everywhere alike stays


def exchanged(masks: Tensor) -> Tensor:
    """Whether the mask lies on the border more than in the middle, so that its layer holds the surroundings.

    Args:
        masks: [C, H, W] float32, mean masks in [0, 1].

    Returns:
        [C] bool; false for empty and full ones.
    """
    side = masks.shape[-1]
    edge, outside = max(1, round(side * EDGE)), round(side * MIDDLE)
    inner = torch.zeros(side, side, dtype=torch.bool, device=masks.device)
    inner[edge : side - edge, edge : side - edge] = True
    border = masks[:, ~inner].mean(dim=1)
    middle = masks[:, outside : side - outside, outside : side - outside].mean(dim=(1, 2))
    return border > middle + MARGIN


def exchange(layers: Layers, which: Tensor) -> Layers:
    """Foreground and background change places in the samples `which`, [N] bool; the picture of Eq. 2 stays the same."""
    turn = which[:, None, None, None]
    return Layers(
        b=torch.where(turn, layers.f, layers.b),
        f=torch.where(turn, layers.b, layers.f),
        m=torch.where(turn, 1 - layers.m, layers.m),
    )
