"""Options of StudioGAN's generators. Light: no torch here."""

from __future__ import annotations

from typing import Literal

from gsegkit_resgan.config import NewClassResNet, NewResNet, NewStudioBigResNet
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
    """Options of the generator `sngan`. The shape of the network is read from the weights when there are any."""


class ContraGANConfig(NewStudioBigResNet):
    """Options of the generator `contragan`. The shape of the network is read from the weights when there are any."""
