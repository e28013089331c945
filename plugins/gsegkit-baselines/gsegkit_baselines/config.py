"""Options of the baselines. Imports no torch."""

from __future__ import annotations

from pydantic import Field

from gsegkit.config import Config


class OtsuConfig(Config):
    """Options of the segmenter `otsu`: none."""


class TwoMeansConfig(Config):
    """Options of the segmenter `two-means`."""

    pixels: int = Field(65_536, ge=2, description="of a photograph that the clusters are found on, at most")
    seed: int = Field(0, ge=0, description="of the first centres and of the choice of pixels")
