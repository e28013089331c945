"""The painter `class-adaptive`: each class has a scale and a shift on every level, the latent adds to them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gsegkit.painting import PageNetwork
from gsegkit.seeds import isolated_rng
from gsegkit_spade.base import NetworkPainter
from gsegkit_spade.config import ClassAdaptiveConfig
from gsegkit_spade.discriminators import Discriminators
from gsegkit_spade.networks import PaintingNetwork
from gsegkit_spade.objectives import Objective, PatchObjective
from gsegkit_spade.page import page_network


class ClassAdaptivePainter(NetworkPainter):
    """A small painter that trains on a CPU.

    Example:
        >>> painter = ClassAdaptivePainter(ClassAdaptiveConfig(steps=1000))
        >>> painter.fit(pairs, ctx, segmenter=segmenter)  # doctest: +SKIP
        >>> painter.paint(masks, painter.latents(torch.arange(len(masks))))  # doctest: +SKIP
    """

    config: ClassAdaptiveConfig
    network: PaintingNetwork | None
    region_styles = True

    def build(self, *, spectral: bool) -> PaintingNetwork:
        """See `NetworkPainter.build`."""
        config, count = self.config, len(self.classes)
        return PaintingNetwork(
            count, self.train_size, config.latent_dim, config.width, config.width_max, spectral=spectral
        )

    def objective(self) -> Objective:
        """See `NetworkPainter.objective`."""
        config = self.config
        judges = Discriminators(len(self.classes), config.discriminator_width, config.discriminator_layers)
        return PatchObjective(judges, config.feature_matching)

    def in_page(self) -> PageNetwork | None:
        """See `Painter.in_page`."""
        return page_network(self.network) if self.network is not None else None

    def facts(self) -> dict[str, Any]:
        """See `ModulePart.facts`."""
        if self.network is None:
            return {}
        return {"classes": list(self.classes), "train_size": list(self.train_size)}

    def restore(self, facts: Mapping[str, Any]) -> None:
        """See `ModulePart.restore`."""
        if "classes" not in facts:
            return
        height, width = facts["train_size"]
        self.classes, self.train_size = tuple(facts["classes"]), (int(height), int(width))
        with isolated_rng(0):
            self.network = self.build(spectral=False).to(self.device)
