"""Options of the refiners. Imports neither torch, SciPy nor kornia."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from gsegkit.config import Config


class AreaConfig(Config):
    """Options of the refiner `area`."""

    profiles: ClassVar[Mapping[str, Mapping[str, Any]]] = {"paper": {"min": 0.0, "max": 0.5}}

    profile: Literal["default", "paper"] = Field("default", description="paper = the released code's window, 0 to 0.5")
    min: float = Field(0.01, ge=0, le=1, description="minimum foreground share of the scored pixels, inclusive")
    max: float = Field(0.8, ge=0, le=1, description="maximum foreground share, inclusive")

    @model_validator(mode="after")
    def _ordered(self) -> AreaConfig:
        if self.min > self.max:
            raise ValueError(f"min ({self.min}) must not exceed max ({self.max})")
        return self


class ComponentsConfig(Config):
    """Options of the refiner `components`."""

    share: float = Field(0.2, ge=0, lt=1, description="pieces larger than this share of the largest piece are kept")
    per: Literal["foreground", "class"] = Field("foreground", description="pieces of the foreground, or of each class")
    connectivity: Literal[4, 8] = Field(8, description="neighbours of a pixel: 8 with the diagonals, 4 without")
    dropped: Literal["background", "ignore"] = Field("background", description="what dropped pixels become: 0 or 255")


class ChangeConfig(Config):
    """Options of the refiner `change`."""

    renamed: ClassVar[Mapping[str, str]] = {"pictures": "unedited"}

    rule: Literal["contrast", "histogram"] = Field("contrast", description="strict rule, or the papers' 12-bin rule")
    min_contrast: float = Field(0.05, ge=0, description="contrast rule: minimum score `contrast`, if there is one")
    min_std: float = Field(0.02, ge=0, le=1, description="contrast rule: minimum std of an image's luma, in 0..1")
    max_saturated: float = Field(0.9, ge=0, le=1, description="contrast rule: maximum share of values at 0 or 255")
    min_peaks: int = Field(2, ge=1, le=12, description="histogram rule: minimum number of maxima")
    unedited: bool = Field(
        False, description="histogram rule: if the extractor gives no score, use the unedited images"
    )


class ConfidenceConfig(Config):
    """Options of the refiner `confidence`."""

    threshold: float = Field(0.6, ge=0, le=1, description="pixels whose highest probability is lower become 255")
    max_ignored: float = Field(0.5, ge=0, le=1, description="images with a larger share of 255 are dropped")


class HolesConfig(Config):
    """Options of the refiner `holes`."""

    share: float = Field(0.05, ge=0, le=1, description="holes up to this share of the image's foreground are filled")


class GuidedConfig(Config):
    """Options of the refiner `guided`."""

    radius: int = Field(4, ge=1, le=64, description="half side of the filter's window in pixels")
    eps: float = Field(1e-3, gt=0, le=1, description="variance (colours in 0..1) below which a window counts as flat")
    colour: bool = Field(True, description="use the edges of all three channels; false = of the luma, in half the time")


class VoynovConfig(Config):
    """Options of the refiner `voynov`."""

    profiles: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "strict": {"min_area": 0.01, "combined": True, "blank": True},
    }

    profile: Literal["default", "strict"] = Field("default", description="default = as released; strict = ours")
    share: float = Field(0.2, ge=0, lt=1, description="pieces larger than this share of the largest piece are kept")
    min_area: float = Field(0.0, ge=0, le=1, description="minimum foreground share; as released an empty mask passes")
    max_area: float = Field(0.5, ge=0, le=1, description="maximum foreground share; raise it for large objects")
    min_peaks: int = Field(2, ge=1, le=12, description="minimum number of maxima in the edited image's histogram")
    combined: bool = Field(False, description="also check the mask if the extractor scores both directions' masks")
    blank: bool = Field(False, description="also drop blank, saturated and unchanged images")
    min_contrast: float = Field(0.05, ge=0, description="with blank: minimum score `contrast`")

    @model_validator(mode="after")
    def _ordered(self) -> VoynovConfig:
        if self.min_area > self.max_area:
            raise ValueError(f"min_area ({self.min_area}) must not exceed max_area ({self.max_area})")
        return self


class ColoursConfig(Config):
    """Options of the refiner `colours`; the defaults are one choice for six development sets."""

    rounds: int = Field(5, ge=1, le=50, description="EM rounds")
    weight: float = Field(1.3, ge=0, le=10, description="exponent of the colours' likelihood; 0 = the prior alone")
    components: int = Field(1, ge=1, le=8, description="Gaussians of each class")
    floor: float = Field(0.1, ge=0, lt=1, description="share of the prior that knows only how frequent each class is")
    spread: float = Field(2.0, gt=0, le=50, description="least standard deviation of a class's colours, in Lab units")
    smooth: float = Field(
        0.0, ge=0, le=16, description="sigma that softens the prior first, in pixels of the working size; 0 = none"
    )
    mass: float = Field(3.0, ge=1, description="a class's area may change by at most this factor")
    coupling: float = Field(10.0, ge=0, le=100, description="weight of the neighbours' opinion, in nats; 0 = none")
    radius: int = Field(2, ge=1, le=8, description="half side of the neighbourhood, in pixels of the working size")
    side: int = Field(64, ge=16, le=4096, description="longer side at which colours and neighbours are looked at")
