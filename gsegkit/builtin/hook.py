"""The parts that come with the core, registered through the same hook as every plugin's."""

from __future__ import annotations

from collections.abc import Iterable

from gsegkit.plugins import Component, hookimpl


@hookimpl
def gsegkit_components() -> Iterable[Component]:
    """The toy generator, the extractor of native masks, k-means in torch, and processes of this machine."""
    return [
        Component(
            kind="generator",
            name="toy",
            target="gsegkit.builtin.toy:Toy",
            config="gsegkit.builtin.config:ToyConfig",
            summary="images drawn by formulas, with exact masks, for trying and testing methods",
            provides=("latent-grad", "features", "feature-edit", "masks", "classes", "truth"),
        ),
        Component(
            kind="extractor",
            name="native",
            target="gsegkit.builtin.native:Native",
            summary="the masks that the generator itself emits",
            requires=("masks",),
        ),
        Component(
            kind="kmeans",
            name="torch",
            target="gsegkit.clustering.kmeans:TorchKMeans",
            config="gsegkit.clustering.config:KMeansConfig",
            summary="k-means in torch, in chunks, on CPU and GPU",
        ),
        Component(
            kind="launcher",
            name="local",
            target="gsegkit.launching.local:Local",
            config="gsegkit.launching.config:LocalConfig",
            kit="gsegkit.testing.builtin:LOCAL",
            summary="several processes of this machine",
        ),
    ]
