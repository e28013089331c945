"""Choosing the device."""

from __future__ import annotations

import torch

from gsegkit.distributed.team import ALONE, Team
from gsegkit.engine.plan import device_name
from gsegkit.errors import ConfigError


def pick_device(name: str, team: Team = ALONE) -> torch.device:
    """`auto` = CUDA when there is one, else the CPU; any other name is taken as it is.

    Of several processes each takes the GPU of its own number, unless the name has one.

    Raises:
        ConfigError: not a device that gsegkit computes on, or one that this machine does not have.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(device_name(name))
    except ValueError as error:
        raise ConfigError(str(error)) from None
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("device 'mps' is not available: this torch finds no Apple GPU", "use --device cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"device '{name}' is not available ({torch.cuda.device_count()} CUDA devices found)", "use --device cpu"
        )
    if device.type == "cuda" and not team.alone:
        if device.index is None:
            device = torch.device("cuda", team.local_rank % torch.cuda.device_count())
        torch.cuda.set_device(device)  # where tensors of the other processes arrive
    return device
