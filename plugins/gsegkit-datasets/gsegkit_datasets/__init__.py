"""Readers of image folders with and without masks for gsegkit."""

from __future__ import annotations

from gsegkit.plugins import Component, hookimpl


@hookimpl
def gsegkit_components() -> list[Component]:
    """The components of this plugin."""
    return [
        Component(
            kind="dataset",
            name="folder",
            target="gsegkit_datasets.folder:FolderReader",
            config="gsegkit_datasets.config:FolderConfig",
            summary="plain folders: images, or images and masks of the same stem",
        )
    ]
