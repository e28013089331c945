"""Options of the generators `selfcondgan` and `uncondgan`. Light: no torch here."""

from __future__ import annotations

from gsegkit_resgan.config import NewClassPlain, NewPlain


class SelfCondGANConfig(NewClassPlain):
    """Options of the generator `selfcondgan`. The shape of the network is read from the weights when there are any."""


class UncondGANConfig(NewPlain):
    """Options of the generator `uncondgan`. The shape of the network is read from the weights when there are any."""
