"""Layered GANs: background, object and mask are painted apart (Yang et al.; Bielski and Favaro)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gsegkit.plugins import Component, hookimpl


@hookimpl
def gsegkit_components() -> Iterable[Component]:
    """The two generators."""
    return [
        Component(
            kind="generator",
            name="layered",
            target="gsegkit_layered.generator:Layered",
            config="gsegkit_layered.config:LayeredConfig",
            kit="gsegkit_layered.kit:LAYERED",
            summary="GAN that paints background, object and mask: trains on a folder of photographs, emits its masks",
            paper="Yang et al., Learning Foreground-Background Segmentation from Improved Layered GANs, WACV 2022",
            provides=("latent-grad", "features", "feature-edit", "masks", "classes", "trainable", "weights"),
        ),
        Component(
            kind="generator",
            name="perturbgan",
            target="gsegkit_layered.generator:PerturbGAN",
            config="gsegkit_layered.config:PerturbGANConfig",
            kit="gsegkit_layered.kit:PERTURBGAN",
            summary="layered GAN that avoids trivial masks by moving the object and by a minimum mask size",
            paper="Bielski and Favaro, Emergence of Object Segmentation in Perturbed Generative Models, NeurIPS 2019",
            provides=("latent-grad", "features", "feature-edit", "masks", "trainable", "weights"),
        ),
    ]


@hookimpl
def gsegkit_commands(app: Any) -> None:
    """`gsegkit layered cluster`."""
    from gsegkit_layered.command import layered

    app.add_typer(layered)
