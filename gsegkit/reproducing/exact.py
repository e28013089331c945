"""Rows that need no trained weights: counts of splits, layers by their shapes, options of profiles, shipped masks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gsegkit.clustering.config import FeatureConfig
from gsegkit.clustering.points import select_layers
from gsegkit.config import build_config
from gsegkit.context import RunContext
from gsegkit.dataset import LabelledDataset, Sample
from gsegkit.errors import ConfigError, DataError
from gsegkit.images import list_images
from gsegkit.interfaces import DatasetReader, Evaluator, Generator
from gsegkit.plugins import Registry
from gsegkit.reading.files import open_image
from gsegkit.reproducing.recipes import Data, Row
from gsegkit.types import Report

WHITE = 255  # of a shipped mask; all that is darker is background, as the authors' script has it


def published_count(data: Data, registry: Registry) -> float:
    """How many images a split has as it was published, which its reader holds every copy against."""
    reader: DatasetReader = registry.build("dataset", data.reader, data.options)
    count = reader.published_count()
    if count is None:
        raise ConfigError(f"the reader '{data.reader}' does not know how many images this split has", "update it")
    return float(count)


def layer_facts(row: Row, registry: Registry) -> dict[str, float]:
    """What KLiSH's rule chooses in a network of this shape, with random weights.

    Returns:
        `channels` together, number of `layers`, and `lowest` and `highest`, the sides of the smallest and largest map.
    """
    generator: Generator = registry.build("generator", row.component, row.options)
    info = generator.info
    chosen = [info.feature(name) for name in select_layers(info, FeatureConfig())]
    return {
        "channels": float(sum(spec.channels for spec in chosen)),
        "layers": float(len(chosen)),
        "lowest": float(chosen[0].height),
        "highest": float(chosen[-1].height),
    }


def profile_values(row: Row, registry: Registry) -> dict[str, float]:
    """The numbers that a part's options mean, by their names."""
    kind, _, name = row.component.partition("/")
    config = build_config(registry.find(kind, name).config_class(), row.options, row.name)
    values: Mapping[str, Any] = config.model_dump()
    return {name: float(value) for name, value in values.items() if isinstance(value, int | float)}


def score_shipped(row: Row, folder: Path, evaluator: Evaluator, ctx: RunContext) -> Report:
    """Score masks that a paper's authors published beside their truth; nothing is predicted here.

    Args:
        row: its `folders` are the predictions' and the truth's, below `folder`.
        folder: of the data.
        evaluator: scores them as it would a segmenter's.
        ctx: of the evaluation.

    Raises:
        DataError: the folders are not there, or do not hold pairs.
    """
    return evaluator.evaluate(_as_shipped, Shipped(*(folder / name for name in row.folders)), ctx)


class Shipped(LabelledDataset):
    """Pairs of published masks, by the numbers in their names: the prediction stands where a photograph would."""

    classes = ("background", "foreground")

    def __init__(self, found: Path, truth: Path) -> None:
        for folder in (found, truth):
            if not folder.is_dir():
                raise DataError(f"'{folder}' is not there", "give the folder of the authors' data set, unchanged")
        a, b = _numbered(found), _numbered(truth)
        if not a or a.keys() != b.keys():
            lone = sorted(a.keys() ^ b.keys())
            raise DataError(f"'{found}' and '{truth}' do not pair: {lone or 'both are empty'}", "copy both again")
        self.pairs = [(a[number], b[number]) for number in sorted(a)]

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        found, truth = (_foreground(path) for path in self.pairs[index])
        if found.shape != truth.shape:
            raise DataError(f"'{self.pairs[index][0]}' and its truth differ in size", "copy both again")
        pixels = (found * WHITE).expand(3, -1, -1).contiguous()
        return Sample(self.pairs[index][1].stem, pixels, truth)


def _as_shipped(pixels: Tensor) -> Tensor:
    """[N, 3, H, W] uint8, masks -> [N, 2, H, W] float32, probabilities 0 and 1."""
    return F.one_hot((pixels[:, 0] == WHITE).long(), 2).permute(0, 3, 1, 2).float()


def _foreground(path: Path) -> Tensor:
    """[H, W] uint8, 1 where the mask is white."""
    with open_image(path) as image:
        return torch.from_numpy((np.asarray(image.convert("L")) == WHITE).astype(np.uint8))


def _numbered(folder: Path) -> dict[int, Path]:
    digits = {path: "".join(mark for mark in path.stem if mark.isdigit()) for path in list_images(folder)}
    return {int(text): path for path, text in digits.items() if text}
