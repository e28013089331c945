"""Runs of gsegkit as jobs of a SLURM cluster, through submitit."""

from __future__ import annotations

from gsegkit.plugins import Component, hookimpl


@hookimpl
def gsegkit_components() -> list[Component]:
    """The components of this plugin."""
    return [
        Component(
            kind="launcher",
            name="slurm",
            target="gsegkit_slurm.launcher:Slurm",
            config="gsegkit_slurm.config:SlurmConfig",
            kit="gsegkit_slurm.kit:SETTINGS",
            summary="jobs of a SLURM cluster: an array makes the pairs, pre-empted jobs go on by themselves",
            modules=("submitit",),
            extra="gsegkit-slurm",
        )
    ]
