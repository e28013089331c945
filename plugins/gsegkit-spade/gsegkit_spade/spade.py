"""The painter `spade`: convolutions of the mask scale and shift each level; patches are judged.

Park et al., Semantic Image Synthesis with Spatially-Adaptive Normalization, CVPR 2019, arXiv:1903.07291.
"""

from __future__ import annotations

from gsegkit.context import RunContext
from gsegkit.interfaces import Segmenter
from gsegkit_spade.config import SpadeConfig
from gsegkit_spade.discriminators import Discriminators
from gsegkit_spade.encoder import Encoder
from gsegkit_spade.layers import GAIN
from gsegkit_spade.objectives import Comparison, Objective, PatchObjective
from gsegkit_spade.spatial import SpatialArch, published_plan, short_plan
from gsegkit_spade.spatial_painter import SpatialPainter
from gsegkit_spade.vgg import Vgg


class SpadePainter(SpatialPainter):
    """SPADE. Differs from the paper by default: small, compared through the run's segmenter, no encoder.

    The encoder, where there is one, serves the training alone: pictures are painted of latents that seeds give.

    Example:
        >>> painter = SpadePainter(SpadeConfig(steps=1000))
        >>> painter.fit(pairs, ctx, segmenter=segmenter)  # doctest: +SKIP
    """

    config: SpadeConfig

    def arch(self) -> SpatialArch:
        """See `SpatialPainter.arch`."""
        config = self.config
        widths = (config.width, config.width_max)
        plan = short_plan(self.train_size, *widths) if config.layout == "short" else published_plan("spade", *widths)
        return SpatialArch(
            num_classes=len(self.classes), size=self.train_size, latent_dim=config.latent_dim, start="latent",
            noise=False, hidden=config.hidden, channels=plan.channels, doubled=plan.doubled,
        )  # fmt: skip

    def objective(self) -> Objective:
        """See `NetworkPainter.objective`."""
        config = self.config
        judges = Discriminators(len(self.classes), config.discriminator_width, config.discriminator_layers, GAIN)
        return PatchObjective(judges, config.feature_matching)

    def encoder(self) -> Encoder | None:
        """See `NetworkPainter.encoder`."""
        config = self.config
        return Encoder(self.train_size, config.latent_dim, config.width, config.kl) if config.encoder else None

    def comparison(self, segmenter: Segmenter | None, ctx: RunContext) -> Comparison | None:
        """VGG-19 where the user gave its weights, else the run's segmenter."""
        if self.config.perceptual_weights is None or not self.config.perceptual:
            return super().comparison(segmenter, ctx)
        return Vgg(self.config.perceptual_weights, self.train_size).to(ctx.device)
