"""Options of the painters. Light: no torch here."""

from __future__ import annotations

from pydantic import Field

from gsegkit.config import Config


class ClassAdaptiveConfig(Config):
    """Options of the painter `class-adaptive`."""

    latent_dim: int = Field(32, ge=1, le=512, description="numbers in one latent")
    width: int = Field(16, ge=2, le=256, description="channels at full size; they double at each halving of the side")
    width_max: int = Field(128, ge=2, le=1024, description="upper limit of the channels")

    steps: int = Field(10_000, ge=1, le=10_000_000, description="training steps")
    batch_size: int = Field(16, ge=2, le=1024, description="pairs in a step; below 8, batch normalisation gets rough")
    lr: float = Field(2e-4, gt=0, le=1, description="learning rate of the painter")
    lr_discriminator: float = Field(4e-4, gt=0, le=1, description="learning rate of the discriminators")
    ema_decay: float = Field(0.999, ge=0, lt=1, description="decay of the averaged weights, which are the result")
    statistics_batches: int = Field(
        30, ge=1, le=1000, description="batches on which the averaged weights' batch statistics are measured in the end"
    )

    discriminator_width: int = Field(32, ge=2, le=256, description="channels of the discriminators' first layer")
    discriminator_layers: int = Field(3, ge=2, le=5, description="layers of a discriminator before its score")
    feature_matching: float = Field(10.0, ge=0, le=1000, description="weight of the discriminators' inner maps")
    perceptual: float = Field(2.0, ge=0, le=1000, description="weight of each map of the run's segmenter; 0 = none")

    flip: bool = Field(False, description="mirror half of the pairs; only where no class has a side")
    simplify: float = Field(
        0.25, ge=0, le=1, description="share of the masks that are smoothed, since masks drawn by hand are smooth"
    )
