"""What the segmenters minimise: weighted cross-entropy, and Dice by option. Pixels of 255 count nowhere."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from gsegkit.distributed.team import ALONE, Team
from gsegkit.training import summed
from gsegkit.types import IGNORE

EPSILON = 1e-6


def segmentation_loss(
    logits: Tensor,
    masks: Tensor,
    weights: Tensor | None = None,
    *,
    class_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
    dice_weight: float = 0.0,
    team: Team = ALONE,
) -> Tensor:
    """Mean over all pixels that count, each as much as its weight says.

    Args:
        logits: [N, K, H, W] float32.
        masks: [N, H, W] uint8 or int64, 255 = ignore.
        weights: [N, H, W] float32 >= 0, or None for all ones.
        class_weights: [K] float32, or None.
        label_smoothing: share of probability on the other classes.
        dice_weight: weight of the Dice loss.
        team: whose rows make the batch; the loss is that of all, see `gsegkit.training.summed`.

    Returns:
        A scalar; 0 when no pixel counts.
    """
    counts = (masks != IGNORE).float()
    classes = masks.long().masked_fill(masks == IGNORE, 0)
    pixel_weights = counts if weights is None else counts * weights
    loss = F.cross_entropy(logits, classes, reduction="none", label_smoothing=label_smoothing)  # [N,H,W]
    weighted = pixel_weights if class_weights is None else pixel_weights * class_weights[classes]
    costs, counted = summed(team, torch.stack([(loss * weighted).sum(), weighted.sum()])).unbind()
    total = costs / counted.clamp_min(EPSILON)
    if dice_weight:
        total = total + dice_weight * dice_loss(logits, classes, pixel_weights, team)
    return total


def dice_loss(logits: Tensor, classes: Tensor, weights: Tensor, team: Team = ALONE) -> Tensor:
    """1 - soft Dice over the batch, averaged over the classes that occur in it.

    Args:
        logits: [N, K, H, W] float32.
        classes: [N, H, W] int64 in 0 .. K-1.
        weights: [N, H, W] float32 >= 0; 0 = the pixel does not count.
        team: whose rows make the batch.
    """
    probs = logits.softmax(1)
    truth = F.one_hot(classes, logits.shape[1]).permute(0, 3, 1, 2).to(probs.dtype)
    weights = weights.unsqueeze(1)
    maps = (weights * probs * truth, weights * (probs + truth), weights * truth)
    both, sizes, true = summed(team, torch.stack([each.sum((0, 2, 3)) for each in maps])).unbind()  # [K]
    present = (true > 0).to(probs.dtype)
    dice = (2 * both + EPSILON) / (sizes + EPSILON)
    return ((1 - dice) * present).sum() / present.sum().clamp_min(1)


def inverse_sqrt_frequency(counts: Tensor) -> Tensor:
    """Class weights from pixel counts [K]: 1 / sqrt(share) with mean 1, and 0 for absent classes."""
    shares = counts.double() / counts.sum().clamp_min(1)
    weights = torch.where(counts > 0, shares.clamp_min(1e-12).rsqrt(), torch.zeros_like(shares))
    return (
        (weights / weights[counts > 0].mean()).float() if bool((counts > 0).any()) else torch.ones_like(counts).float()
    )
