"""Masks of any generator's images by two latent directions (Melas-Kyriazi et al.) or colour maps (Voynov et al.)."""

from __future__ import annotations

from typing import Any

from gsegkit.plugins import Component, hookimpl


@hookimpl
def gsegkit_components() -> list[Component]:
    """The components of this plugin."""
    return [
        Component(
            kind="extractor",
            name="directions",
            target="gsegkit_directions.directions:Directions",
            config="gsegkit_directions.config:DirectionsConfig",
            kit="gsegkit_directions.kit:DIRECTIONS",
            summary="foreground: what two latent directions lighten and darken against its surroundings",
            paper="Melas-Kyriazi et al., Finding an Unsupervised Image Segmenter in Each of Your Deep Generative "
            "Models, ICLR 2022, arXiv:2105.08127",
            requires=("latent-grad",),
        ),
        Component(
            kind="extractor",
            name="colour-maps",
            target="gsegkit_directions.colour_maps:ColourMaps",
            config="gsegkit_directions.config:ColourMapsConfig",
            kit="gsegkit_directions.kit:COLOUR_MAPS",
            summary="foreground: the pixels that one of two colour maps explains; ranks directions, needs no gradients",
            paper="Voynov et al., Object Segmentation Without Labels with Large-Scale Generative Models, ICML 2021, "
            "arXiv:2006.04988",
        ),
        Component(
            kind="segmenter",
            name="unet-paper",
            target="gsegkit_directions.unet:UnetPaper",
            config="gsegkit_directions.config_unet:UnetPaperConfig",
            kit="gsegkit_directions.kit:UNET_PAPER",
            summary="the U-Net of both papers, with their training as profiles",
            paper="Ronneberger et al., U-Net, MICCAI 2015, arXiv:1505.04597",
        ),
    ]


@hookimpl
def gsegkit_commands(app: Any) -> None:
    """`gsegkit directions score`."""
    from gsegkit_directions.command import directions

    app.add_typer(directions)
