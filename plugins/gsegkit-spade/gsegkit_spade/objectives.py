"""What painters are trained by: patches of mask and picture (SPADE), or a network that segments pictures (OASIS)."""

from __future__ import annotations

from abc import abstractmethod
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gsegkit_spade.discriminators import Discriminators, SegmentingDiscriminator

MAX_CLASS_WEIGHT = 100.0  # of a class that few pixels of a batch have


class Comparison(Protocol):
    """A fixed network through which painted and true pictures are compared."""

    def distance(self, painted: Tensor, true: Tensor) -> Tensor:
        """How far apart [N, 3, H, W] pictures in [-1, 1] are; differentiable in `painted`."""


class Objective(nn.Module):
    """Discriminators and the losses they give.

    Attributes:
        betas: of Adam, for the painter and for the discriminators.
    """

    betas: tuple[float, float]

    @abstractmethod
    def painter_losses(self, labels: Tensor, painted: Tensor, true: Tensor) -> dict[str, Tensor]:
        """The weighted terms of the painter's loss; labels [N, K + 1, H, W], pictures [N, 3, H, W]."""

    @abstractmethod
    def own_losses(self, labels: Tensor, painted: Tensor, true: Tensor) -> dict[str, Tensor]:
        """The weighted terms of the discriminators' loss; `painted` has no gradient."""


class PatchObjective(Objective):
    """Hinge loss of two patch discriminators, and the distance of their inner maps."""

    betas = (0.0, 0.9)  # as in SPADE

    def __init__(self, judges: Discriminators, feature_matching: float) -> None:
        super().__init__()
        self.judges, self.feature_matching = judges, feature_matching

    def painter_losses(self, labels: Tensor, painted: Tensor, true: Tensor) -> dict[str, Tensor]:
        """See `Objective.painter_losses`."""
        found = self.judges(labels.repeat(2, 1, 1, 1), torch.cat([painted, true]))
        losses = {"gan": -torch.stack([_halves(maps[-1])[0].mean() for maps in found]).mean()}
        if self.feature_matching:
            losses["matching"] = self.feature_matching * matching(found)
        return losses

    def own_losses(self, labels: Tensor, painted: Tensor, true: Tensor) -> dict[str, Tensor]:
        """See `Objective.own_losses`."""
        found = self.judges(labels.repeat(2, 1, 1, 1), torch.cat([painted, true]))
        return {"judged": torch.stack([hinge(maps[-1]) for maps in found]).mean()}


class SegmentingObjective(Objective):
    """Each pixel is one of K true classes or painted; mixed pictures must be segmented as their halves are."""

    betas = (0.0, 0.999)  # as in OASIS

    def __init__(self, judge: SegmentingDiscriminator, label_mix: float) -> None:
        super().__init__()
        self.judge, self.label_mix = judge, label_mix

    def painter_losses(self, labels: Tensor, painted: Tensor, true: Tensor) -> dict[str, Tensor]:
        """See `Objective.painter_losses`."""
        return {"gan": balanced(self.judge(painted), labels)}

    def own_losses(self, labels: Tensor, painted: Tensor, true: Tensor) -> dict[str, Tensor]:
        """See `Objective.own_losses`."""
        found, real = self.judge(painted), self.judge(true)
        nothing = torch.zeros_like(found[:, 0], dtype=torch.int64)
        losses = {"judged": balanced(real, labels) + F.cross_entropy(found, nothing)}
        if self.label_mix:
            takes = mixing(labels)
            mixed = self.judge(takes * true + (1 - takes) * painted)
            losses["mixed"] = self.label_mix * F.mse_loss(mixed, takes * real + (1 - takes) * found)
        return losses


def hinge(scores: Tensor) -> Tensor:
    """The discriminators' loss; the first half of [2 N, 1, h, w] are scores of painted pictures."""
    painted, true = _halves(scores)
    return (1 + painted).relu().mean() + (1 - true).relu().mean()


def matching(found: list[list[Tensor]]) -> Tensor:
    """Mean absolute difference of painted and true maps: summed over layers, averaged over discriminators."""
    return torch.stack(
        [
            (painted - true.detach()).abs().mean()
            for maps in found
            for painted, true in [_halves(one) for one in maps[:-1]]
        ]
    ).sum() / len(found)


def class_weights(labels: Tensor) -> Tensor:
    """Weights that make the classes of a batch count alike; 0 for unknown pixels and absent classes: [K + 1].

    B * H * W / (classes present * pixels of the class), at most `MAX_CLASS_WEIGHT`.
    """
    pixels = labels.sum(dim=(0, 2, 3))
    pixels = torch.cat([pixels[:-1], torch.zeros_like(pixels[-1:])])
    total = labels.shape[0] * labels.shape[2] * labels.shape[3]
    weights = total / ((pixels > 0).sum().clamp_min(1) * pixels.clamp_min(1))
    return torch.where(pixels > 0, weights.clamp_max(MAX_CLASS_WEIGHT), 0)


def balanced(logits: Tensor, labels: Tensor) -> Tensor:
    """Weighted cross entropy of logits [N, 1 + K, H, W] with the true class of each pixel."""
    targets = labels.argmax(dim=1)
    known = targets < labels.shape[1] - 1
    losses = F.cross_entropy(logits, torch.where(known, targets + 1, 0), reduction="none")
    return (losses * class_weights(labels)[targets]).mean()


def mixing(labels: Tensor) -> Tensor:
    """For each sample and each of its classes a coin: 1 where the true picture is taken; [N, 1, H, W] of 0 and 1."""
    coins = (torch.rand(labels.shape[:2]) < 0.5).to(labels)
    return (labels * coins[:, :, None, None]).sum(dim=1, keepdim=True)


def _halves(value: Tensor) -> tuple[Tensor, Tensor]:
    one, two = value.chunk(2)
    return one, two
