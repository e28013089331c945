"""Painters for gsegkit: a mask and a latent in, a picture out."""

from __future__ import annotations

from collections.abc import Iterable

from gsegkit.plugins import Component, hookimpl


@hookimpl
def gsegkit_components() -> Iterable[Component]:
    """The painters of this plugin."""
    return [
        Component(
            kind="painter",
            name="class-adaptive",
            target="gsegkit_spade.class_adaptive:ClassAdaptivePainter",
            config="gsegkit_spade.config:ClassAdaptiveConfig",
            kit="gsegkit_spade.kit:SETTINGS",
            summary="a scale and a shift for each class; learns through the run's own segmenter",
            paper="after Park et al., SPADE, CVPR 2019, arXiv:1903.07291, and Tan et al., CLADE, arXiv:2012.04644",
        )
    ]
