"""Averaged weights: what a training keeps beside the weights that it moves."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)


class WeightAverage(Generic[M]):
    """Exponential moving average of a module's parameters.

    `torch.optim.swa_utils.AveragedModel` is not used: its decay is a constant, and its names of tensors are its own.

    Args:
        module: what is trained, on its device.
        into: the network that holds the average; None = a copy of `module`.
        copy_buffers: buffers are copied instead of averaged, as StyleGAN2 does; integer ones always are.

    Attributes:
        module: the average, in eval mode, without gradients.
        updates: how many there were.

    Example:
        >>> net = nn.Linear(1, 1)
        >>> average = WeightAverage(net)
        >>> average.update(0.9)
        >>> torch.equal(average.module.weight, net.weight)
        True
    """

    def __init__(self, module: M, into: M | None = None, *, copy_buffers: bool = False) -> None:
        self.module: M = (copy.deepcopy(module) if into is None else into).eval().requires_grad_(False)
        self.updates = 0
        named = [dict((*net.named_parameters(), *net.named_buffers())) for net in (self.module, module)]
        copied = {name for name, _ in module.named_buffers()} if copy_buffers else set()
        copied |= {name for name, value in named[1].items() if not value.is_floating_point()}
        self._averaged = [[net[name] for name in net if name not in copied] for net in named]
        self._copied = [[net[name] for name in net if name in copied] for net in named]

    @torch.no_grad()
    def update(self, decay: float) -> None:
        """Take the module's present weights in: average = decay * average + (1 - decay) * weights."""
        self.updates += 1
        torch._foreach_lerp_(self._averaged[0], self._averaged[1], 1 - decay)
        if self._copied[0]:
            torch._foreach_copy_(self._copied[0], self._copied[1])

    def state_dict(self) -> dict[str, Any]:
        """The average and the number of updates.

        Where the decay follows from the step's number, `module` alone can be kept instead.
        """
        return {"steps": self.updates, "module": self.module.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any], /) -> None:
        """Take a state back."""
        self.updates = int(state["steps"])
        self.module.load_state_dict(state["module"])


def rising_decay(decay: float, updates: int) -> float:
    """The smaller of `decay` and (1 + updates) / (10 + updates): short trainings soon forget their random start."""
    return min(decay, (1 + updates) / (10 + updates))
