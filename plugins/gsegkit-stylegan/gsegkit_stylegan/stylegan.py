"""The generator `stylegan` (v1)."""

from __future__ import annotations

from gsegkit_stylegan.config import StyleGANArch, StyleGANConfig
from gsegkit_stylegan.generator import StyleGenerator
from gsegkit_stylegan.networks.stylegan import StyleGANNetwork


class StyleGAN(StyleGenerator):
    """StyleGAN v1. The released files were shown with psi = 0.7 on the first 8 layers; here the default is none.

    Example:
        >>> generator = StyleGAN(StyleGANConfig(resolution=16, channel_base=128, channel_max=8))
        >>> generator.info.edit_points[:3]
        ('b4.const', 'b4.conv0', 'b4.conv1')
    """

    name = "stylegan"
    arch_class = StyleGANArch
    config: StyleGANConfig
    network: StyleGANNetwork

    def build(self, arch: StyleGANArch) -> StyleGANNetwork:
        """See `FamilyGenerator.build`."""
        return StyleGANNetwork(arch)
