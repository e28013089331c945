"""colour-kmeans: parts by colour alone, over all photographs."""

from __future__ import annotations

import kornia
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gsegkit.context import RunContext
from gsegkit.dataset import UnlabelledImages
from gsegkit.errors import ArtifactError
from gsegkit_baselines.base import ANY_SIZE, lab
from gsegkit_baselines.clusters import Clusters, centres, chosen
from gsegkit_baselines.config import ColourKMeansConfig


class ColourKMeans(Clusters):
    """k clusters of colours in Lab; every pixel goes to the nearest centre."""

    config: ColourKMeansConfig
    centres: Tensor
    fit_rule = "native"

    def __init__(self, config: ColourKMeansConfig) -> None:
        super().__init__(config)
        self.register_buffer("centres", torch.zeros(config.k, 3))

    def fit_photographs(self, images: UnlabelledImages, ctx: RunContext) -> None:
        """See `PhotographSegmenter.fit_photographs`."""
        draw = np.random.default_rng(ctx.seed)
        points = []
        for index in ctx.track(chosen(images, self.config.num_images, ctx), "colours"):
            colours = lab(images[index]).flatten(1).T.numpy()
            points.append(colours[draw.choice(len(colours), min(self.config.pixels, len(colours)), replace=False)])
        self.centres.copy_(torch.from_numpy(centres(np.concatenate(points), self.config.k, ctx.seed, "colour")))
        self.classes = tuple(f"cluster-{i}" for i in range(self.config.k))
        self.train_size, self.fit_rule = ANY_SIZE, "native"

    def logits(self, images: Tensor) -> Tensor:
        """See `Segmenter.logits`: minus half the squared distances to the centres, less what all have in common."""
        if not getattr(self, "classes", ()):
            raise ArtifactError("colour-kmeans is not fitted", "fit it with gsegkit fit, or load a fitted one")
        colours = kornia.color.rgb_to_lab((images + 1) / 2)
        offsets = -self.centres.square().sum(dim=1) / 2
        return self.named(F.conv2d(colours, self.centres[:, :, None, None], offsets))
