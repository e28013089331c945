"""Masks as the networks see them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from gsegkit.types import IGNORE


def as_channels(masks: Tensor, num_classes: int) -> Tensor:
    """[N, H, W] uint8 -> [N, K + 1, H, W] float32: one channel a class, the last for 255, which is unknown."""
    channels = F.one_hot(masks.long().clamp(max=num_classes), num_classes + 1)
    return channels.permute(0, 3, 1, 2).float()


def simplified(masks: Tensor, num_classes: int, radius: int) -> Tensor:
    """Each pixel gets the class that most of its (2 radius + 1)^2 neighbours have; [N, H, W] uint8 in and out.

    Thin and small regions vanish, outlines become smooth: so people draw.
    """
    side = 2 * radius + 1
    votes = F.avg_pool2d(F.pad(as_channels(masks, num_classes), (radius,) * 4, mode="replicate"), side, stride=1)
    winners = votes.argmax(dim=1)
    return torch.where(winners == num_classes, IGNORE, winners).to(torch.uint8)
