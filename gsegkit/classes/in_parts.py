"""A segmenter of many clusters, looked at as a few parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gsegkit.classes.match import predicted_clusters
from gsegkit.classes.targets import coarse_parts
from gsegkit.interfaces import MaskExtractor, Segmenter

if TYPE_CHECKING:
    from torch import Tensor


class InParts:
    """Adds a segmenter's clusters up to those of the extractor's cut for showing; the fine ones stay to be named.

    Attributes:
        classes: "background", "part 1", "part 2" ...
    """

    def __init__(self, segmenter: Segmenter, extractor: MaskExtractor) -> None:
        """Raises ConfigError when the segmenter's classes are not the extractor's clusters."""
        cut, parts, small = coarse_parts(extractor)
        found = predicted_clusters(segmenter.classes, extractor, None, cut)
        order = [found.clusters.index((cluster,)) for cluster in (*parts, *small)]
        self._segmenter, self._part = segmenter, [order.index(group) for group in found.group]
        self.classes = ("background", *(f"part {i}" for i in range(1, len(order))))

    def probs(self, pixels: Tensor) -> Tensor:
        """Probabilities of the parts: [N, 3, H, W] uint8 -> [N, K, H, W] float32."""
        probs = self._segmenter.probs(pixels)
        parts = probs.new_zeros(len(probs), len(self.classes), *probs.shape[2:])
        return parts.index_add_(1, probs.new_tensor(self._part).long(), probs)


def can_be_in_parts(segmenter: Segmenter, extractor: MaskExtractor) -> bool:
    """Whether its classes are clusters without names, more than the cut for showing has."""
    if tuple(segmenter.classes) != tuple(extractor.classes) or len(extractor.levels) < 2:
        return False
    return coarse_parts(extractor)[0] < len(extractor.classes)
