"""Options of everything that reads a generator's features pixel by pixel. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, Self

from pydantic import Field

from gsegkit.config import Available, Config


class FeatureConfig(Config):
    """Which features are read, and of how many pixels."""

    renamed: ClassVar[Mapping[str, str]] = {"images": "num_images"}

    layers: tuple[str, ...] = Field((), description="feature maps by name; empty = the paper's rule (from shapes)")
    max_channels: int = Field(1000, ge=1, description="the rule stops before more channels than this")
    min_size: int | None = Field(
        32, ge=1, description="and at maps whose shorter side has fewer pixels than this; null = no floor in pixels"
    )
    min_scale: float = Field(
        0.5, ge=0, le=1, description="but maps of at least this share of the image are read at any size; 0 = all maps"
    )
    mirrored: Literal["none", "auto", "x", "y", "xy"] = Field(
        "none",
        description="axes along which half of the training photographs were flipped: by them position is taken out of "
        "the features; auto = as the generator says; none = position stays",
    )
    position_grid: int = Field(16, ge=2, le=64, description="mean features are compared on this many places squared")
    position_rank: int | None = Field(
        None, ge=0, description="directions of the features taken out as position; null = those that repeat"
    )
    num_images: int = Field(256, ge=1, description="generated images whose pixels are clustered; paper 256")
    resolution: int = Field(256, ge=4, description="longer side of the map that pixels are taken from; paper 256")
    pixels_per_image: int | None = Field(
        256, ge=1, description="random pixels of each image; null = all of them, as in the paper"
    )
    dtype: Literal["float32", "float16", "bfloat16"] = Field("float32", description="how points are stored")
    storage: Literal["memory", "disk"] = Field("memory", description="disk: points are mapped from a file of the run")
    memory_mib: int = Field(2048, ge=1, description="maximum memory for the points; more is refused")


class ClusterConfig(FeatureConfig):
    """Options that every clustering extractor has."""

    k: int | None = Field(None, ge=2, le=255, description="number of clusters; null = the method's own choice")
    kmeans: str = Field("auto", description="k-means backend; auto = faiss when it is installed, else torch")
    scale_points: int = Field(2048, ge=1, description="points on which the steepness of the probabilities is fitted")
    scale_range: tuple[float, float] = Field(
        (0.125, 8.0), description="and its limits: clusters that are perfectly separable would make it infinite"
    )
    coarse_max: int = Field(8, ge=2, le=255, description="most clusters of the coarse cut, which is for showing")
    coarse_share: float = Field(
        0.0, ge=0, lt=1, description="every cluster of the coarse cut covers at least this share of the pixels"
    )

    def resolved(self, available: Available) -> Self:
        """With the backend written out."""
        return self.model_copy(update={"kmeans": choose_backend(self.kmeans, available)})


def choose_backend(name: str, available: Available) -> str:
    """`auto` becomes `faiss` when its plugin and library are there, else `torch`; other names stay."""
    if name != "auto":
        return name
    return "faiss" if "faiss" in available("kmeans") else "torch"


class KMeansConfig(Config):
    """Options of the k-means backend `torch`."""

    iterations: int = Field(100, ge=1, le=10_000, description="maximum number of Lloyd iterations per start")
    tol: float = Field(
        1e-4, ge=0, description="stop when squared centre shift <= tol * mean feature variance; 0 = never"
    )
    num_starts: int = Field(
        1, ge=1, le=100, description="independent starts; the one with the lowest inertia is returned"
    )
    init: Literal["k-means++", "random"] = Field("k-means++", description="first centres: greedy k-means++, or points")
    init_points: int = Field(32_768, ge=1, description="random points that k-means++ reads; at least one per centre")
    init_trials: int | None = Field(None, ge=1, le=64, description="candidates per centre; None = 2 + ln(k), greedy")
    chunk_mib: int = Field(64, ge=1, le=65_536, description="MiB of temporary memory; results differ by rounding only")
