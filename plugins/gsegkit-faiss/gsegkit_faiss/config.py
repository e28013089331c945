"""Options of the k-means backend `faiss`. Imports neither torch nor faiss."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from gsegkit.config import Config


class FaissConfig(Config):
    """Options of the k-means backend `faiss`."""

    iterations: int = Field(
        25, ge=1, le=10_000, description="Lloyd iterations of one start; faiss always runs all of them"
    )
    num_starts: int = Field(
        1, ge=1, le=100, description="independent starts; the one with the lowest inertia is returned"
    )
    init: Literal["k-means++", "random"] = Field(
        "k-means++", description="the core's greedy k-means++, or random points"
    )
    max_points_per_centroid: int | None = Field(
        None, ge=1, description="random points per centre (faiss's own default: 256); None = all"
    )
    device: Literal["auto", "cpu", "gpu"] = Field("auto", description="auto = a GPU if faiss can use one")
    threads: int | None = Field(None, ge=1, le=1024, description="CPU threads; None = as many as torch, 1 on macOS")
