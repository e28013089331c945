"""The encoder of SPADE's variational autoencoder: from a true picture to the latent it could be painted with."""

from __future__ import annotations

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from gsegkit_spade.layers import GAIN, SLOPE, conv, halvings, published

WIDTH_MAX = 8  # times the channels of the first layer


class Encoder(nn.Module):
    """Mean and variance of a latent for each picture.

    The published encoder works on pictures of 256 px, whatever the painter's size is; this one halves pictures of any
    size until they have about 4 px.

    Args:
        size: (height, width) of the pictures.
        latent_dim: numbers in a latent.
        width: channels of the first layer; they double in each of the next three.
        kl: weight of the distance of the latents from a standard normal distribution.
    """

    def __init__(self, size: tuple[int, int], latent_dim: int, width: int, kl: float) -> None:
        super().__init__()
        self.kl, levels = kl, max(halvings(size), 1)
        channels = [3, *(min(width * 2**level, width * WIDTH_MAX) for level in range(levels))]
        self.layers = nn.ModuleList(
            [conv(*ends, 3, spectral=True, gain=GAIN, stride=2, bias=False) for ends in pairwise(channels)]
        )
        height, breadth = (-(-side // 2**levels) for side in size)
        self.mean, self.spread = (nn.Linear(channels[-1] * height * breadth, latent_dim) for _ in range(2))
        for layer in (self.mean, self.spread):
            published(layer)

    def forward(self, pictures: Tensor, noise: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """[N, 3, H, W] in [-1, 1] and normal numbers [N, latent_dim] -> latents [N, latent_dim], and their loss."""
        x = pictures
        for index, layer in enumerate(self.layers):
            x = F.instance_norm(layer(x if not index else F.leaky_relu(x, SLOPE)))
        x = F.leaky_relu(x, SLOPE).flatten(1)
        mean, log_variance = self.mean(x), self.spread(x)
        # summed over the batch where it was published: there the weight grew with the batch
        distance = -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum(dim=1).mean()
        return mean + (0.5 * log_variance).exp() * noise, {"kl": self.kl * distance}
