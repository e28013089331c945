"""Options of everything that reads a generator's features pixel by pixel. Imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from gsegkit.config import Config


class FeatureConfig(Config):
    """Which features are read, and of how many pixels."""

    layers: tuple[str, ...] = Field((), description="feature maps by name; empty = the paper's rule (from shapes)")
    max_channels: int = Field(1000, ge=1, description="the rule stops before more channels than this")
    min_scale: float = Field(
        0.5, ge=0, le=1, description="and at maps smaller than this share of the image, which tell place, not part"
    )
    images: int = Field(256, ge=1, description="generated images that are looked at; paper 256")
    resolution: int = Field(256, ge=4, description="longer side of the map that pixels are taken from; paper 256")
    pixels_per_image: int | None = Field(
        256, ge=1, description="random pixels of each image; null = all of them, as in the paper"
    )
    dtype: Literal["float32", "float16", "bfloat16"] = Field("float32", description="how points are stored")
    storage: Literal["memory", "disk"] = Field("memory", description="disk: points are mapped from a file of the run")
    memory_mib: int = Field(2048, ge=1, description="most memory for the points; more is refused, not swapped")
