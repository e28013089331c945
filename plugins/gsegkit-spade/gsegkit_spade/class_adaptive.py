"""The painter `class-adaptive`: each class has a scale and a shift on every level, the latent adds to them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from gsegkit.context import RunContext
from gsegkit.dataset import LabelledDataset
from gsegkit.errors import ArtifactError, DataError
from gsegkit.interfaces import Segmenter
from gsegkit.painting import Painter, check_canvas
from gsegkit.seeds import child_seed, isolated_rng
from gsegkit_spade.config import ClassAdaptiveConfig
from gsegkit_spade.eye import Eye
from gsegkit_spade.masks import as_channels
from gsegkit_spade.networks import PaintingNetwork
from gsegkit_spade.training import Training


class ClassAdaptivePainter(Painter):
    """A small painter that trains on a CPU.

    Example:
        >>> painter = ClassAdaptivePainter(ClassAdaptiveConfig(steps=1000))
        >>> painter.fit(pairs, ctx, segmenter=segmenter)  # doctest: +SKIP
        >>> painter.paint(masks, painter.latents(torch.arange(len(masks))))  # doctest: +SKIP
    """

    config: ClassAdaptiveConfig
    region_styles = True

    def __init__(self, config: ClassAdaptiveConfig) -> None:
        super().__init__(config)
        self.latent_dim = config.latent_dim
        self.network: PaintingNetwork | None = None

    def fit(self, dataset: LabelledDataset, ctx: RunContext, *, segmenter: Segmenter | None = None) -> None:
        """See `Painter.fit`. Afterwards the weights are averaged ones."""
        if not len(dataset):
            raise DataError("there are no pairs to learn painting from", "some thousands are usual")
        height, width = dataset[0].mask.shape
        self.classes, self.train_size = dataset.classes, (int(height), int(width))
        with isolated_rng(child_seed(ctx.seed, "weights")):
            network = self._build(spectral=True).to(ctx.device)
            self.network = self._build(spectral=False).to(ctx.device)
        result = Training(network, self.config, dataset, self._eye(segmenter, ctx), ctx).run()
        self.network.load_state_dict(result.state_dict())
        self.to(ctx.device).eval()

    def paint(self, masks: Tensor, z: Tensor) -> Tensor:
        """See `Painter.paint`."""
        if self.network is None:
            raise ArtifactError("class-adaptive is not trained", "fit() it, or load a trained one")
        check_canvas(self, masks, z)
        training = self.training
        self.eval()
        with torch.no_grad():
            labels = as_channels(masks.to(self.device), len(self.classes))
            pictures: Tensor = self.network(labels, z.to(self.device))
        self.train(training)
        return pictures

    def as_network(self) -> PaintingNetwork | None:
        """See `Painter.as_network`."""
        return self.network

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
            self.network = self._build(spectral=False).to(self.device)

    def _build(self, *, spectral: bool) -> PaintingNetwork:
        config, count = self.config, len(self.classes)
        return PaintingNetwork(
            count, self.train_size, config.latent_dim, config.width, config.width_max, spectral=spectral
        )

    def _eye(self, segmenter: Segmenter | None, ctx: RunContext) -> Eye | None:
        if segmenter is None or not self.config.perceptual:
            return None
        if not segmenter.exportable:
            ctx.warn("painter: the segmenter answers by probabilities alone, so nothing is learned through it")
            return None
        return Eye(segmenter, self.train_size, ctx.device)
