"""k-means, agglomerative and KASP clustering of a generator's pixels: KLiSH's baselines."""

from __future__ import annotations

from gsegkit.plugins import Component, hookimpl


@hookimpl
def gsegkit_components() -> list[Component]:
    """The components of this plugin."""
    return []
