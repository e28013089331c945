"""k-means, agglomerative and KASP clustering of a generator's pixels: KLiSH's baselines."""

from __future__ import annotations

from gsegkit.plugins import Component, hookimpl

KLISH = "Xu, Zhang and Hu 2022, KLiSH, Table IV"


@hookimpl
def gsegkit_components() -> list[Component]:
    """The components of this plugin."""
    return [
        Component(
            kind="extractor",
            name="kmeans",
            target="gsegkit_clustering.kmeans:KMeansExtractor",
            config="gsegkit_clustering.config:KMeansClusterConfig",
            kit="gsegkit_clustering.kit:KMEANS",
            summary="k-means clustering of a generator's pixels, Euclidean or by angle",
            paper=f"Arthur and Vassilvitskii 2007, k-means++; as baseline: {KLISH}",
            requires=("features",),
        ),
        Component(
            kind="extractor",
            name="ahc",
            target="gsegkit_clustering.ahc:AhcExtractor",
            config="gsegkit_clustering.config:AhcConfig",
            kit="gsegkit_clustering.kit:AHC",
            summary="agglomerative clustering (ward, by angle, Euclidean) with a linear classifier for each cut",
            paper=f"Ward 1963; Murtagh and Contreras 2012; as baseline: {KLISH}",
            requires=("features",),
            modules=("sklearn",),
        ),
        Component(
            kind="extractor",
            name="kasp",
            target="gsegkit_clustering.kasp:KaspExtractor",
            config="gsegkit_clustering.config:KaspConfig",
            kit="gsegkit_clustering.kit:KASP",
            summary="spectral clustering of k-means centres (KASP)",
            paper=f"Yan, Huang and Jordan 2009, Fast approximate spectral clustering; as baseline: {KLISH}",
            requires=("features",),
            modules=("sklearn",),
        ),
    ]
