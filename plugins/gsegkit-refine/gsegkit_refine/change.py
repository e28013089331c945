"""Refiner `change`: did the edit change the picture, and is there a picture at all?"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from gsegkit.errors import CapabilityError
from gsegkit.images import to_images
from gsegkit.interfaces import Refiner
from gsegkit.types import LabelledBatch
from gsegkit_refine.config import ChangeConfig

BINS = 12  # Voynov et al. and Melas-Kyriazi et al., released code
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


class Change(Refiner):
    """Drops pictures that the edit did not change.

    Rule "contrast" drops a picture whose score `contrast` is too low (only when the extractor gives that score),
    whose luma hardly varies, or whose values are almost all at the ends of the range.
    Rule "histogram" is that of the papers' code: it wants two or more maxima in a coarse histogram of the edited
    picture. It drops unimodal pictures; a blank one has many equal maxima and passes.
    """

    config: ChangeConfig

    def refine(self, batch: LabelledBatch) -> LabelledBatch:
        """Drop rows by the chosen rule."""
        rule = self._by_histogram if self.config.rule == "histogram" else self._by_contrast
        return batch.keep(rule(batch))

    def _by_histogram(self, batch: LabelledBatch) -> Tensor:
        peaks = batch.scores.get("histogram_peaks")
        if peaks is None and self.config.pictures:
            peaks = histogram_peaks(to_images(batch.pixels))
        if peaks is None:
            raise CapabilityError(
                "the extractor provides no score 'histogram_peaks' (maxima in the histogram of its edited image)",
                "-o refine.change.rule=contrast, or -o refine.change.pictures=true for the unedited images",
            )
        return peaks >= self.config.min_peaks

    def _by_contrast(self, batch: LabelledBatch) -> Tensor:
        pixels = batch.pixels
        weights = torch.tensor(LUMA, device=pixels.device).view(1, 3, 1, 1)
        luma = (pixels * (weights / 255)).sum(dim=1).flatten(1)  # [N,H*W] in 0..1
        saturated = ((pixels == 0) | (pixels == 255)).flatten(1).float().mean(dim=1)
        deviation = (luma - luma.mean(dim=1, keepdim=True)).square().mean(dim=1).sqrt()
        kept = (deviation >= self.config.min_std) & (saturated <= self.config.max_saturated)
        if "contrast" in batch.scores:
            kept &= batch.scores["contrast"] >= self.config.min_contrast
        return kept


def histogram_peaks(images: Tensor) -> Tensor:
    """Maxima of the coarse histogram of each image: [N, 3, H, W] float32 -> [N] float32.

    All channel values go into 12 bins on [-1, 1], values outside are left out; the counts are smoothed by a box of
    width 3 with zeros beyond the ends; a bin counts as a maximum when neither neighbour is greater.
    """
    counts = [torch.histc(image.float().cpu(), bins=BINS, min=-1, max=1) for image in images]
    if not counts:
        return torch.zeros(0, device=images.device)
    padded = F.pad(torch.stack(counts).double(), (1, 1))
    smooth = F.pad(padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:], (1, 1), value=-1.0)
    inner = smooth[:, 1:-1]
    peaks = (inner >= smooth[:, :-2]) & (inner >= smooth[:, 2:])
    return peaks.sum(dim=1).float().to(images.device)
