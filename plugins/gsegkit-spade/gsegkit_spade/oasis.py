"""The painter `oasis`: as SPADE, but a segmenting discriminator is all it learns from, and each region has its noise.

Sushko et al., You Only Need Adversarial Supervision for Semantic Image Synthesis, ICLR 2021, arXiv:2012.04781.
"""

from __future__ import annotations

from gsegkit_spade.config import OasisConfig
from gsegkit_spade.discriminators import SegmentingDiscriminator
from gsegkit_spade.layers import GAIN
from gsegkit_spade.objectives import Objective, SegmentingObjective
from gsegkit_spade.spatial import SpatialArch, published_plan, short_plan
from gsegkit_spade.spatial_painter import SpatialPainter


class OasisPainter(SpatialPainter):
    """OASIS. Differs from the paper by default: small, and compared through the run's segmenter, which helps most.

    Example:
        >>> painter = OasisPainter(OasisConfig(steps=1000))
        >>> painter.fit(pairs, ctx, segmenter=segmenter)  # doctest: +SKIP
    """

    config: OasisConfig
    region_styles = True

    def arch(self) -> SpatialArch:
        """See `SpatialPainter.arch`."""
        config = self.config
        widths = (config.width, config.width_max)
        plan = short_plan(self.train_size, *widths) if config.layout == "short" else published_plan("oasis", *widths)
        return SpatialArch(
            num_classes=len(self.classes), size=self.train_size, latent_dim=config.latent_dim, start=config.start,
            noise=True, hidden=config.hidden, channels=plan.channels, doubled=plan.doubled,
        )  # fmt: skip

    def objective(self) -> Objective:
        """See `NetworkPainter.objective`."""
        config = self.config
        widths = (config.discriminator_width, config.discriminator_width_max)
        judge = SegmentingDiscriminator(len(self.classes), self.train_size, *widths, GAIN)
        return SegmentingObjective(judge, config.label_mix)
