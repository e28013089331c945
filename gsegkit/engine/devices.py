"""Choosing the device."""

from __future__ import annotations

import torch

from gsegkit.errors import ConfigError


def pick_device(name: str) -> torch.device:
    """`auto` = CUDA when there is one, else the CPU; any other name is taken as it is.

    Raises:
        ConfigError: not a device name, or a device that this machine does not have.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"'{name}' is not a device", "use auto, cpu, cuda or cuda:1") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"device '{name}' is not available ({torch.cuda.device_count()} CUDA devices found)", "use --device cpu"
        )
    return device
