"""Options of the extractors `directions` and `colour-maps`. Light: no torch here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from gsegkit.config import Config

#: What the released code of Melas-Kyriazi et al. does, value for value.
_REFERENCE = {
    "reading": "code",
    "edge_weight": 10.0,
    "prior_weight": 2.0,  # +2 for the light direction, -2 for the dark one
    "steps": 300,
    "batch_size": 32,
    "lr": 5e-3,
    "schedule": "constant",
    "shift": 2.0,
    "jitter": 0.5,
    "mask_shift": 5.0,
    "shift_unit": "absolute",
    "layers": "own",
    "unit_over": "first",
    "clamp": False,
    "max_edge_change": None,
    "level": "zero",
}
#: Eq. 1 as printed with lambda = 5; epsilon, steps, batch and lr are lost in the text: those of the released code.
_PAPER = {
    **_REFERENCE,
    "reading": "printed",
    "edge_weight": 1.0,
    "prior_weight": 5.0,
    "jitter": 0.0,  # the paper's epsilon is one number
    "unit_over": "all",  # and its v a unit vector
}


class DirectionsConfig(Config):
    """Options of the extractor `directions`."""

    renamed: ClassVar[Mapping[str, str]] = {"batch": "batch_size"}

    profiles: ClassVar[Mapping[str, Mapping[str, Any]]] = {"paper": _PAPER, "reference": _REFERENCE}

    profile: Literal["default", "paper", "reference"] = Field(
        "default", description="default = ours, paper = Eq. 1 as printed, reference = all values of the released code"
    )
    mask: Literal["both", "light", "dark"] = Field("both", description="light against dark (Eq. 2), or one (Eq. 3)")

    reading: Literal["relative", "code", "printed"] = Field(
        "relative", description="Eq. 1 as printed, as coded, or as coded and relative to the images' own edges"
    )
    edge_weight: float = Field(1.0, ge=0, description="weight of the edges' change, L_s")
    prior_weight: float = Field(0.4, gt=0, description="lambda, weight of the contrast between middle and border, L_c")

    steps: int = Field(100, ge=1, description="optimiser steps; both directions are found at once")
    batch_size: int = Field(16, ge=1, description="new latents per step")
    lr: float = Field(0.06, gt=0, description="Adam's learning rate")
    schedule: Literal["cosine", "constant"] = Field("cosine", description="how the learning rate falls")

    shift: float = Field(0.19, gt=0, description="epsilon during the search, see shift_unit")
    jitter: float = Field(0.0, ge=0, description="standard deviation of epsilon, drawn for each number of the latent")
    mask_shift: float = Field(0.46, gt=0, description="epsilon of the images that masks are made from")
    shift_unit: Literal["spread", "absolute"] = Field(
        "spread", description="unit of the shifts: mean distance of a latent from the mean latent, or 1"
    )
    layers: Literal["shared", "own"] = Field(
        "shared", description="latents with one row per layer (W+): one direction for all layers, or one for each"
    )
    unit_over: Literal["all", "first"] = Field(
        "all", description="norm 1 over the whole direction, or along its first axis (over layers in W+)"
    )

    clamp: bool = Field(True, description="clamp images to [-1, 1], so that invisible changes gain nothing")
    max_edge_change: float | None = Field(
        0.5, gt=0, description="stop a direction that changes more than this share of the edges' energy; null = never"
    )
    max_saturated: float = Field(
        0.5, gt=0, le=1, description="refuse directions that drive more than this share of the values to black or white"
    )

    level: Literal["otsu", "zero"] = Field(
        "otsu", description="difference of luma above which a pixel is foreground: Otsu's of each image, or 0"
    )
    max_level: float = Field(
        0.02, ge=0, le=2, description="otsu: a greater difference than this, of [-1, 1], is foreground in any case"
    )
    sharpness: float = Field(20.0, gt=0, description="steepness of the probability over that difference")

    @model_validator(mode="after")
    def _check_norm(self) -> DirectionsConfig:
        if self.unit_over == "first" and self.layers == "shared":
            raise ValueError("unit_over=first divides along the layers, which then need layers=own")
        return self


class ColourMapsConfig(Config):
    """Options of the extractor `colour-maps`."""

    renamed: ClassVar[Mapping[str, str]] = {"images": "num_images", "fit_images": "num_fit_images"}

    #: Voynov et al., directions_scoring.py: two maps by gradient descent.
    profiles: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "reference": {"solver": "adam", "mask_shift": 5.0, "shift_unit": "absolute", "rank_by": "residual", "window": 1}
    }

    profile: Literal["default", "reference"] = Field(
        "default", description="default = ours, reference = values of the released code of Voynov et al."
    )
    direction: str = Field("auto", min_length=1, description="auto = the best candidate, or a file of directions score")
    num_random: int = Field(32, ge=0, le=4096, description="random candidates")
    num_coordinates: int = Field(
        512, ge=0, le=4096, description="maximum number of candidates along single latent coordinates"
    )
    num_pca: int = Field(16, ge=0, le=4096, description="candidates along principal components of the latents")
    mask_shift: float = Field(0.46, gt=0, description="how far the images are shifted, see shift_unit")
    shift_unit: Literal["spread", "absolute"] = Field(
        "spread", description="unit of the shift: mean distance of a latent from the mean latent, or 1"
    )
    rank_by: Literal["split", "residual"] = Field(
        "split",
        description="split: error that the second map removes, relative to what both leave; residual: as released",
    )
    num_images: int = Field(16, ge=2, le=4096, description="images that a candidate is ranked on")
    num_fit_images: int = Field(
        128, ge=2, le=65536, description="images that the chosen direction's maps are fitted to"
    )
    solver: Literal["alternate", "adam"] = Field(
        "alternate", description="alternate: assign pixels, least squares, repeat; adam: as released"
    )
    adam_steps: int = Field(200, ge=1, description="steps of 4 images, for solver=adam")
    window: int = Field(3, ge=1, le=31, description="side of the box over which errors are averaged for the mask; odd")
