"""Which rows of a batch each process has: whole groups of the minibatch standard deviation."""

from __future__ import annotations

import torch
from torch import Tensor

from gsegkit.distributed.team import Team
from gsegkit.errors import ConfigError
from gsegkit.training import rows_of
from gsegkit_stylegan.networks.discriminator import STD_GROUP


def own_rows(team: Team, batch_size: int) -> Tensor:
    """This process's rows, [n] int64, in an order in which its discriminator makes the groups of the whole batch.

    Group g of a batch of n rows is g, g + G, g + 2 G ..., G = n / 4: see `minibatch_std`.

    Raises:
        ConfigError: the batch has fewer groups than there are processes; one that is not a multiple of 4 is one group.
    """
    if team.alone:
        return torch.arange(batch_size)
    groups = batch_size // STD_GROUP if batch_size % STD_GROUP == 0 else 1
    if groups < team.size:
        raise ConfigError(
            f"a batch of {batch_size} has {groups} {'group' if groups == 1 else 'groups'} of images that the "
            f"discriminator compares, which {team.size} processes cannot divide",
            f"set batch_size to {STD_GROUP * team.size} or a larger multiple of {STD_GROUP}, or start fewer processes",
        )
    members = torch.arange(batch_size).reshape(STD_GROUP, groups)
    return members[:, rows_of(team, groups)].flatten()
