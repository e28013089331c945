"""Refiner `voynov`: the refinement that Voynov et al. and Melas-Kyriazi et al. share, in one."""

from __future__ import annotations

from gsegkit.errors import CapabilityError
from gsegkit.interfaces import Refiner
from gsegkit.types import LabelledBatch
from gsegkit_refine.area import Area
from gsegkit_refine.change import Change
from gsegkit_refine.components import Components
from gsegkit_refine.config import AreaConfig, ChangeConfig, ComponentsConfig, VoynovConfig

EACH = ("coverage_light", "coverage_dark")  # scores: areas of the two directions' own masks, small pieces taken out


class Voynov(Refiner):
    """Small pieces go, then images with too large a mask, then images whose histogram has one peak.

    As released, a mask made from two directions is not checked itself: the areas that count are those of the two
    directions' own masks, and an empty or a blank image passes. Profile `strict` checks the mask too, requires a
    minimum area, and drops blank, saturated and unchanged images.
    """

    config: VoynovConfig

    def __init__(self, config: VoynovConfig) -> None:
        super().__init__(config)
        self.components = Components(ComponentsConfig(share=config.share))
        self.histogram = Change(ChangeConfig(rule="histogram", min_peaks=config.min_peaks))
        self.area = Area(AreaConfig(min=config.min_area, max=config.max_area))
        self.blank = Change(ChangeConfig(rule="contrast", min_contrast=config.min_contrast))

    def refine(self, batch: LabelledBatch) -> LabelledBatch:
        """Clean the masks, then drop rows.

        Raises:
            CapabilityError: the extractor gives no score `histogram_peaks`.
        """
        batch = self.components.refine(batch)
        if self.config.combined or not set(EACH) <= set(batch.scores):
            batch = self.area.refine(batch)
        for name in EACH:
            if name in batch.scores:
                batch = batch.keep(batch.scores[name] <= self.config.max_area)
        if "histogram_peaks" not in batch.scores:
            raise CapabilityError(
                "the extractor provides no score 'histogram_peaks' (maxima in the histogram of its edited image)",
                "use the extractors directions or colour-maps, or the refiners components, area and change instead",
            )
        batch = self.histogram.refine(batch)
        return self.blank.refine(batch) if self.config.blank else batch
