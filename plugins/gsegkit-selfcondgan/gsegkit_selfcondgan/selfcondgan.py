"""The generators `selfcondgan` and `uncondgan`."""

from __future__ import annotations

from gsegkit_resgan.generator import ResidualGenerator

from gsegkit_selfcondgan.config import SelfCondGANConfig, UncondGANConfig


class SelfCondGAN(ResidualGenerator):
    """Its classes are clusters of the training photographs; a class is drawn as often as its cluster is large.

    Example:
        >>> import torch
        >>> generator = SelfCondGAN(SelfCondGANConfig(resolution=32, channels=2, num_classes=3))
        >>> generator.sample(torch.arange(2), features=("res0",)).features["res0"].shape
        torch.Size([2, 16, 4, 4])
    """

    name = "selfcondgan"
    config: SelfCondGANConfig


class UncondGAN(ResidualGenerator):
    """The same network without classes."""

    name = "uncondgan"
    config: UncondGANConfig
