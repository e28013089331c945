"""Common ground of the baselines: what is stored beside the tensors, and answers photograph by photograph."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import kornia
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import StrictInt, StrictStr
from torch import Tensor

from gsegkit.context import RunContext
from gsegkit.dataset import UnlabelledImages
from gsegkit.errors import CapabilityError
from gsegkit.interfaces import PhotographSegmenter, Segmenter
from gsegkit.records.files import Record
from gsegkit.refining import Predictor, Refine, check_photographs

FOREGROUND: tuple[str, ...] = ("background", "foreground")
ANY_SIZE = (256, 256)  # train_size of what works at each photograph's own size
Mask = NDArray[np.bool_]


class Known(Record):
    """What is stored of a fitted baseline beside its tensors."""

    classes: tuple[StrictStr, ...]
    train_size: tuple[StrictInt, StrictInt]
    fit_rule: StrictStr
    labels_used: tuple[StrictStr, ...] = ()


class Baseline(Segmenter):
    """Stores classes, sizes and whose labels were used.

    Attributes:
        pretrained: whose labels a pretrained network in it learned from; "" = none.
    """

    pretrained: str = ""

    @property
    def labels_consumed(self) -> str:
        """See `Segmenter.labels_consumed`."""
        own = [f"{len(self.labels_used)} annotated photographs"] if self.labels_used else []
        if self.learns_from == "labels" and not own:  # fitted by `run` or `train`, which know what the masks are
            own = ["those of the masks that it was given"]
        return ", ".join([*own, *([self.pretrained] if self.pretrained else [])]) or "none"

    def facts(self) -> dict[str, Any]:
        """See `ModulePart.facts`; {} before it is fitted."""
        if not getattr(self, "classes", ()):
            return {}
        known = Known(
            classes=self.classes, train_size=self.train_size, fit_rule=self.fit_rule, labels_used=self.labels_used
        )
        return known.model_dump(mode="json")

    def restore(self, facts: Mapping[str, Any]) -> None:
        """See `ModulePart.restore`."""
        if facts:
            known = Known.parse(dict(facts), Path("component.json"))
            self.classes, self.train_size, self.fit_rule = known.classes, known.train_size, known.fit_rule
            self.labels_used = known.labels_used


class EachPhotograph(Baseline, PhotographSegmenter):
    """Finds the foreground of every photograph by itself, at its own size; learns nothing."""

    learns_from = "nothing"
    exportable = False
    classes: tuple[str, ...] = FOREGROUND
    train_size: tuple[int, int] = ANY_SIZE
    fit_rule = "native"

    @abstractmethod
    def foreground(self, pixels: Tensor) -> Mask:
        """[3, H, W] uint8 -> [H, W] bool."""

    def fit_photographs(self, images: UnlabelledImages, ctx: RunContext) -> None:
        """Nothing is learned."""

    def probs(self, pixels: Tensor, refine: Refine = ()) -> Tensor:
        """See `Segmenter.probs`: 0 or 1."""
        if refine:
            return Predictor(self, refine)(pixels)
        check_photographs(pixels)
        found = [torch.from_numpy(np.ascontiguousarray(self.foreground(one))).float() for one in pixels.cpu()]
        inside = torch.stack(found) if found else pixels.new_zeros(0, *pixels.shape[2:], dtype=torch.float32)
        return torch.stack([1 - inside, inside], dim=1)

    def logits(self, images: Tensor) -> Tensor:
        """Refused."""
        raise CapabilityError(
            f"{type(self).__name__} decides every photograph by itself and has no logits", "use probs(pixels)"
        )


def lab(pixels: Tensor) -> Tensor:
    """[..., 3, H, W] uint8 -> CIE Lab, float32."""
    return kornia.color.rgb_to_lab(pixels.float() / 255)
