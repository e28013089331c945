"""The extractor `my-extractor` for gsegkit. Imported for every `gsegkit list`: keep torch out of here."""

from __future__ import annotations

from collections.abc import Iterable

from gsegkit.plugins import Component, hookimpl


@hookimpl
def gsegkit_components() -> Iterable[Component]:
    """The components of this plugin."""
    return [
        Component(
            kind="extractor",
            name="my-extractor",
            target="gsegkit_my_extractor.my_extractor:MyExtractor",
            config="gsegkit_my_extractor.config:MyExtractorConfig",
            summary="one line for gsegkit list",
            paper="",  # citation or URL
        ),
    ]
