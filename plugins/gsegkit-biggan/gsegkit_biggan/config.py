"""Options of the generators `biggan` and `bigbigan`. Light: no torch here."""

from __future__ import annotations

from gsegkit_resgan.config import NewBigResNet, NewClassBigResNet


class BigGANConfig(NewClassBigResNet):
    """Options of the generator `biggan`. The shape of the network is read from the weights when there are any."""


class BigBiGANConfig(NewBigResNet):
    """Options of the generator `bigbigan`. The shape of the network is read from the weights when there are any."""
