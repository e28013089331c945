"""What a training keeps beside the network: optimiser, learning rate, precision, average weights, best weights."""

from __future__ import annotations

import contextlib
import copy
import math
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from gsegkit.errors import ConfigError
from gsegkit_smp.config import SmpConfig

M = TypeVar("M", bound=nn.Module)


def build_optimizer(network: nn.Module, config: SmpConfig, device: torch.device) -> torch.optim.Optimizer:
    """AdamW or Adam; biases and norms (one-dimensional tensors) never decay."""
    weights = [p for p in network.parameters() if p.requires_grad and p.ndim > 1]
    others = [p for p in network.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [{"params": weights, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, lr=config.lr, fused=device.type in ("cpu", "cuda"))


def learning_rate(config: SmpConfig, step: int, total: int) -> float:
    """The learning rate of a step; a plain function, so there is no schedule whose state could be lost."""
    if config.schedule == "constant":
        return config.lr
    if config.schedule == "step":
        return config.lr * (config.decay_factor if step >= round(config.decay_at * total) else 1.0)
    rising = round(config.warmup * total)
    if step < rising:
        return config.lr * (step + 1) / rising
    return config.lr * 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, total - rising)))


class Precision:
    """Mixed precision: autocast, and the loss scaling that fp16 needs. Part of the training's state."""

    def __init__(self, mode: str, device: torch.device) -> None:
        if mode == "fp16" and device.type != "cuda":
            raise ConfigError(f"amp=fp16 needs a CUDA device, this is {device.type}", "use amp=auto, bf16 or off")
        if mode == "auto":
            native = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
            mode = "off" if device.type != "cuda" else "bf16" if native else "fp16"
        self.device, self.mode = device, mode
        self.scaler = torch.amp.GradScaler(device.type, enabled=mode == "fp16")

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Around the forward pass."""
        if self.mode == "off":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16 if self.mode == "bf16" else torch.float16)

    def step(self, loss: Tensor, optimizer: torch.optim.Optimizer, grad_clip: float | None) -> None:
        """Backward, clip, update."""
        optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        if grad_clip is not None:
            self.scaler.unscale_(optimizer)
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            torch.nn.utils.clip_grad_norm_(parameters, grad_clip)
        self.scaler.step(optimizer)
        self.scaler.update()

    def state_dict(self) -> dict[str, Any]:
        """See `gsegkit.context.Stateful`."""
        return self.scaler.state_dict()

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """See `gsegkit.context.Stateful`."""
        self.scaler.load_state_dict(state)


class Average(Generic[M]):
    """Exponential moving average of a module's weights and running statistics.

    The decay rises as (1 + t) / (10 + t), so that short trainings are not held back by their random start;
    decay 0 keeps the last weights.
    """

    def __init__(self, module: M, decay: float) -> None:
        self.module: M = copy.deepcopy(module).eval().requires_grad_(False)
        self.decay = decay
        self.steps = 0
        pairs = list(zip(self.module.state_dict().values(), module.state_dict().values(), strict=True))
        self._floats = [(mean, value) for mean, value in pairs if mean.is_floating_point()]
        self._others = [(mean, value) for mean, value in pairs if not mean.is_floating_point()]

    @torch.no_grad()
    def update(self) -> None:
        """Take the module's present weights in."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_([mean for mean, _ in self._floats], [value for _, value in self._floats], 1 - decay)
        for mean, value in self._others:
            mean.copy_(value)

    def state_dict(self) -> dict[str, Any]:
        """See `gsegkit.context.Stateful`."""
        return {"steps": self.steps, "module": self.module.state_dict()}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """See `gsegkit.context.Stateful`."""
        self.steps = int(state["steps"])
        self.module.load_state_dict(state["module"])


class Best:
    """The weights with the highest validation mIoU so far, and the latest mIoU for the curve."""

    def __init__(self) -> None:
        self.miou = -1.0
        self.latest = -1.0
        self.step = 0
        self.weights: dict[str, Tensor] = {}

    def offer(self, miou: float, step: int, module: nn.Module) -> None:
        """Keep a copy of the weights when they are the best."""
        self.latest = miou
        if miou > self.miou:
            self.miou, self.step = miou, step
            self.weights = {name: value.detach().clone() for name, value in module.state_dict().items()}

    def state_dict(self) -> dict[str, Any]:
        """See `gsegkit.context.Stateful`."""
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """See `gsegkit.context.Stateful`."""
        vars(self).update(state)
