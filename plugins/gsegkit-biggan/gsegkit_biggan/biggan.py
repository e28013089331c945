"""The generators `biggan` and `bigbigan`."""

from __future__ import annotations

from gsegkit_resgan.generator import ResidualGenerator

from gsegkit_biggan.config import BigBiGANConfig, BigGANConfig


class BigGAN(ResidualGenerator):
    """Class-conditional; z is its edit space.

    Example:
        >>> import torch
        >>> generator = BigGAN(BigGANConfig(resolution=32, channels=2, num_classes=3))
        >>> batch = generator.sample(torch.arange(2), features=("block0",))
        >>> batch.images.shape, batch.features["block0"].shape
        (torch.Size([2, 3, 32, 32]), torch.Size([2, 8, 8, 8]))
    """

    name = "biggan"
    config: BigGANConfig


class BigBiGAN(ResidualGenerator):
    """Unconditional: the one vector that stands for all classes is a part of its weights."""

    name = "bigbigan"
    config: BigBiGANConfig
