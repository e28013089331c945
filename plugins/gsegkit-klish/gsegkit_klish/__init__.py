"""KLiSH for gsegkit: parts of a generator's images, found by linear separability."""

from __future__ import annotations

from gsegkit.plugins import Component, hookimpl


@hookimpl
def gsegkit_components() -> list[Component]:
    """The extractor `klish`."""
    return [
        Component(
            kind="extractor",
            name="klish",
            target="gsegkit_klish.klish:Klish",
            config="gsegkit_klish.config:KlishConfig",
            kit="gsegkit_klish.kit:SETTINGS",
            summary="fine parts: k-means clusters of pixels, merged by linear separability",
            paper="arXiv:2211.16710",
            licence="Apache-2.0",
            requires=("features",),
        ),
    ]
