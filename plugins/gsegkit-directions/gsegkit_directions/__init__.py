"""Segments any generator's images by two latent directions (Melas-Kyriazi et al.), and by colour maps (Voynov et al.)."""

from __future__ import annotations

from gsegkit.plugins import Component, hookimpl


@hookimpl
def gsegkit_components() -> list[Component]:
    """The components of this plugin."""
    return []
