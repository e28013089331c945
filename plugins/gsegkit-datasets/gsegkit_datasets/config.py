"""Options of the dataset readers. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from gsegkit.config import Config
from gsegkit.reading.scaling import AUTO, check_scaling


def _scaling(text: str) -> str:
    return text if text == AUTO else check_scaling(text)


class FolderConfig(Config):
    """Options of the dataset reader `folder`."""

    images: str | None = Field(None, description="sub-folder of the images; None = images/ if there is one, else all")
    masks: str | None = Field(None, description="sub-folder of the masks; None = masks/, else files with the suffix")
    mask_suffix: str = Field("_mask", min_length=1, description="end of a mask's stem when both lie in one folder")
    annotations: str | None = Field(
        None, description="file of COCO annotations below the folder; None = the only one there, if there are no masks"
    )
    values: Literal["auto", "index", "binary"] = Field("auto", description="what masks store; see the README's rule")
    scaling: Annotated[str, AfterValidator(_scaling)] = Field(
        AUTO,
        description="how more than 8 bits become 8 bits: percentile (0.1 to 99.9), percentile:LOW:HIGH, full, "
        "range:LOW:HIGH; auto = as generator or segmenter learned it, else percentile",
    )
    classes: tuple[str, ...] | None = Field(
        None, description="class names from 0 on; None = those of classes.yaml or .txt"
    )
    max_classes: int = Field(
        64, ge=2, le=255, description="most classes allowed without names; more are probably grey levels"
    )
