"""Options of the dataset readers. Imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from gsegkit.config import Config


class FolderConfig(Config):
    """Options of the dataset reader `folder`."""

    images: str | None = Field(None, description="sub-folder of the images; None = images/ if there is one, else all")
    masks: str | None = Field(None, description="sub-folder of the masks; None = masks/, else files with the suffix")
    mask_suffix: str = Field("_mask", min_length=1, description="end of a mask's stem when both lie in one folder")
    values: Literal["auto", "index", "binary"] = Field("auto", description="what masks store; see the README's rule")
    classes: tuple[str, ...] | None = Field(
        None, description="class names from 0 on; None = those of classes.yaml or .txt"
    )
    max_classes: int = Field(
        64, ge=2, le=255, description="most classes allowed without names; more are probably grey levels"
    )
