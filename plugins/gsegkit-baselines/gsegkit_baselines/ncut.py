"""ncut-head: a normalised cut of each photograph's features, then one head that learned from all cuts, then GrabCut.

The cut is that of TokenCut (Wang et al. 2022) on the maps of any frozen network. Differs from the paper: ties fall
smoothly with the angle between features, and the border rule takes the place of the rule by the largest entry. A cut
errs on single photographs; the head learns what the foregrounds have in common.
"""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.linalg import eigh
from torch import Tensor

from gsegkit.context import RunContext
from gsegkit.dataset import UnlabelledImages
from gsegkit.errors import MissingDependencyError
from gsegkit.interfaces import PhotographSegmenter
from gsegkit.refining import Predictor, Refine
from gsegkit.training import off_the_border
from gsegkit_baselines.base import FOREGROUND, Mask
from gsegkit_baselines.clusters import varied
from gsegkit_baselines.config import NCutHeadConfig
from gsegkit_baselines.features import FeatureSegmenter, at
from gsegkit_baselines.linear import regression


class NCutHead(FeatureSegmenter, PhotographSegmenter):
    """The foreground by what the cuts of all photographs have in common; no label of these photographs is used."""

    config: NCutHeadConfig
    learns_from = "photographs"

    def __init__(self, config: NCutHeadConfig) -> None:
        super().__init__(config)
        if config.grabcut and find_spec("cv2") is None:
            raise MissingDependencyError(
                "ncut-head with grabcut needs the package 'cv2', which is not installed",
                "pip install 'gsegkit-baselines[grabcut]', or -o seg.grabcut=false",
            )

    def fit_photographs(self, images: UnlabelledImages, ctx: RunContext) -> None:
        """See `PhotographSegmenter.fit_photographs`.

        Raises:
            DataError: there is no photograph, or each is of one colour.
        """
        self.build(0, 0)
        self.to(ctx.device)
        points, truth, weights = [], [], []
        for pixels in varied(images, self.config.num_images, ctx, "normalised cuts"):
            maps = self.maps(pixels)
            inside, sure = self.cut(maps)
            points.append(at(maps, _places(self.config.grid)))
            truth.append(inside.flatten())
            weights.append(sure.flatten() / max(float(sure.mean()), 1e-12))
        labels = np.concatenate(truth).astype(np.uint8)
        slopes, offsets = regression(
            np.concatenate(points), labels, len(FOREGROUND), self.config.penalty, np.concatenate(weights)
        )
        self.classes = FOREGROUND
        self.take(slopes, offsets)

    def cut(self, maps: list[Tensor]) -> tuple[Mask, NDArray[np.float64]]:
        """The normalised cut of one photograph: foreground [g, g] bool, and how sure it is, [g, g] >= 0."""
        side = self.config.grid
        vectors = torch.cat([F.normalize(F.interpolate(m, (side, side), mode="area"), dim=1) for m in maps], dim=1)[0]
        rows = F.normalize(vectors.flatten(1).T, dim=1).double()
        weights = np.exp(self.config.sharpness * ((rows @ rows.T).numpy() - 1))
        root = 1 / np.sqrt(weights.sum(axis=1))
        _, found = eigh(np.eye(len(weights)) - root[:, None] * weights * root[None], subset_by_index=[1, 1])
        second = (found[:, 0] * root).reshape(side, side)
        second = second - second.mean()
        return off_the_border(second > 0), np.abs(second)

    def probs(self, pixels: Tensor, refine: Refine = ()) -> Tensor:
        """See `Segmenter.probs`; 0 or 1 after GrabCut."""
        if refine or not self.config.grabcut:
            return super().probs(pixels, refine)
        from gsegkit_baselines.cut import from_mask  # wants OpenCV

        masks = Predictor(_Head(self)).label(pixels).masks.cpu().numpy() == 1
        found = [
            torch.from_numpy(from_mask(p, m, self.config.rounds)) for p, m in zip(pixels.cpu(), masks, strict=True)
        ]
        inside = torch.stack(found).float().to(self.device)
        return torch.stack([1 - inside, inside], dim=1)

    @property
    def one_view(self) -> bool:
        """See `Segmenter.one_view`."""
        return not self.config.grabcut


class _Head:
    """The head without GrabCut."""

    def __init__(self, segmenter: NCutHead) -> None:
        self.segmenter, self.classes = segmenter, FOREGROUND

    def probs(self, pixels: Tensor) -> Tensor:
        return FeatureSegmenter.probs(self.segmenter, pixels)


def _places(side: int) -> Tensor:
    """Centres of a grid's cells as `at` takes them, [side * side, 2]."""
    centres = (torch.arange(side) + 0.5) / side * 2 - 1
    rows, columns = torch.meshgrid(centres, centres, indexing="ij")
    return torch.stack([columns.flatten(), rows.flatten()], dim=1)
