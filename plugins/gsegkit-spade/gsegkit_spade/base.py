"""What the painters of this plugin share: they train a network in one loop, and paint with its averaged weights."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn

from gsegkit.context import RunContext
from gsegkit.dataset import LabelledDataset
from gsegkit.errors import ArtifactError, DataError
from gsegkit.interfaces import Segmenter
from gsegkit.painting import Painter, check_canvas
from gsegkit.seeds import child_seed, isolated_rng
from gsegkit_spade.config import PainterConfig
from gsegkit_spade.encoder import Encoder
from gsegkit_spade.eye import Eye
from gsegkit_spade.masks import as_channels
from gsegkit_spade.objectives import Comparison, Objective
from gsegkit_spade.training import Training


class NetworkPainter(Painter):
    """A painter with one network.

    A network takes labels [N, K + 1, H, W] as `as_channels` makes them and latents as `Painter.paint` does; it returns
    pictures [N, 3, H, W] in [-1, 1].
    """

    config: PainterConfig
    network: nn.Module | None

    def __init__(self, config: PainterConfig) -> None:
        super().__init__(config)
        self.latent_dim = config.latent_dim
        self.network = None

    @abstractmethod
    def build(self, *, spectral: bool) -> nn.Module:
        """A network for `classes` and `train_size`; `spectral` = its convolutions are normalised, for training."""

    @abstractmethod
    def objective(self) -> Objective:
        """What the network is trained by."""

    def encoder(self) -> Encoder | None:
        """What makes latents of true pictures in the training; None = they are drawn."""
        return None

    def comparison(self, segmenter: Segmenter | None, ctx: RunContext) -> Comparison | None:
        """What painted and true pictures are compared through; None = nothing."""
        if segmenter is None or not self.config.perceptual:
            return None
        if not segmenter.exportable:
            ctx.warn("painter: the segmenter answers by probabilities alone, so nothing is learned through it")
            return None
        return Eye(segmenter, self.train_size, ctx.device)

    def fit(self, dataset: LabelledDataset, ctx: RunContext, *, segmenter: Segmenter | None = None) -> None:
        """See `Painter.fit`. Afterwards the weights are averaged ones."""
        if not len(dataset):
            raise DataError("there are no pairs to learn painting from", "some thousands are usual")
        height, width = dataset[0].mask.shape
        self.classes, self.train_size = dataset.classes, (int(height), int(width))
        comparison = self.comparison(segmenter, ctx)
        with isolated_rng(child_seed(ctx.seed, "weights")):
            network = self.build(spectral=True).to(ctx.device)
            if ctx.device.type == "cpu":  # convolutions of wide and small maps: a quarter less time
                network = network.to(memory_format=torch.channels_last)
            self.network = self.build(spectral=False).to(ctx.device)
        with isolated_rng(child_seed(ctx.seed, "discriminators")):
            objective, encoder = self.objective().to(ctx.device), self.encoder()
        encoder = encoder.to(ctx.device) if encoder is not None else None
        result = Training(network, self.config, dataset, objective, comparison, ctx, encoder).run()
        self.network.load_state_dict(result.state_dict())
        self.to(ctx.device).eval()

    def as_network(self) -> nn.Module | None:
        """See `Painter.as_network`."""
        return self.network

    def paint(self, masks: Tensor, z: Tensor) -> Tensor:
        """See `Painter.paint`."""
        if self.network is None:
            raise ArtifactError(f"{type(self).__name__} is not trained", "fit() it, or load a trained one")
        check_canvas(self, masks, z)
        training = self.training
        self.eval()
        with torch.no_grad():
            labels = as_channels(masks.to(self.device), len(self.classes))
            pictures: Tensor = self.network(labels, z.to(self.device))
        self.train(training)
        return pictures
