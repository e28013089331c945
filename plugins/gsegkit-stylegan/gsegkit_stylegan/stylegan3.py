"""The generator `stylegan3`."""

from __future__ import annotations

from torch import Tensor

from gsegkit.types import FeatureSpec
from gsegkit_stylegan.config import StyleGAN3Arch, StyleGAN3Config
from gsegkit_stylegan.generator import StyleGenerator
from gsegkit_stylegan.networks.stylegan3 import StyleGAN3Network


class StyleGAN3(StyleGenerator):
    """StyleGAN3, configs T and R. Features `L0` ... `L13` are at their layer's sampling rate, without its margin.

    Edits get the activation as the network computes it, with a margin of 10 pixels where the layer has one.

    Example:
        >>> generator = StyleGAN3(StyleGAN3Config(resolution=16, channel_base=128, channel_max=8))
        >>> generator.info.edit_points[:2], generator.info.feature("L13").height
        (('input', 'L0'), 16)
    """

    name = "stylegan3"
    arch_class = StyleGAN3Arch
    arch: StyleGAN3Arch
    config: StyleGAN3Config
    network: StyleGAN3Network

    def build(self, arch: StyleGAN3Arch) -> StyleGAN3Network:
        """See `FamilyGenerator.build`."""
        return StyleGAN3Network(arch)

    def _features(self) -> tuple[FeatureSpec, ...]:
        layers = list(self.network.synthesis.plans.values())[:-1]
        return tuple(
            FeatureSpec(f"L{i}", plan.after.channels, plan.after.rate, plan.after.rate) for i, plan in enumerate(layers)
        )

    def _read(self, name: str, activation: Tensor) -> Tensor:
        rate = self.info.feature(name).height
        margin = (activation.shape[2] - rate) // 2
        return activation[:, :, margin : margin + rate, margin : margin + rate].float()
