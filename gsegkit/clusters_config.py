"""Options of extractors that cluster pixels. Imports no torch."""

from __future__ import annotations

from pydantic import Field

from gsegkit.features_config import FeatureConfig


class ClusterConfig(FeatureConfig):
    """Options that every clustering extractor has."""

    k: int | None = Field(None, ge=2, le=255, description="number of clusters; null = the method's own choice")
    kmeans: str = Field("auto", description="k-means backend; auto = faiss when it is installed, else torch")
