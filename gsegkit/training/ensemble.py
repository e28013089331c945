"""The papers' ensemble: the mean of the logits of segmenters that were trained on different masks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gsegkit.errors import ConfigError
from gsegkit.interfaces import Segmenter

LEAST = 1e-9  # probabilities below this count as this; a logarithm needs something


class Ensemble:
    """Predicts with several segmenters at once; what evaluators take as `predict`.

    Example:
        >>> both = Ensemble([gsegkit.load("runs/light"), gsegkit.load("runs/dark")])  # doctest: +SKIP
        >>> report = evaluator.evaluate(both, test_set, ctx)  # doctest: +SKIP
    """

    def __init__(self, segmenters: Sequence[Segmenter]) -> None:
        if not segmenters:
            raise ConfigError("an ensemble without segmenters", "give two or more")
        self.segmenters = tuple(segmenters)
        self.classes = segmenters[0].classes
        for segmenter in self.segmenters:
            if segmenter.classes != self.classes:
                raise ConfigError(
                    f"segmenters of the classes {self.classes} and {segmenter.classes} cannot be averaged",
                    "train them on the same classes",
                )

    def __call__(self, pixels: Tensor) -> Tensor:
        """[N, 3, H, W] uint8 -> probabilities [N, K, H, W] float32.

        The logarithm of a softmax differs from its logits by one number a pixel, which the next softmax takes out.
        """
        logs = [segmenter.probs(pixels).clamp_min(LEAST).log() for segmenter in self.segmenters]
        return torch.stack(logs).mean(dim=0).softmax(dim=1)
