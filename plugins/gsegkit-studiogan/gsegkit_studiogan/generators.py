"""The generators `acgan`, `ggan`, `sagan`, `sngan` and `contragan`: what a discriminator taught differs, not they."""

from __future__ import annotations

from gsegkit_resgan.generator import ResidualGenerator

from gsegkit_studiogan.config import ACGANConfig, ContraGANConfig, GGANConfig, SAGANConfig, SNGANConfig


class ACGAN(ResidualGenerator):
    """Taught by a discriminator that also classifies."""

    name = "acgan"
    config: ACGANConfig


class GGAN(ResidualGenerator):
    """Taught without classes, with the hinge loss.

    Example:
        >>> import torch
        >>> generator = GGAN(GGANConfig(resolution=32, channels=2))
        >>> generator.sample(torch.arange(2)).images.shape
        torch.Size([2, 3, 32, 32])
    """

    name = "ggan"
    config: GGANConfig


class SAGAN(ResidualGenerator):
    """With self-attention."""

    name = "sagan"
    config: SAGANConfig


class SNGAN(ResidualGenerator):
    """Taught by a spectrally normalised discriminator."""

    name = "sngan"
    config: SNGANConfig


class ContraGAN(ResidualGenerator):
    """BigGAN's network, taught by comparing pictures of a class."""

    name = "contragan"
    config: ContraGANConfig
