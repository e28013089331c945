"""Options of StudioGAN's generators. Light: no torch here."""

from __future__ import annotations

from typing import Literal

from gsegkit_resgan.config import Arch, NewClassResNet, NewResNet, NewStudioBigResNet
from pydantic import Field


class ACGANConfig(NewClassResNet):
    """Options of the generator `acgan`. The shape of the network is read from the weights when there are any."""


class GGANConfig(NewResNet):
    """Options of the generator `ggan`. The shape of the network is read from the weights when there are any."""


class SAGANConfig(NewClassResNet):
    """Options of the generator `sagan`. The shape of the network is read from the weights when there are any."""

    attention: Literal[0, 8, 16, 32, 64, 128, 256] = Field(
        32, description="self-attention of a new network at this side, 0 = none"
    )


class SNGANConfig(NewClassResNet):
    """Options of the generator `sngan`. The shape of the network is read from the weights when there are any.

    Photographs have no classes: a network that is trained here has none either.
    """

    fit: Literal["squash", "crop", "pad"] = Field("squash", description="how photographs are fitted to the square")
    steps: int = Field(10_000, ge=1, le=10_000_000, description="training steps")
    batch_size: int = Field(32, ge=2, le=4096, description="images per training step")
    lr: float = Field(2e-4, gt=0, le=1, description="learning rate of generator and discriminator")
    d_steps: int = Field(1, ge=1, le=100, description="steps of the discriminator for each of the generator; paper 5")
    d_channels: int = Field(32, ge=1, le=1024, description="channels of the discriminator; paper 128")
    ema_decay: float = Field(0.995, ge=0, lt=1, description="decay of the averaged weights, which are the result")
    start_steps: int = Field(200, ge=0, description="steps before the averaging starts")
    mirror: Literal["none", "x", "xy"] = Field("x", description="mirror half of the images along these axes")

    def trained_arch(self) -> Arch:
        """Shape of the network that training makes: without classes."""
        return Arch(norm="affine", **self._resnet())


class ContraGANConfig(NewStudioBigResNet):
    """Options of the generator `contragan`. The shape of the network is read from the weights when there are any."""
