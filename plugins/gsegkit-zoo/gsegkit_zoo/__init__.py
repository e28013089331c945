"""Small generator weights for gsegkit, trained by its own trainers, and photographs to try them on."""

from __future__ import annotations

from gsegkit.plugins import Component, hookimpl


@hookimpl
def gsegkit_components() -> list[Component]:
    """The components of this plugin."""
    return [
        Component(
            kind="weights",
            name="blood-cells-64",
            target="gsegkit_zoo.weights:BloodCells64",
            summary="StyleGAN2, 64 x 64: single stained white blood cells among red cells",
            licence="CC-BY-4.0",
        ),
        Component(
            kind="weights",
            name="blood-cells-128",
            target="gsegkit_zoo.weights:BloodCells128",
            summary="StyleGAN2, 128 x 128: the same photographs of blood cells",
            licence="CC-BY-4.0",
        ),
        Component(
            kind="weights",
            name="coffee-leaf-64",
            target="gsegkit_zoo.weights:CoffeeLeaf64",
            summary="StyleGAN2, 64 x 64: coffee leaves with symptoms, squashed from 2:1 photographs",
            licence="MIT",
        ),
        Component(
            kind="weights",
            name="lpc-64",
            target="gsegkit_zoo.weights:Lpc64",
            summary="StyleGAN2, 64 x 64: small drawn figures (Liberated Pixel Cup) on textures",
            licence="CC-BY-SA-3.0",
        ),
        Component(
            kind="weights",
            name="portraits-64",
            target="gsegkit_zoo.weights:Portraits64",
            summary="StyleGAN2, 64 x 64: portraits (photographs, engravings, paintings), mostly grey",
            licence="public domain as far as known",
        ),
        Component(
            kind="weights",
            name="portraits-128",
            target="gsegkit_zoo.weights:Portraits128",
            summary="StyleGAN2, 128 x 128: the same portraits, trained at this size for a short time",
            licence="public domain as far as known",
        ),
        Component(
            kind="samples",
            name="blood-cells",
            target="gsegkit_zoo.samples:BloodCells",
            summary="24 stained blood cells, 240 x 240, that no generator of the zoo has seen",
            licence="CC-BY-4.0",
        ),
        Component(
            kind="samples",
            name="portraits",
            target="gsegkit_zoo.samples:Portraits",
            summary="24 portraits, 128 x 128, of those that portraits-64 was trained on",
            licence="public domain as far as known",
        ),
    ]
