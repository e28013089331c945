"""Steps that several trainings take: a batch of photographs, R1, one update, tuned convolutions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from gsegkit.distributed.team import ALONE, Team
from gsegkit.images import to_images
from gsegkit.training.photographs import ImageBank, flip_where
from gsegkit.training.together import add_gradients


def random_photographs(bank: ImageBank, count: int, mirror: str, rows: slice = slice(None)) -> Tensor:
    """Photographs drawn by torch's global generator, half of them mirrored along each axis of `mirror`.

    Args:
        bank: where they come from.
        count: how many; one may be drawn twice.
        mirror: "none", "x" (left-right) or "xy" (upside-down too).
        rows: which of them are returned; the others are drawn, and not read.

    Returns:
        [count, 3, H, W] float32 in [-1, 1], on the bank's device.
    """
    pixels = bank.batch(torch.randint(len(bank), (count,))[rows])
    across, down = ((torch.rand(count) < 0.5)[rows] if axis in mirror else None for axis in "xy")
    return to_images(flip_where(pixels, across, down))


def r1_penalty(discriminator: Callable[[Tensor], Tensor], reals: Tensor) -> Tensor:
    """R1 (Mescheder et al. 2018): mean over [N, 3, H, W] real images of |grad_x D(x)|^2; times gamma / 2 in a loss."""
    return r1_penalties(discriminator, reals).mean()


def r1_penalties(discriminator: Callable[[Tensor], Tensor], reals: Tensor) -> Tensor:
    """|grad_x D(x)|^2 of each real image, [N, 3, H, W] -> [N]; see `r1_penalty`."""
    reals = reals.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(discriminator(reals).sum(), reals, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3))


def descend(optimizer: torch.optim.Optimizer, loss: Tensor, team: Team = ALONE) -> None:
    """One step down the gradient of a loss, which the processes of `team` have in parts; see `add_gradients`."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    add_gradients(team, (parameter for group in optimizer.param_groups for parameter in group["params"]))
    optimizer.step()


@contextmanager
def tuned_convolutions() -> Iterator[None]:
    """Let cuDNN try its algorithms on the first steps: all later ones have the same shapes.

    Not `torch.backends.cudnn.flags(benchmark=True)`, whose other defaults switch cuDNN off.
    """
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
