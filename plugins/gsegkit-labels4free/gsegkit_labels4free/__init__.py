"""Foreground masks of StyleGAN2 images by an alpha network on frozen features (Labels4Free, Abdal et al.)."""

from __future__ import annotations

from gsegkit.plugins import Component, hookimpl


@hookimpl
def gsegkit_components() -> list[Component]:
    """The extractor `labels4free`."""
    return [
        Component(
            kind="extractor",
            name="labels4free",
            target="gsegkit_labels4free.labels4free:Labels4Free",
            config="gsegkit_labels4free.config:Labels4FreeConfig",
            kit="gsegkit_labels4free.kit:SETTINGS",
            summary="foreground: what an alpha network keeps when objects are pasted onto other backgrounds",
            paper="Abdal et al., Labels4Free: Unsupervised Segmentation Using StyleGAN, ICCV 2021, arXiv:2103.14968",
            requires=("features", "feature-edit"),
        ),
    ]
