"""Styles of true pictures: what colours their classes have, as the latents that they are painted with in training."""

from __future__ import annotations

import torch
from torch import Tensor

from gsegkit.dataset import LabelledDataset
from gsegkit.images import to_images
from gsegkit.painting import class_colours

CHUNK = 256  # pairs that are read at once
KEPT = 0.99  # share of the variance that the components keep


def colour_styles(dataset: LabelledDataset, latent_dim: int) -> Tensor:
    """The mean colours of a picture's classes as up to `latent_dim` independent standard normal numbers.

    A painter that draws its latent freely, and is compared with one true picture, does best by painting the mean of all
    pictures that the mask allows: the latent is ignored. Told the colours of that picture, it has something to learn
    from the latent. Colours of a class that a picture lacks are taken from the mean. The components are the principal
    ones; each is replaced by the normal number of its rank, so that drawn latents are of the same distribution.

    Args:
        dataset: pairs of one size.
        latent_dim: at most as many numbers a picture.

    Returns:
        [N, D] float32, D <= latent_dim; 0 columns where all pictures have the same colours.
    """
    count = len(dataset.classes)
    parts = []
    for start in range(0, len(dataset), CHUNK):
        pixels, masks = dataset.batch(range(start, min(start + CHUNK, len(dataset))))
        parts.append(class_colours(to_images(pixels), masks, count).flatten(1))
    colours = torch.cat(parts)
    centred = torch.nan_to_num(colours - colours.nanmean(dim=0))
    _, spread, axes = torch.linalg.svd(centred, full_matrices=False)
    share = spread.square().cumsum(0) / spread.square().sum().clamp_min(1e-12)
    kept = min(latent_dim, int((share < KEPT).sum()) + 1) if float(spread[0]) > 1e-6 else 0
    return _normal_scores(centred @ axes[:kept].T).float()


def _normal_scores(values: Tensor) -> Tensor:
    """Each column's values replaced by the standard normal numbers of their ranks."""
    ranks = values.argsort(dim=0, stable=True).argsort(dim=0).double()
    return torch.special.ndtri((ranks + 0.5) / len(values))
