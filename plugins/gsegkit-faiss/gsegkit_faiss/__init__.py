"""faiss as a k-means backend of gsegkit."""

from __future__ import annotations

from gsegkit.plugins import Component, hookimpl


@hookimpl
def gsegkit_components() -> list[Component]:
    """The components of this plugin."""
    return [
        Component(
            kind="kmeans",
            name="faiss",
            target="gsegkit_faiss.kmeans:FaissKMeans",
            config="gsegkit_faiss.config:FaissConfig",
            summary="faiss: fast k-means for millions of points, on the CPU or one NVIDIA GPU",
            paper="Douze et al. 2024, The Faiss library, arXiv:2401.08281",
            modules=("faiss",),
            extra="gsegkit-faiss[cpu]",
        )
    ]
