"""Generators `selfcondgan` and `uncondgan` for gsegkit, and readers of the files that others trained."""

from __future__ import annotations

from gsegkit.plugins import Component, hookimpl

_PROVIDES = ("latent-grad", "features", "feature-edit", "weights")
_PAPER = "Liu et al., Diverse Image Generation via Self-Conditioned GANs, CVPR 2020, arXiv:2006.10728"


@hookimpl
def gsegkit_components() -> list[Component]:
    """The components of this plugin."""
    return [
        Component(
            kind="generator",
            name="selfcondgan",
            target="gsegkit_selfcondgan.selfcondgan:SelfCondGAN",
            config="gsegkit_selfcondgan.config:SelfCondGANConfig",
            kit="gsegkit_selfcondgan.kit:SELFCONDGAN",
            summary="self-conditioned GAN: classes found by clustering, drawn by their sizes, for existing weights",
            paper=_PAPER,
            provides=(*_PROVIDES, "classes"),
        ),
        Component(
            kind="generator",
            name="uncondgan",
            target="gsegkit_selfcondgan.selfcondgan:UncondGAN",
            config="gsegkit_selfcondgan.config:UncondGANConfig",
            kit="gsegkit_selfcondgan.kit:UNCONDGAN",
            summary="the same network without classes, for existing weights",
            paper=_PAPER,
            provides=_PROVIDES,
        ),
        _reader("selfcondgan", "SelfCondGANReader", "self-conditioned-gan with classes, and its clusterer"),
        _reader("uncondgan", "UncondGANReader", "self-conditioned-gan without classes"),
    ]


def _reader(name: str, cls: str, summary: str) -> Component:
    return Component(
        kind="checkpoint-reader",
        name=name,
        target=f"gsegkit_selfcondgan.readers:{cls}",
        kit=f"gsegkit_selfcondgan.kit:{name.upper()}_READER",
        summary=summary,
    )
