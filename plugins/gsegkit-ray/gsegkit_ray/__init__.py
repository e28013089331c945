"""Runs of gsegkit on a Ray cluster."""

from __future__ import annotations

from gsegkit.plugins import Component, hookimpl


@hookimpl
def gsegkit_components() -> list[Component]:
    """The components of this plugin."""
    return [
        Component(
            kind="launcher",
            name="ray",
            target="gsegkit_ray.launcher:Ray",
            config="gsegkit_ray.config:RayConfig",
            kit="gsegkit_ray.kit:SETTINGS",
            summary="processes on a Ray cluster; workers that are lost are replaced",
            paper="Moritz et al. 2018, Ray: A Distributed Framework for Emerging AI Applications, arXiv:1712.05889",
            modules=("ray",),
            extra="gsegkit-ray",
        )
    ]
