"""The extractor `my-extractor`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from gsegkit.context import RunContext
from gsegkit.dataset import UnlabelledImages
from gsegkit.interfaces import Generator, MaskExtractor
from gsegkit.types import GeneratedBatch, MaskBatch
from torch import Tensor

from gsegkit_my_extractor.config import MyExtractorConfig


class MyExtractor(MaskExtractor):
    """Takes what is lighter than the generator's mean brightness; replace fit() and extract() by your method."""

    config: MyExtractorConfig
    threshold: Tensor

    def __init__(self, config: MyExtractorConfig) -> None:
        super().__init__(config)
        self.classes = ()
        self.register_buffer("threshold", torch.zeros(()))  # tensors are stored by themselves ...

    def facts(self) -> dict[str, Any]:
        """... and what is not a tensor is stored from here."""
        return {"classes": list(self.classes)}

    def restore(self, facts: Mapping[str, Any]) -> None:
        """Take back what facts() gave."""
        self.classes = tuple(facts["classes"])

    def fit(self, generator: Generator, ctx: RunContext, *, images: UnlabelledImages | None = None) -> None:
        """See `MaskExtractor.fit`."""
        means = []
        for seeds in ctx.batches("fit", self.config.num_samples):
            ctx.check_stop()
            means.append(generator.sample(seeds).images.mean(dim=(1, 2, 3)))
        self.threshold = torch.cat(means).mean()
        self.classes = ("background", "object")

    def extract(self, batch: GeneratedBatch, generator: Generator) -> MaskBatch:
        """See `MaskExtractor.extract`."""
        brightness = batch.images.detach().mean(dim=1)  # [N,H,W]
        inside = torch.sigmoid(self.config.sharpness * (brightness - self.threshold))
        probs = torch.stack([1 - inside, inside], dim=1)  # [N,2,H,W]
        return MaskBatch(probs, {"coverage": inside.mean(dim=(1, 2))})
