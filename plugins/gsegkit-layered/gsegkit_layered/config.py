"""Options of the generators `layered` and `perturbgan`. Light: no torch here.

Where a value of the paper is lost in its text, the comment says where ours comes from: [code] of FineGAN, PerturbGAN or
ILSGAN (the successor by the same authors), [derived] from numbers that did survive, [guess].
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from gsegkit.config import Config


@dataclass(frozen=True)
class Widths:
    """Channels of the networks.

    Attributes:
        channels: of both trunks, from 4 px up to the image.
        parent: maps that the mask is read from.
        child: maps that the object's colours are read from.
        residuals: residual blocks in each of the two stages.
        discriminator: of the discriminator, from the image down to 4 px.
        top: of the discriminator's last convolution.
    """

    channels: tuple[int, ...]
    parent: int
    child: int
    residuals: int
    discriminator: tuple[int, ...]
    top: int


#: Network and image side -> channels.
WIDTHS: Mapping[str, Mapping[int, Widths]] = {
    # FineGAN's [code]: 1024 maps at 4 px, halved down to 64; below 128 px the last level is left out
    "paper": {
        32: Widths((512, 256, 128, 64), 32, 16, 2, (64, 128, 256), 256),
        64: Widths((1024, 512, 256, 128, 64), 32, 16, 2, (64, 128, 256, 512), 512),
        128: Widths((1024, 512, 256, 128, 64, 64), 32, 16, 2, (64, 128, 256, 512, 1024), 512),
    },
    # ours: trains on one CPU core
    "small": {
        32: Widths((64, 64, 32, 16), 16, 16, 0, (48, 96, 128), 128),
        64: Widths((128, 64, 64, 32, 16), 16, 16, 0, (48, 96, 128, 160), 160),
        128: Widths((128, 128, 64, 64, 32, 16), 16, 16, 0, (48, 96, 128, 160, 192), 192),
    },
}

#: What the paper does on every data set.
_PAPER: Mapping[str, Any] = {
    "network": "paper",
    "resolution": 64,
    "z_dim": 100,  # FineGAN's [code]
    "mask_bias": None,
    "centre": 0.0,
    "smooth_weight": 0.0,
    "num_images": 1_000_000,  # C.1
    "round_images": 2_000_000,  # C.2; whether per round or in all is not said
    "batch_size": 32,  # PerturbGAN's and ILSGAN's [code]
    "lr_generator": 2e-4,  # FineGAN's [code]
    "lr_discriminator": 2e-4,
    "beta1": 0.5,
    "beta2": 0.999,
    "binary_start": 0,
    "binary_end": 0,
    "max_coverage": 1.0,
    "crop_min": 0.89,  # PerturbGAN's [code]: images of 1.125 x the side
    "crop_max": 0.89,
    "scale": 0.1,  # [guess]
    "shift": 0.125,  # PerturbGAN's and ILSGAN's [code]
    "contrast": 0.3,  # PerturbGAN's [code]
    "gamma_mask": None,  # Eq. 5: one weight
    "drop_codes": False,
    "orient": False,
}
#: Table C.1: categories, group size, and two weights whose headings are lost [derived: gamma, then binarisation].
_PROFILES: Mapping[str, Mapping[str, Any]] = {
    "paper-cub": {**_PAPER, "num_codes": 200, "group_size": 10, "gamma": 1.0, "binary_weight": 2.0},
    "paper-dogs": {**_PAPER, "num_codes": 120, "group_size": 10, "gamma": 2.0, "binary_weight": 1.0},
    "paper-cars": {**_PAPER, "num_codes": 196, "group_size": 14, "gamma": 1.0, "binary_weight": 2.0,
                   "rotation": 5.0},  # not 0, but lost [guess]
    "paper-apc": {**_PAPER, "num_codes": 200, "group_size": 10, "gamma": 2.0, "binary_weight": 0.0},
}  # fmt: skip


class TrainConfig(Config):
    """Options that both generators share."""

    renamed: ClassVar[Mapping[str, str]] = {"batch": "batch_size", "ema": "ema_decay", "precision": "dtype"}

    weights: str = Field("none", description="zoo name, folder of a part or run, or none = random")
    resolution: Literal[32, 64, 128] = Field(32, description="image side in pixels")
    network: Literal["small", "paper"] = Field(
        "small", description="size of the networks: for one CPU core, or the paper's"
    )
    z_dim: int = Field(64, ge=1, le=4096, description="length of the public code z")
    mask_bias: float | None = Field(-1.5, ge=-5, le=5, description="start of the mask's bias: small masks; null = none")
    centre: float = Field(4.0, ge=0, le=10, description="start of the mask's logits: a bump in the middle; 0 = flat")

    num_images: int = Field(120_000, ge=1, le=10**9, description="real images shown in the first round")
    round_images: int = Field(60_000, ge=1, le=10**9, description="real images shown in each later round")
    batch_size: int = Field(64, ge=2, le=4096, description="images per step")
    lr_generator: float = Field(6e-4, gt=0, le=1, description="Adam's learning rate, generators and heads")
    lr_discriminator: float = Field(8e-4, gt=0, le=1, description="Adam's learning rate, discriminator")
    beta1: float = Field(0.0, ge=0, lt=1, description="Adam's first decay rate")
    beta2: float = Field(0.99, ge=0, lt=1, description="Adam's second decay rate")
    ema_decay: float = Field(0.999, ge=0, lt=1, description="decay of the averaged weights, which are the result")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="of the networks in training; auto = bfloat16 where the hardware has it"
    )

    scale: float = Field(0.2, ge=0, lt=1, description="the object's size is changed by up to this share, both ways")
    shift: float = Field(0.125, ge=0, le=1, description="the object is moved by up to this share of the side")
    whole_pixels: bool = Field(False, description="move it by whole pixels")
    rotation: float = Field(0.0, ge=0, le=180, description="the object is rotated by up to this many degrees")
    contrast: float = Field(0.3, ge=0, lt=1, description="the background's contrast is changed by up to this share")

    binary_weight: float = Field(2.0, ge=0, le=1000, description="weight of min(m, 1 - m), which makes masks binary")
    binary_start: int = Field(20_000, ge=0, description="images after which that weight begins to grow")
    binary_end: int = Field(70_000, ge=0, description="images after which that weight is fully reached")
    max_coverage: float = Field(
        0.5, gt=0, le=1, description="share of an image that its mask may cover at no cost; 1 = all"
    )
    coverage_weight: float = Field(20.0, ge=0, le=1000, description="weight of what exceeds it; grows over num_images")
    smooth_weight: float = Field(0.5, ge=0, le=1000, description="weight of the masks' outline (total variation)")
    min_area: float = Field(0.0, ge=0, lt=1, description="share of each image that the mask should cover; 0 = any")
    area_weight: float = Field(2.0, ge=0, le=1000, description="weight of what is missing (PerturbGAN's mask size)")
    background_weight: float = Field(
        1.0, ge=0, le=1000, description="Eq. 8, from the second round on: weight of foreground found in backgrounds"
    )

    fit: Literal["squash", "crop", "pad"] = Field("squash", description="how photographs become square")
    crop_min: float = Field(0.7, gt=0.2, le=1, description="smallest side of the random crop of a photograph")
    crop_max: float = Field(
        1.0, gt=0.2, le=1, description="largest side of the random crop; the object's size varies with it"
    )
    mirror: Literal["none", "x", "xy"] = Field("x", description="mirror half of the photographs along these axes")
    min_images: int = Field(100, ge=2, description="fewer photographs than this are refused")
    max_broken: float = Field(0.02, ge=0, le=1, description="share of unreadable files that are skipped")

    stop_early: bool = Field(
        True, description="stop when everything is background or foreground; the last good state is kept"
    )
    patience: int = Field(20_000, ge=1, description="number of images over which that must last")
    orient: bool = Field(
        True, description="where masks lie on the border more than in the middle, object and background change places"
    )
    settle_batches: int = Field(
        50, ge=1, le=10_000, description="batches that set the normalisation's statistics after training"
    )

    @model_validator(mode="after")
    def _ranges_are_ordered(self) -> TrainConfig:
        if self.binary_end < self.binary_start:
            raise ValueError(f"binary_end={self.binary_end} lies before binary_start={self.binary_start}")
        if self.crop_max < self.crop_min:
            raise ValueError(f"crop_max={self.crop_max} is less than crop_min={self.crop_min}")
        return self

    @property
    def widths(self) -> Widths:
        """Channels at this resolution."""
        return WIDTHS[self.network][self.resolution]


class LayeredConfig(TrainConfig):
    """Options of the generator `layered`."""

    profiles: ClassVar[Mapping[str, Mapping[str, Any]]] = _PROFILES

    profile: Literal["default", "paper-cub", "paper-dogs", "paper-cars", "paper-apc"] = Field(
        "default", description="default = ours for any folder, or the paper's values for one of its data sets"
    )
    prior: Literal["categorical", "normal"] = Field("categorical", description="distribution of the private code c")
    num_codes: int = Field(20, ge=2, le=10_000, description="categories of c; of a normal code, its numbers")
    group_size: int = Field(5, ge=1, le=10_000, description="categories that share one parent code p")
    gamma: float = Field(0.1, ge=0, le=1000, description="weight of the code's information in the image")
    gamma_mask: float | None = Field(
        0.03, ge=0, le=1000, description="weight of its parent's information in the mask; null = gamma, as in Eq. 5"
    )
    drop_codes: bool = Field(True, description="do not sample codes whose masks are empty, full or of unusual size")
    code_spread: float = Field(
        2.5, ge=1, description="unusual: mean coverage this many times larger or smaller than the median code's"
    )

    @model_validator(mode="after")
    def _groups_fit(self) -> LayeredConfig:
        if self.prior == "categorical" and self.num_codes % self.group_size:
            raise ValueError(f"num_codes={self.num_codes} is not a multiple of group_size={self.group_size}")
        if self.prior == "categorical" and self.num_codes == self.group_size:
            raise ValueError("one group only: the parent code would be constant; give a smaller group_size")
        return self


class PerturbGANConfig(TrainConfig):
    """Options of the generator `perturbgan`: no private code, a smallest mask instead."""

    centre: float = Field(0.0, ge=0, le=10, description="start of the mask's logits: a bump in the middle; 0 = flat")
    smooth_weight: float = Field(0.0, ge=0, le=1000, description="weight of the masks' outline (total variation)")
    scale: float = Field(0.0, ge=0, lt=1, description="the object's size is changed by up to this share, both ways")
    whole_pixels: bool = Field(True, description="move it by whole pixels")
    min_area: float = Field(0.25, ge=0, lt=1, description="share of each image that the mask should cover; 0 = any")
    max_coverage: float = Field(
        1.0, gt=0, le=1, description="share of an image that its mask may cover at no cost; 1 = all"
    )
    binary_start: int = Field(0, ge=0, description="images after which that weight begins to grow")
    binary_end: int = Field(0, ge=0, description="images after which that weight is fully reached")
