"""Options of the built-in k-means. Imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from gsegkit.config import Config


class KMeansConfig(Config):
    """Options of the k-means backend `torch`."""

    iterations: int = Field(100, ge=1, le=10_000, description="most Lloyd iterations of one start")
    tol: float = Field(
        1e-4, ge=0, description="stop when squared centre shift <= tol * mean feature variance; 0 = never"
    )
    num_starts: int = Field(1, ge=1, le=100, description="independent starts; the one of least inertia is returned")
    init: Literal["k-means++", "random"] = Field("k-means++", description="first centres: greedy k-means++, or points")
    init_points: int = Field(32_768, ge=1, description="random points that k-means++ looks at; at least one per centre")
    init_trials: int | None = Field(None, ge=1, le=64, description="candidates per centre; None = 2 + ln(k), greedy")
    chunk_mib: int = Field(64, ge=1, le=65_536, description="MiB of temporary memory; results differ by rounding only")
