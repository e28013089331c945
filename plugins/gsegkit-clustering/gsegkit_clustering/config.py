"""Options of the clustering extractors. Imports neither torch nor scikit-learn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from gsegkit.clustering.config import ClusterConfig

#: The published setting of k-means and KASP: every pixel of 256 maps of 256 x 256, too many for memory.
_ALL_PIXELS = {"min_scale": 0.0, "num_images": 256, "resolution": 256, "pixels_per_image": None, "storage": "disk"}

_K = "number of clusters; paper 20, 26 and 30 for faces"


class KMeansClusterConfig(ClusterConfig):
    """Options of the extractor `kmeans`."""

    profiles: ClassVar[Mapping[str, Mapping[str, Any]]] = {"paper": {**_ALL_PIXELS, "k": 30}}

    profile: Literal["default", "paper"] = Field(
        "default", description="set of defaults: for a laptop, or those of the paper"
    )
    k: int = Field(10, ge=2, le=255, description=_K)
    metric: Literal["euclidean", "arccos"] = Field(
        "euclidean", description="distance of points, or angle between them (spherical k-means)"
    )


class AhcConfig(ClusterConfig):
    """Options of the extractor `ahc`."""

    profiles: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {  # of the published code; the paper's text has 16 images
            "min_scale": 0.0,
            "num_images": 32,
            "resolution": 64,
            "pixels_per_image": None,
            "max_levels": 100,
            "k": 30,
            "optimizer": "adam",
            "decay": 1e-3,
        }
    }

    profile: Literal["default", "paper"] = Field(
        "default", description="set of defaults: for a laptop, or those of the paper"
    )
    k: int = Field(10, ge=2, le=255, description=_K)
    metric: Literal["ward", "arccos", "euclidean"] = Field(
        "ward", description="ward, or average linkage of angles between points (arccos) or of distances (euclidean)"
    )
    max_levels: int = Field(30, ge=2, le=255, description="cuts into 2 .. this many clusters are kept; paper 100")
    pixels_per_image: int | None = Field(
        24, ge=1, description="random pixels of each image; null = all of them. Time and memory grow with the square"
    )
    memory_mib: int = Field(
        2048, ge=1, description="maximum memory for the points and their distances (8 bytes x points squared)"
    )
    optimizer: Literal["lbfgs", "adam"] = Field(
        "lbfgs", description="of the classifiers: run to the optimum, or the paper's 1,000 steps of Adam"
    )
    decay: float = Field(
        0.01, ge=0, description="weight of the mean squared weight; lbfgs: for points of mean length 1. paper 1e-3"
    )

    @model_validator(mode="after")
    def _check(self) -> AhcConfig:
        if self.k > self.max_levels:
            raise ValueError(f"k={self.k} is more than max_levels={self.max_levels}: raise max_levels or lower k")
        return self


class KaspConfig(ClusterConfig):
    """Options of the extractor `kasp`."""

    profiles: ClassVar[Mapping[str, Mapping[str, Any]]] = {"paper": {**_ALL_PIXELS, "k": 30}}
    renamed: ClassVar[Mapping[str, str]] = {
        **ClusterConfig.renamed,
        "centroids": "k0",
        "n_neighbors": "num_neighbours",
    }

    profile: Literal["default", "paper"] = Field(
        "default", description="set of defaults: for a laptop, or those of the paper"
    )
    k: int = Field(10, ge=2, le=255, description=_K)
    k0: int = Field(100, ge=4, le=2000, description="k-means clusters that are grouped; paper 100")
    num_neighbours: int = Field(
        3, ge=2, description="nearest centres (including itself) that a centre is linked to; paper 3"
    )

    @model_validator(mode="after")
    def _check(self) -> KaspConfig:
        if self.k >= self.k0:
            raise ValueError(f"k={self.k} clusters cannot be made of k0={self.k0} initial ones: raise k0")
        if self.num_neighbours > self.k0:
            raise ValueError(f"num_neighbours={self.num_neighbours} is more than k0={self.k0}")
        return self
