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
    def losses(self, labels: Tensor, painted: Tensor, true: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The weighted terms of the painter's loss, and those of the discriminators', from one look at each picture.

        Args:
            labels: [N, K + 1, H, W].
            painted: [N, 3, H, W]; the painter's terms are differentiated by it, the others by the discriminators alone.
            true: [N, 3, H, W].
        """


class PatchObjective(Objective):
    """Hinge loss of two patch discriminators, and the distance of their inner maps."""

    betas = (0.0, 0.9)  # as in SPADE

    def __init__(self, judges: Discriminators, feature_matching: float) -> None:
        super().__init__()
        self.judges, self.feature_matching = judges, feature_matching

    def losses(self, labels: Tensor, painted: Tensor, true: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """See `Objective.losses`."""
        found, real = self.judges(labels, painted), self.judges(labels, true)
        theirs = {"gan": -torch.stack([maps[-1].mean() for maps in found]).mean()}
        if self.feature_matching:
            theirs["matching"] = self.feature_matching * matching(found, real)
        scores = zip(found, real, strict=True)
        return theirs, {"judged": torch.stack([hinge(one[-1], other[-1]) for one, other in scores]).mean()}


class SegmentingObjective(Objective):
    """Each pixel is one of K true classes or painted; mixed pictures must be segmented as their halves are."""

    betas = (0.0, 0.999)  # as in OASIS

    def __init__(self, judge: SegmentingDiscriminator, label_mix: float) -> None:
        super().__init__()
        self.judge, self.label_mix = judge, label_mix

    def losses(self, labels: Tensor, painted: Tensor, true: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """See `Objective.losses`."""
        found, real = self.judge(painted), self.judge(true)
        nothing = torch.zeros_like(found[:, 0], dtype=torch.int64)
        own = {"judged": balanced(real, labels) + F.cross_entropy(found, nothing)}
        if self.label_mix:
            takes = mixing(labels)
            mixed = self.judge(takes * true + (1 - takes) * painted.detach())
            own["mixed"] = self.label_mix * F.mse_loss(mixed, takes * real + (1 - takes) * found)
        return {"gan": balanced(found, labels)}, own


def hinge(painted: Tensor, true: Tensor) -> Tensor:
    """The discriminators' loss from their scores of painted and of true pictures."""
    return (1 + painted).relu().mean() + (1 - true).relu().mean()


def matching(painted: list[list[Tensor]], true: list[list[Tensor]]) -> Tensor:
    """Mean absolute difference of painted and true maps: summed over layers, averaged over discriminators."""
    pairs = [pair for maps in zip(painted, true, strict=True) for pair in zip(*(one[:-1] for one in maps), strict=True)]
    return torch.stack([(one - other.detach()).abs().mean() for one, other in pairs]).sum() / len(painted)


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
