"""KLiSH: clusters of a generator's pixels by linear separability (Xu et al.), exact and incremental."""

from __future__ import annotations

from gsegkit.plugins import Component, hookimpl


@hookimpl
def gsegkit_components() -> list[Component]:
    """The components of this plugin."""
    return []
