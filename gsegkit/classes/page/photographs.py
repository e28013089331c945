"""Where clusters lie on photographs, as far as a run's segmenter can tell: it knows those that it was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from gsegkit.classes.match import Predicted, parents
from gsegkit.classes.page.look import UNKNOWN, Shown
from gsegkit.errors import ConfigError
from gsegkit.interfaces import MaskExtractor, Segmenter


def with_photographs(
    shown: Shown,
    pixels: Tensor,
    names: Sequence[str],
    segmenter: Segmenter,
    predicted: Predicted,
    extractor: MaskExtractor,
) -> Shown:
    """Add photographs behind the generated pictures.

    Args:
        shown: generated pictures and their levels.
        pixels: [N, 3, H, W] uint8, of the size of the generated pictures.
        names: of the photographs.
        segmenter: of the run.
        predicted: what its classes are.
        extractor: of the run.
    """
    masks = segmenter.predict(pixels).cpu()
    size = tuple(shown.levels[0].maps.shape[1:])
    small = F.interpolate(masks[:, None].float(), size=size, mode="nearest-exact")[:, 0].long()
    levels = []
    for view in shown.levels:
        table = torch.tensor(positions(predicted, extractor, view.ids), dtype=torch.uint8)
        levels.append(replace(view, maps=torch.cat([view.maps, table[small]])))
    return replace(
        shown, pixels=torch.cat([shown.pixels, pixels]), levels=tuple(levels), photographs=tuple(names)
    )  # fmt: skip


def positions(predicted: Predicted, extractor: MaskExtractor, ids: Sequence[int]) -> list[int]:
    """For each class of a segmenter its place among the clusters of a level.

    Args:
        predicted: what the segmenter's classes are.
        extractor: of the same run.
        ids: the clusters of the level.

    Returns:
        255 where a class is no single cluster of this level, nor part of one.
    """
    parent = {cluster: cluster for group in predicted.clusters for cluster in group}
    if predicted.cut is not None and len(ids) < predicted.cut:
        try:
            parent = parents(extractor, predicted.cut, len(ids))
        except ConfigError:  # levels of a method that does not merge
            parent = {}
    places = {cluster: place for place, cluster in enumerate(ids)}
    found = []
    for group in predicted.group:
        there = {places.get(parent.get(cluster, -1), UNKNOWN) for cluster in predicted.clusters[group]}
        found.append(there.pop() if len(there) == 1 else UNKNOWN)
    return found
