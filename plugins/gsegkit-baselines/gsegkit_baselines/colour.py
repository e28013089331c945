"""colour-kmeans and grabcut-kmeans: parts by colour alone, over all photographs or inside their foregrounds."""

from __future__ import annotations

import kornia
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from gsegkit.context import RunContext
from gsegkit.dataset import UnlabelledImages
from gsegkit.errors import ArtifactError, CapabilityError
from gsegkit.refining import Predictor, Refine, check_photographs
from gsegkit_baselines.base import ANY_SIZE, lab
from gsegkit_baselines.clusters import Clusters, centres, chosen, varied
from gsegkit_baselines.config import ColourKMeansConfig, GrabCutKMeansConfig


class ColourKMeans(Clusters):
    """k clusters of colours in Lab; every pixel goes to the nearest centre."""

    config: ColourKMeansConfig
    centres: Tensor
    fit_rule = "native"

    def __init__(self, config: ColourKMeansConfig) -> None:
        super().__init__(config)
        self.register_buffer("centres", torch.zeros(config.k, 3))

    @property
    def num_clusters(self) -> int:
        """See `Clusters.num_clusters`."""
        return self.config.k

    def fit_photographs(self, images: UnlabelledImages, ctx: RunContext) -> None:
        """See `PhotographSegmenter.fit_photographs`."""
        draw = np.random.default_rng(ctx.seed)
        points = []
        for index in ctx.track(chosen(images, self.config.num_images, ctx), "colours"):
            points.append(_some(lab(images[index]).flatten(1).T.numpy(), self.config.pixels, draw))
        self.centres.copy_(torch.from_numpy(centres(np.concatenate(points), self.config.k, ctx.seed, "colour")))
        self.classes = tuple(f"cluster-{i}" for i in range(self.num_clusters))
        self.train_size, self.fit_rule = ANY_SIZE, "native"

    def logits(self, images: Tensor) -> Tensor:
        """See `Segmenter.logits`: minus half the squared distances to the centres, less what all have in common."""
        if not getattr(self, "classes", ()):
            raise ArtifactError("colour-kmeans is not fitted", "fit it with gsegkit fit, or load a fitted one")
        colours = kornia.color.rgb_to_lab((images + 1) / 2)
        offsets = -self.centres.square().sum(dim=1) / 2
        return self.named(F.conv2d(colours, self.centres[:, :, None, None], offsets))


class GrabCutKMeans(Clusters):
    """Cluster 0 is what GrabCut leaves out of each photograph; the others are clusters of the colours inside."""

    config: GrabCutKMeansConfig
    centres: Tensor
    exportable = False
    fit_rule = "native"

    def __init__(self, config: GrabCutKMeansConfig) -> None:
        super().__init__(config)
        self.register_buffer("centres", torch.zeros(config.k, 3))

    @property
    def num_clusters(self) -> int:
        """See `Clusters.num_clusters`; one more for what is outside."""
        return self.config.k + 1

    def fit_photographs(self, images: UnlabelledImages, ctx: RunContext) -> None:
        """See `PhotographSegmenter.fit_photographs`.

        Raises:
            DataError: no photograph has a foreground, or too few colours in it.
        """
        from gsegkit_baselines.cut import from_rectangle  # wants OpenCV

        draw = np.random.default_rng(ctx.seed)
        points = []
        for pixels in varied(images, self.config.num_images, ctx, "foregrounds"):
            inside = lab(pixels).flatten(1).T.numpy()[from_rectangle(pixels, self.config).flatten()]
            points.append(_some(inside, self.config.pixels, draw))
        self.centres.copy_(torch.from_numpy(centres(np.concatenate(points), self.config.k, ctx.seed, "colour")))
        self.classes = tuple(f"cluster-{i}" for i in range(self.num_clusters))
        self.train_size, self.fit_rule = ANY_SIZE, "native"

    def probs(self, pixels: Tensor, refine: Refine = ()) -> Tensor:
        """See `Segmenter.probs`: 0 or 1."""
        if refine:
            return Predictor(self, refine)(pixels)
        from gsegkit_baselines.cut import from_rectangle

        check_photographs(pixels)
        found = []
        for one in pixels.cpu():
            nearest = torch.cdist(lab(one).flatten(1).T, self.centres.cpu()).argmin(dim=1).view(one.shape[1:]) + 1
            nearest[torch.from_numpy(~from_rectangle(one, self.config))] = 0
            classes = torch.tensor(self.targets)[nearest] if self.targets else nearest
            found.append(F.one_hot(classes, len(self.classes)).permute(2, 0, 1).float())
        return torch.stack(found).to(self.device)

    def logits(self, images: Tensor) -> Tensor:
        """Refused."""
        raise CapabilityError("grabcut-kmeans cuts every photograph by itself and has no logits", "use probs(pixels)")


def _some(colours: NDArray[np.float32], count: int, draw: np.random.Generator) -> NDArray[np.float32]:
    """At most `count` rows."""
    return colours[draw.choice(len(colours), min(count, len(colours)), replace=False)] if len(colours) else colours
