"""The extractor `native`: takes the masks that the generator itself emits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gsegkit.config import Config
from gsegkit.context import RunContext
from gsegkit.dataset import UnlabelledImages
from gsegkit.errors import CapabilityError
from gsegkit.interfaces import Generator, MaskExtractor
from gsegkit.types import GeneratedBatch, MaskBatch


class Native(MaskExtractor):
    """Reads `batch.probs` of a generator with capability `masks` (layered generators, the toy)."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.classes = ()

    def facts(self) -> dict[str, Any]:
        """The class names."""
        return {"classes": list(self.classes)}

    def restore(self, facts: Mapping[str, Any]) -> None:
        """Take the class names back."""
        self.classes = tuple(facts["classes"])

    def fit(self, generator: Generator, ctx: RunContext, *, images: UnlabelledImages | None = None) -> None:
        """Nothing to learn: note the generator's class names."""
        if not generator.info.mask_classes:
            raise _no_masks(type(generator).__name__)
        self.classes = generator.info.mask_classes

    def extract(self, batch: GeneratedBatch, generator: Generator) -> MaskBatch:
        """The batch's own probabilities; score `coverage` is the share of the image that is not class 0."""
        if batch.probs is None:
            raise _no_masks(type(generator).__name__)
        return MaskBatch(batch.probs, {"coverage": 1 - batch.probs[:, 0].mean(dim=(1, 2))})


def _no_masks(name: str) -> CapabilityError:
    return CapabilityError(
        f"extractor 'native' needs a generator that emits masks, and {name} does not",
        "choose an extractor that finds them: gsegkit list",
    )
