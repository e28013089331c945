"""Options of the StyleGAN2 trainer. Light: no torch here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from gsegkit.config import Config

Augment = Literal["blit", "geometry", "colour"]
AUGMENTS: tuple[Augment, ...] = ("blit", "geometry", "colour")


class TrainOptions(Config):
    """How a StyleGAN2 is trained; unused when weights are only loaded."""

    renamed: ClassVar[Mapping[str, str]] = {"batch": "batch_size"}

    kimg: float = Field(200, gt=0, le=1e6, description="thousands of real images shown to the discriminator")
    batch_size: int = Field(16, ge=2, le=4096, description="images per step")
    lr_generator: float = Field(2.5e-3, gt=0, le=1, description="Adam's learning rate, generator")
    lr_discriminator: float = Field(2.5e-3, gt=0, le=1, description="Adam's learning rate, discriminator")
    r1_gamma: float = Field(
        0.2, ge=0, le=1e4, description="weight of the R1 penalty; 0.0002 R^2 / batch x 16 fits most"
    )
    r1_interval: int = Field(16, ge=1, le=1024, description="steps between two R1 penalties (lazy)")
    path_weight: float = Field(0.0, ge=0, le=100, description="weight of the path-length penalty, 0 = off, paper 2")
    path_interval: int = Field(4, ge=1, le=1024, description="steps between two path-length penalties (lazy)")
    style_mixing: float = Field(0.0, ge=0, le=1, description="share of samples that mix two latents, paper 0.9")
    ema_kimg: float = Field(5.0, ge=0, le=1e4, description="half-life of the weight average, thousand images")
    ema_rampup: float = Field(0.05, ge=0, le=1, description="the half-life is at most this share of the images shown")
    ada_target: float = Field(0.6, ge=0, lt=1, description="target of the overfitting signal r_t, 0 = no augmentation")
    ada_kimg: float = Field(100.0, gt=0, le=1e5, description="thousand images in which p may go from 0 to 1")
    ada_interval: int = Field(4, ge=1, le=1024, description="steps between two changes of p")
    ada_start: float = Field(0.0, ge=0, le=0.8, description="p at the start")
    augment: tuple[Augment, ...] = Field(AUGMENTS, description="kinds of augmentation")
    mirror: Literal["none", "x", "xy"] = Field("none", description="flip half of the real images along these axes")
    fit: Literal["squash", "crop", "pad"] = Field("squash", description="how photographs become square")
    grow_from: int = Field(0, ge=0, le=1024, description="first resolution of a growing training, 0 = no growing")
    grow_kimg: float = Field(25.0, gt=0, le=1e5, description="thousand images at each lower resolution")
    train_dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="dtype of the activations; auto: bfloat16 on a GPU, float32 on a CPU"
    )
    record_steps: bool = Field(
        True, description="on a GPU: record a step's kernels once and replay them (CUDA graph), for small networks"
    )
    snapshot_kimg: float = Field(10.0, gt=0, le=1e5, description="thousand images between two sample grids")

    @model_validator(mode="after")
    def _check_growth(self) -> TrainOptions:
        if self.grow_from and (self.grow_from < 8 or self.grow_from & (self.grow_from - 1)):
            raise ValueError(f"grow_from must be 0 or a power of two from 8 up, got {self.grow_from}")
        return self
