"""The generator `stylegan` (v1)."""

from __future__ import annotations

from torch import Tensor

from gsegkit_stylegan.config import StyleGANArch, StyleGANConfig
from gsegkit_stylegan.generator import FamilyGenerator
from gsegkit_stylegan.networks.stylegan import StyleGANNetwork
from gsegkit_stylegan.networks.stylegan2 import truncate


class StyleGAN(FamilyGenerator):
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

    def layer_inputs(self, latents: Tensor, labels: Tensor | None) -> Tensor:
        """[N, num_ws, w_dim]: mapped, one per layer, truncated."""
        w = self.network.mapping(latents, labels) if self.config.space == "z" else latents
        ws = w if self.config.space == "w+" else self.network.broadcast(w)
        return truncate(ws, self.network.mapping.w_avg, self.config.psi, self.config.cutoff)
