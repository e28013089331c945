"""Options of the segmenter `unet-paper`. Light: no torch here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from gsegkit.config import Config

#: Voynov et al. and Melas-Kyriazi et al., as their papers say.
_PAPER = {
    "channels": 64,
    "steps": 12_000,
    "batch_size": 95,
    "lr": 1e-3,
    "decay_at": 2 / 3,  # step 8,000
    "decay_factor": 0.2,
    "flip": 0.0,
}
#: The released code of Melas-Kyriazi et al.: longer, and its decay counts epochs of 2,000 steps, so it never comes.
_REFERENCE = {**_PAPER, "steps": 18_000, "batch_size": 128, "decay_factor": 1.0}


class UnetPaperConfig(Config):
    """Options of the segmenter `unet-paper`."""

    renamed: ClassVar[Mapping[str, str]] = {"amp": "dtype"}

    profiles: ClassVar[Mapping[str, Mapping[str, Any]]] = {"paper": _PAPER, "reference": _REFERENCE}

    profile: Literal["default", "paper", "reference"] = Field(
        "default", description="default = 64 px images on 2 CPU cores; the papers' training; their released code's"
    )
    channels: int = Field(16, ge=1, le=256, description="width of the first stage; the papers' is 64")
    steps: int = Field(600, ge=1, description="optimiser steps")
    batch_size: int = Field(32, ge=2, description="images per step; fewer if the data set is smaller")
    lr: float = Field(2e-3, gt=0, le=1, description="Adam's learning rate")
    decay_at: float = Field(2 / 3, gt=0, le=1, description="share of the steps after which the rate drops")
    decay_factor: float = Field(0.2, gt=0, le=1, description="factor of the rate at that point; 1 = constant")
    flip: float = Field(0.5, ge=0, le=1, description="probability of a left-right flip; the papers do not augment")
    dtype: Literal["float32", "bfloat16"] = Field(
        "float32", description="of the activations in training; bfloat16: mixed precision, for GPUs"
    )

    @field_validator("dtype", mode="before")
    @classmethod
    def _dtype(cls, dtype: Any) -> Any:
        return {"off": "float32", "bf16": "bfloat16", "fp16": "float16"}.get(dtype, dtype)  # runs stored before
