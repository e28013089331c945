"""The user's folder, read once: photographs at a size that comparing is quick at, and their masks if there are some."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from gsegkit.classes.held_out import choose_images
from gsegkit.context import RunContext
from gsegkit.dataset import LabelledDataset, Sample, UnlabelledImages
from gsegkit.errors import DataError, GsegkitError, NoMasksError, and_more, plural
from gsegkit.images import centre_crop, fit_pixels, resize_pixels, shrunk_size
from gsegkit.interfaces import DatasetReader
from gsegkit.reading.images import Photograph
from gsegkit.rundir import stage_key

SIDE = 512  # pixels of the longer side; larger photographs are shrunk
FEWEST = 4  # photographs; of fewer, no number means anything
MOST_NAMED = 10  # files in an error

T = TypeVar("T")


@dataclass(frozen=True)
class InMemory(UnlabelledImages):
    """Photographs that are in memory already, for methods that learn from files.

    Attributes:
        pixels: [3, H, W] uint8 each.
    """

    pixels: tuple[Tensor, ...] = ()

    def read(self, index: int) -> Photograph:
        """See `UnlabelledImages.read`."""
        pixels = self.pixels[index]
        if self.size is None:
            return Photograph(pixels)
        return Photograph(centre_crop(fit_pixels(pixels[None], self.size, self.fit_rule), self.size)[0])


class Few(LabelledDataset):
    """Samples of different sizes, whose labels may be used."""

    def __init__(self, samples: Sequence[Sample], classes: Sequence[str]) -> None:
        self.samples, self.classes = list(samples), tuple(classes)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]


@dataclass(frozen=True)
class Material:
    """Photographs in memory.

    Attributes:
        names: of the photographs.
        pixels: [3, H, W] uint8 each, as every method sees them.
        masks: [H, W] uint8 each, 255 = ignore; () without annotations.
        classes: what the masks' values mean; () without annotations.
        few: places of the photographs whose labels may be used; they are not scored.
        notes: what was left out or changed, a sentence each.
    """

    names: tuple[str, ...]
    pixels: tuple[Tensor, ...]
    masks: tuple[Tensor, ...] = ()
    classes: tuple[str, ...] = ()
    few: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def identity(self) -> str:
        """Hash of the photographs, their masks, and whose labels may be used."""
        sums = [
            [list(each.shape), hashlib.sha256(each.numpy().tobytes()).hexdigest()]
            for each in (*self.pixels, *self.masks)
        ]
        return stage_key(self.names, sums, self.classes, self.few)

    @property
    def files(self) -> UnlabelledImages:
        """The photographs for methods that learn from them."""
        return InMemory(tuple(Path(name) for name in self.names), pixels=self.pixels)

    @property
    def labelled(self) -> Few:
        """The photographs whose labels may be used."""
        return Few([Sample(self.names[i], self.pixels[i], self.masks[i]) for i in self.few], self.classes)

    @property
    def scored(self) -> tuple[int, ...]:
        """Places of the other photographs; all without annotations."""
        few = set(self.few)
        return tuple(i for i in range(len(self)) if i not in few)

    def drawn(self, count: int, seed: int) -> Material:
        """`count` of the photographs, drawn by a seed; in at most half of them labels may be used."""
        rows = choose_images(len(self), min(count, len(self)), seed)
        labelled = min(len(self.few), len(rows) // 2)
        return replace(
            self, names=tuple(self.names[i] for i in rows), pixels=tuple(self.pixels[i] for i in rows),
            masks=tuple(self.masks[i] for i in rows) if self.masks else (),
            few=tuple(choose_images(len(rows), labelled, seed)),
        )  # fmt: skip


def read(
    folder: Path, reader: DatasetReader, ctx: RunContext, *, labelled: int, most: int, masks: bool = True
) -> Material:
    """Read a folder of photographs, with their masks where it has some.

    Args:
        folder: see the reader.
        reader: of folders.
        ctx: progress, stop, and the seed of what is drawn.
        labelled: photographs whose labels may be used, at most half of them.
        most: photographs; of more, as many are drawn.
        masks: read them, where there are some.

    Raises:
        DataError: too few photographs, some that cannot be read, or masks that do not fit them.
    """
    files = reader.images(folder)
    if len(files) < FEWEST:
        raise DataError(
            f"'{folder}' holds {plural(len(files), 'photograph')}, too few to compare methods on",
            f"give at least {FEWEST}",
        )
    try:
        pairs: LabelledDataset | None = reader.labelled(folder) if masks else None
    except NoMasksError:
        pairs = None
    total = len(files) if pairs is None else len(pairs)
    rows = choose_images(total, min(most, total), ctx.seed)
    notes = (f"{len(rows)} of {plural(total, 'photograph')} were drawn at random",) if len(rows) < total else ()
    if pairs is None:
        names = tuple(files.paths[i].stem for i in rows)
        return Material(names, tuple(_each(rows, lambda i: shrink(files[i]), ctx)), notes=notes)
    few = tuple(choose_images(len(rows), min(labelled, len(rows) // 2), ctx.seed))
    samples = _each(rows, lambda i: _shrunk_sample(pairs[i]), ctx)
    return Material(
        tuple(s.name for s in samples), tuple(s.pixels for s in samples), tuple(s.mask for s in samples),
        tuple(pairs.classes), few, (*notes, *pairs.notes),
    )  # fmt: skip


def shrink(pixels: Tensor) -> Tensor:
    """[3, H, W] uint8 whose longer side is at most `SIDE`."""
    height, width = pixels.shape[1:]
    return pixels if max(height, width) <= SIDE else resize_pixels(pixels[None], shrunk_size(height, width, SIDE))[0]


def _shrunk_sample(sample: Sample) -> Sample:
    pixels = shrink(sample.pixels)
    if pixels.shape == sample.pixels.shape:
        return sample
    mask = F.interpolate(sample.mask[None, None].float(), size=tuple(pixels.shape[1:]), mode="nearest-exact")
    return Sample(sample.name, pixels, mask[0, 0].to(torch.uint8))


def _each(rows: Sequence[int], one: Callable[[int], T], ctx: RunContext) -> list[T]:
    """Read every row; one error names those that cannot be read."""
    found, bad = [], []
    for row in ctx.track(rows, "reading the photographs"):
        try:
            found.append(one(row))
        except GsegkitError as error:
            bad.append(error.message)
    if bad:
        raise DataError(
            f"{len(bad)} of {plural(len(rows), 'photograph')} cannot be used: {and_more(bad, MOST_NAMED)}",
            "fix or remove them, then run the same command again",
        )
    return found
