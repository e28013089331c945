"""Options of the extractor `my-extractor`. Imported by `gsegkit show`: keep torch out of here."""

from __future__ import annotations

from typing import ClassVar

from gsegkit.config import Config
from gsegkit.testing.settings import KitSettings
from pydantic import Field


class MyExtractorConfig(Config):
    """Options of the extractor `my-extractor`."""

    # brightness alone reaches 0.1 to 0.2 on the toy: raise the floor to what your method reaches over several seeds
    kit: ClassVar[KitSettings] = KitSettings(iou_floor=0.05)

    num_samples: int = Field(default=64, ge=1, description="generated images to learn from")
    sharpness: float = Field(default=10.0, gt=0, description="slope of the probability at the threshold")
