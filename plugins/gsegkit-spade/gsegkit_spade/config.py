"""Options of the painters. Light: no torch here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from gsegkit.config import Config


class PainterConfig(Config):
    """Options that all painters of this plugin have."""

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
    perceptual: float = Field(2.0, ge=0, le=1000, description="weight of each map of the run's segmenter; 0 = none")

    colour_styles: bool = Field(
        True,
        description="train with the colours of a true picture's classes as latent; false = drawn, or an encoder's",
    )
    flip: bool = Field(False, description="mirror half of the pairs; only where no class has a side")
    simplify: float = Field(
        0.25, ge=0, le=1, description="share of the masks that are smoothed, since masks drawn by hand are smooth"
    )


class PatchConfig(PainterConfig):
    """Options of painters that learn from two patch discriminators."""

    discriminator_layers: int = Field(3, ge=2, le=5, description="layers of a discriminator before its score")
    feature_matching: float = Field(10.0, ge=0, le=1000, description="weight of the discriminators' inner maps")


class ClassAdaptiveConfig(PatchConfig):
    """Options of the painter `class-adaptive`; defaults for a short training on a CPU."""

    steps: int = Field(1_500, ge=1, le=10_000_000, description="training steps")
    batch_size: int = Field(8, ge=2, le=1024, description="pairs in a step; below 8, batch normalisation gets rough")
    lr: float = Field(1e-3, gt=0, le=1, description="learning rate of the painter")
    lr_discriminator: float = Field(1e-3, gt=0, le=1, description="learning rate of the discriminators")
    feature_matching: float = Field(3.0, ge=0, le=1000, description="weight of the discriminators' inner maps")


_PUBLISHED_NETWORK = {"layout": "published", "hidden": 128, "width": 64, "width_max": 1024}
_PUBLISHED_TRAINING = {"lr": 1e-4, "lr_discriminator": 4e-4, "simplify": 0.0, "flip": True, "colour_styles": False}
_LAYOUT = "short = one block a size, from about 4 px; published = from a 32nd of the side, with more blocks there"


class SpadeConfig(PatchConfig):
    """Options of the painter `spade`."""

    profiles: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {
            **_PUBLISHED_NETWORK, **_PUBLISHED_TRAINING, "latent_dim": 256, "encoder": True, "perceptual": 10.0,
            "batch_size": 32, "steps": 62_500, "ema_decay": 0.0, "discriminator_width": 64, "discriminator_layers": 4,
        }
    }  # fmt: skip

    profile: Literal["default", "paper"] = Field(
        "default", description="paper = the published network, encoder and losses; it needs perceptual_weights"
    )
    hidden: int = Field(32, ge=2, le=512, description="channels between the mask and the scales and shifts")
    layout: Literal["short", "published"] = Field("short", description=_LAYOUT)
    encoder: bool = Field(False, description="train with an encoder of the true pictures, as a variational autoencoder")
    kl: float = Field(0.05, ge=0, le=100, description="weight of the encoder's distance from a normal distribution")
    perceptual_weights: str | None = Field(
        None, description="file with torchvision's vgg19 weights to compare pictures through; None = run's segmenter"
    )

    @model_validator(mode="after")
    def _perceptual_term_is_chosen(self) -> Self:
        if self.profile == "paper" and self.perceptual and self.perceptual_weights is None:
            raise ValueError(
                "the profile paper compares pictures through VGG-19: give perceptual_weights=PATH, or perceptual=0"
            )
        return self


class OasisConfig(PainterConfig):
    """Options of the painter `oasis`."""

    profiles: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {
            **_PUBLISHED_NETWORK, **_PUBLISHED_TRAINING, "latent_dim": 64, "start": "labels", "perceptual": 0.0,
            "batch_size": 32, "steps": 100_000, "ema_decay": 0.9999, "discriminator_width": 128,
            "discriminator_width_max": 512,
        }
    }  # fmt: skip

    profile: Literal["default", "paper"] = Field(
        "default", description="paper = the published network, without the run's segmenter"
    )
    hidden: int = Field(32, ge=2, le=512, description="channels between the mask and the scales and shifts")
    layout: Literal["short", "published"] = Field("short", description=_LAYOUT)
    start: Literal["labels", "both"] = Field(
        "both", description="what the coarsest map is made of: labels = mask and noise; both = the latent adds its own"
    )
    discriminator_width_max: int = Field(128, ge=2, le=1024, description="upper limit of the discriminator's channels")
    label_mix: float = Field(10.0, ge=0, le=1000, description="weight of the consistency of mixed pictures; 0 = none")


class _ReaderConfig(Config):
    """What a file of weights does not say."""

    classes: str | None = Field(None, description="text file with a class name a line; None = class-0, class-1 ...")
    licence: str = Field("", max_length=500, description="licence of the weights; empty = as known of their source")
    crop_size: int | None = Field(None, ge=8, le=4096, description="width of the pictures; None = as opt.txt says")
    aspect_ratio: float | None = Field(
        None, ge=0.1, le=10, description="width by height of the pictures; None = as opt.txt says, or 1"
    )


class SpadeReaderConfig(_ReaderConfig):
    """Options of the reader `spade`."""

    num_upsampling_layers: Literal["normal", "more", "most"] | None = Field(
        None, description="as it was trained with; None = as opt.txt beside it says"
    )
    unknown: Literal["first", "last", "none"] | None = Field(
        None, description="which channel of the mask is that of unknown pixels; None = as opt.txt says, or none"
    )
    edges: bool | None = Field(
        None, description="whether the mask's last channel marks edges; None = as opt.txt says, or not"
    )


class OasisReaderConfig(_ReaderConfig):
    """Options of the reader `oasis`."""

    noise: int | None = Field(None, ge=0, le=4096, description="channels of noise; None = as opt.txt says, or 64")
    unknown: Literal["first", "last", "none"] = Field(
        "first", description="which channel of the mask is that of unknown pixels"
    )
