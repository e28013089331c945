"""The foreground of a segmentation, also where its classes are clusters that nobody named."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from gsegkit.classes.class_map import RAW_NAME


def are_clusters(classes: Sequence[str]) -> bool:
    """Whether classes are clusters without names."""
    return all(RAW_NAME.fullmatch(name) is not None for name in classes)


def foreground_classes(classes: Sequence[str], labels: Iterable[Tensor]) -> Tensor:
    """Which classes are foreground: all but the first; of clusters without names those that keep off the border.

    A cluster is background where its share of the photographs' border pixels is larger than its share of all pixels.

    Args:
        classes: K names.
        labels: [H, W] integer class indices of each photograph; read for clusters only.

    Returns:
        [K] bool.
    """
    if not are_clusters(classes):
        return torch.arange(len(classes)) > 0
    on_border, everywhere = torch.zeros(len(classes)), torch.zeros(len(classes))
    for one in labels:
        border = torch.cat([one[0], one[-1], one[1:-1, 0], one[1:-1, -1]])
        on_border += _shares(border, len(classes))
        everywhere += _shares(one, len(classes))
    return on_border <= everywhere


def _shares(labels: Tensor, count: int) -> Tensor:
    return torch.bincount(labels.flatten().long(), minlength=count).float() / max(labels.numel(), 1)
