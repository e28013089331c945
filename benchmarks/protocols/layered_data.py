"""What layered GANs are measured on: the toy, a harder toy, folders of photographs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.protocols.common import Lab
from gsegkit.builtin.config import ToyConfig
from gsegkit.builtin.toy import Toy
from gsegkit.dataset import LabelledDataset, MemoryDataset, Sample, UnlabelledImages
from gsegkit.images import list_images, to_pixels, write_png
from gsegkit.plugins import installed
from gsegkit.seeds import normals, sample_seeds, uniforms
from gsegkit.storage import atomic_write_json
from gsegkit.types import IGNORE, GeneratedBatch

TOY_PICTURES, TOY_TEST = 3000, 500
TOY_SIDE = 64  # of the training pictures; the networks see them at 32


def toy_pictures(side: int, purpose: str, count: int, hard: bool) -> tuple[Tensor, Tensor]:
    """Pictures [N, 3, S, S] uint8 and exact masks [N, S, S] uint8 (1 = object)."""
    toy = Toy(ToyConfig(size=side))
    pixels, masks = [], []
    for seeds in sample_seeds(1, purpose, 0, count).split(100):
        batch = hard_sample(toy, seeds) if hard else toy.sample(seeds)
        pixels.append(to_pixels(batch.images))
        masks.append((toy.truth(batch) > 0).to(torch.uint8))
    return torch.cat(pixels), torch.cat(masks)


def hard_sample(toy: Toy, seeds: Tensor) -> GeneratedBatch:
    """The toy with objects of two thirds of the side, somewhere, on a ground with spots of any colour."""
    side = toy.info.height
    place = (uniforms(seeds, (2,), "place") - 0.5) * 0.7
    spots = F.interpolate(normals(seeds, (3, side // 4, side // 4), "spots"), (side, side), mode="bilinear")

    def smaller(opacities: Tensor) -> Tensor:
        rows = torch.tensor([[1.5, 0.0, 0.0], [0.0, 1.5, 0.0]]).repeat(len(seeds), 1, 1)
        rows[:, :, 2] = -1.5 * place
        return F.grid_sample(opacities, F.affine_grid(rows, list(opacities.shape), False), align_corners=False)

    edits = {"object": smaller, "background": lambda colours: colours + 0.2 * spots}
    with torch.no_grad():
        return toy.synthesize(toy.latents(seeds), toy.labels(seeds), edits=edits)


class Binary(LabelledDataset):
    """Any class against the rest, so that a matching needs no labels."""

    def __init__(self, dataset: LabelledDataset) -> None:
        self.dataset, self.classes, self.fit_rule = dataset, ("background", "foreground"), dataset.fit_rule

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        sample = self.dataset[index]
        mask = torch.where(sample.mask == IGNORE, IGNORE, (sample.mask > 0).to(torch.uint8)).to(torch.uint8)
        return Sample(sample.name, sample.pixels, mask)


@dataclass(frozen=True)
class Case:
    """Photographs to train on, annotated ones to score on, and options that the data ask for."""

    name: str
    images: UnlabelledImages
    test: LabelledDataset
    options: dict[str, Any] = field(default_factory=dict)


def toy_case(work: Path, hard: bool = False, fast: bool = False) -> Case:
    """Training pictures as files, as a user has them; test pictures are drawn at 32 px."""
    name = "toy-hard" if hard else "toy"
    folder, count = work / "data" / name, 120 if fast else TOY_PICTURES
    if not (folder / "done.json").exists():
        for i, row in enumerate(toy_pictures(TOY_SIDE, "dataset", count, hard)[0]):
            write_png(folder / f"{i:05d}.png", row)
        atomic_write_json(folder / "done.json", count)
    pixels, masks = toy_pictures(32, "test", 20 if fast else TOY_TEST, hard)
    test = MemoryDataset(pixels, masks, ("background", "foreground"), fit_rule="squash")
    return Case(name, UnlabelledImages(tuple(list_images(folder))), test)


#: name -> (folder to train on, folder to score on, options). Large objects need a larger bound on the coverage.
REAL: dict[str, tuple[str, str, dict[str, Any]]] = {
    "lpc": ("lpc_parts", "lpc_parts_test", {"num_images": 200_000, "gamma_mask": 0.0}),
    "wbc": ("wbc", "wbc", {"max_coverage": 0.7, "mirror": "xy"}),
    "coffee-leaf": (
        "coffee_leaf_unlabelled",
        "coffee_leaf",
        {"max_coverage": 0.9, "min_area": 0.4, "mask_bias": 0.0, "crop_min": 0.9, "scale": 0.1, "shift": 0.08},
    ),
}


def real_case(lab: Lab, name: str) -> Case:
    """A folder of photographs and its annotated partner."""
    images, test, options = REAL[name]
    reader = installed().build("dataset", "folder")
    annotated: LabelledDataset = Binary(lab.labelled(test))
    return Case(name, reader.images(lab.data(images)), annotated, options)
