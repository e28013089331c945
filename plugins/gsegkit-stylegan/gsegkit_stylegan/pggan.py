"""The generator `pggan`."""

from __future__ import annotations

from torch import Tensor

from gsegkit_stylegan.config import PGGANArch, PGGANConfig
from gsegkit_stylegan.generator import FamilyGenerator
from gsegkit_stylegan.networks.pggan import PGGANNetwork


class PGGAN(FamilyGenerator):
    """Progressive GAN, fully grown; its latents are z, its features are taken before PixelNorm.

    Example:
        >>> generator = PGGAN(PGGANConfig(resolution=16, channel_base=128, channel_max=8))
        >>> generator.info.latent_shape
        (512,)
    """

    name = "pggan"
    arch_class = PGGANArch
    config: PGGANConfig
    network: PGGANNetwork

    def build(self, arch: PGGANArch) -> PGGANNetwork:
        """See `FamilyGenerator.build`."""
        return PGGANNetwork(arch)

    def layer_inputs(self, latents: Tensor, labels: Tensor | None) -> Tensor:
        """The latents with their one-hot labels behind them."""
        return self.network.inputs(latents, labels)
