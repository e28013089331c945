"""What a training keeps beside the network: optimiser, learning rate, precision, best weights."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import torch
from torch import Tensor, nn

from gsegkit.distributed.team import ALONE, Team
from gsegkit.errors import ConfigError
from gsegkit.training import add_gradients
from gsegkit_smp.config import SmpConfig


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
    """Mixed precision: autocast, and the loss scaling that float16 needs. Part of the training's state."""

    def __init__(self, mode: str, device: torch.device) -> None:
        if mode == "float16" and device.type != "cuda":
            raise ConfigError(
                f"dtype=float16 needs a CUDA device, this is {device.type}", "use dtype=auto, bfloat16 or float32"
            )
        if mode == "auto":
            native = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
            mode = "float32" if device.type != "cuda" else "bfloat16" if native else "float16"
        self.device, self.mode = device, mode
        self.scaler = torch.amp.GradScaler(device.type, enabled=mode == "float16")

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Around the forward pass."""
        if self.mode == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16 if self.mode == "bfloat16" else torch.float16)

    def step(self, loss: Tensor, optimizer: torch.optim.Optimizer, grad_clip: float | None, team: Team = ALONE) -> None:
        """Backward, add the gradients of all processes, clip, update."""
        optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        add_gradients(team, parameters)
        if grad_clip is not None:
            self.scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(parameters, grad_clip)
        self.scaler.step(optimizer)
        self.scaler.update()

    def state_dict(self) -> dict[str, Any]:
        """See `gsegkit.context.Stateful`."""
        return self.scaler.state_dict()

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """See `gsegkit.context.Stateful`."""
        self.scaler.load_state_dict(state)


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
