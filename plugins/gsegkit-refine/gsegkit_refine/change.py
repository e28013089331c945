"""Refiner `change`: did the edit change the image, and is there an image at all?"""

from __future__ import annotations

from torch import Tensor

from gsegkit.errors import CapabilityError
from gsegkit.images import LUMA, histogram_peaks, luma, to_images
from gsegkit.interfaces import Refiner
from gsegkit.types import LabelledBatch
from gsegkit_refine.config import ChangeConfig

LUMA_OF_PIXELS = tuple(weight / 255 for weight in LUMA)  # uint8 -> 0..1


class Change(Refiner):
    """Drops images that the edit did not change.

    Rule "contrast" drops an image whose score `contrast` is too low (only when the extractor gives that score),
    whose luma hardly varies, or whose values are almost all at the ends of the range.
    Rule "histogram" is that of the papers' code: it requires two or more maxima in a coarse histogram of the edited
    image. It drops unimodal images; a blank one has many equal maxima and passes.
    """

    config: ChangeConfig

    def refine(self, batch: LabelledBatch) -> LabelledBatch:
        """Drop rows by the chosen rule."""
        rule = self._by_histogram if self.config.rule == "histogram" else self._by_contrast
        return batch.keep(rule(batch))

    def _by_histogram(self, batch: LabelledBatch) -> Tensor:
        peaks = batch.scores.get("histogram_peaks")
        if peaks is None and self.config.unedited:
            peaks = histogram_peaks(to_images(batch.pixels))
        if peaks is None:
            raise CapabilityError(
                "the extractor provides no score 'histogram_peaks' (maxima in the histogram of its edited image)",
                "-o refine.change.rule=contrast, or -o refine.change.unedited=true for the unedited images",
            )
        return peaks >= self.config.min_peaks

    def _by_contrast(self, batch: LabelledBatch) -> Tensor:
        pixels = batch.pixels
        grey = luma(pixels, LUMA_OF_PIXELS).flatten(1)  # [N,H*W] in 0..1
        saturated = ((pixels == 0) | (pixels == 255)).flatten(1).float().mean(dim=1)
        deviation = (grey - grey.mean(dim=1, keepdim=True)).square().mean(dim=1).sqrt()
        kept = (deviation >= self.config.min_std) & (saturated <= self.config.max_saturated)
        if "contrast" in batch.scores:
            kept &= batch.scores["contrast"] >= self.config.min_contrast
        return kept
