"""Data on disk: the synthetic pairs (shards), and the two views that parts train on and score with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from gsegkit.errors import DataError
from gsegkit.images import centre_crop, fit_pixels
from gsegkit.reading.images import Photograph, read_photograph
from gsegkit.reading.scaling import DEFAULT_SCALING
from gsegkit.types import check_tensor


@dataclass(frozen=True)
class Sample:
    """One image with its mask.

    Attributes:
        name: file stem, or the seed of a generated sample.
        pixels: [3, H, W] uint8.
        mask: [H, W] uint8, class indices, 255 = ignore.
    """

    name: str
    pixels: Tensor
    mask: Tensor

    def __post_init__(self) -> None:
        check_tensor(self.pixels, "pixels", torch.uint8, (3, None, None), f"sample '{self.name}' ")
        check_tensor(self.mask, "mask", torch.uint8, tuple(self.pixels.shape[1:]), f"sample '{self.name}' ")


class LabelledDataset(ABC):
    """(image, mask) pairs, in a fixed order.

    Attributes:
        classes: names of the K classes; masks hold 0 .. K-1 and 255.
        fit_rule: how real photographs were fitted to these images' size; see `gsegkit.images.fit_pixels`.
        scaling: how images of more than 8 bits became these; see `gsegkit.reading.scaling`.
        notes: what its reader recognised, left out or changed, a sentence each.
        sources: files beside images and masks that it was read from, such as annotations.
        files: its images and masks, where its folder may hold others; () = all images of the folder.
    """

    classes: tuple[str, ...]
    fit_rule: str = "native"
    scaling: str = DEFAULT_SCALING
    notes: tuple[str, ...] = ()
    sources: tuple[Path, ...] = ()
    files: tuple[Path, ...] = ()

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> Sample: ...

    def __iter__(self) -> Iterator[Sample]:
        for index in range(len(self)):
            yield self[index]

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Rows of equal size stacked: pixels [N, 3, H, W] uint8, masks [N, H, W] uint8."""
        rows = [self[int(i)] for i in indices]
        sizes = {tuple(row.mask.shape) for row in rows}
        if len(sizes) > 1:
            raise DataError(
                f"images of different sizes do not fit into one batch: {sorted(sizes)[:3]}",
                "resize them to one size first",
            )
        return torch.stack([row.pixels for row in rows]), torch.stack([row.mask for row in rows])

    def ready(self, format: str) -> Sequence[Path]:
        """Files that hold all pairs in a format of `gsegkit export` already; () when there are none."""
        return ()

    def batch_weights(self, indices: Sequence[int]) -> Tensor | None:
        """Per-pixel training weights of the same rows, [N, H, W] float32 >= 0, or None for all ones."""
        return None


class Subset(LabelledDataset):
    """Some rows of another data set."""

    def __init__(self, dataset: LabelledDataset, indices: Iterable[int]) -> None:
        self.dataset = dataset
        self.indices: range | array[int] = (  # 8 bytes a row: there may be millions
            indices if isinstance(indices, range) else array("q", (int(i) for i in indices))
        )
        self.classes = dataset.classes
        self.fit_rule, self.scaling = dataset.fit_rule, dataset.scaling

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Sample:
        return self.dataset[self.indices[index]]

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """See `LabelledDataset.batch`."""
        return self.dataset.batch([self.indices[int(i)] for i in indices])

    def batch_weights(self, indices: Sequence[int]) -> Tensor | None:
        """See `LabelledDataset.batch_weights`."""
        return self.dataset.batch_weights([self.indices[int(i)] for i in indices])


class MemoryDataset(LabelledDataset):
    """Pairs held in memory: pixels [N, 3, H, W] uint8, masks [N, H, W] uint8."""

    def __init__(
        self,
        pixels: Tensor,
        masks: Tensor,
        classes: Sequence[str],
        names: Sequence[str] | None = None,
        fit_rule: str = "native",
    ) -> None:
        check_tensor(pixels, "pixels", torch.uint8, (None, 3, None, None), "MemoryDataset ")
        check_tensor(masks, "masks", torch.uint8, (len(pixels), *pixels.shape[2:]), "MemoryDataset ")
        self.pixels, self.masks, self.classes, self.fit_rule = pixels, masks, tuple(classes), fit_rule
        self.names = list(names) if names is not None else [f"{i:06d}" for i in range(len(pixels))]

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> Sample:
        return Sample(self.names[index], self.pixels[index], self.masks[index])

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """See `LabelledDataset.batch`."""
        rows = torch.as_tensor(indices, dtype=torch.long)
        return self.pixels[rows], self.masks[rows]


@dataclass(frozen=True)
class UnlabelledImages:
    """Image files without masks, fitted to one size when they are read.

    Attributes:
        paths: the files, in a stable order.
        size: (height, width) to fit to, None = no names.
        fit_rule: "squash", "crop" (centre) or "pad"; see `gsegkit.images.fit_pixels`.
        scaling: of pixels with more than 8 bits, see `gsegkit.reading.scaling`.
    """

    paths: tuple[Path, ...]
    size: tuple[int, int] | None = None
    fit_rule: str = "squash"
    scaling: str = DEFAULT_SCALING

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        """[3, H, W] uint8."""
        return self.read(index).pixels

    def read(self, index: int) -> Photograph:
        """One photograph, fitted, with what was changed when it was read."""
        found = read_photograph(self.paths[index], self.scaling)
        if self.size is None:
            return found
        fitted = fit_pixels(found.pixels[None], self.size, self.fit_rule)
        return replace(found, pixels=centre_crop(fitted, self.size)[0])

    def fitted(self, size: tuple[int, int], fit_rule: str = "squash") -> UnlabelledImages:
        """The same files at another size."""
        return replace(self, size=size, fit_rule=fit_rule)

    def batch(self, indices: Sequence[int]) -> Tensor:
        """[N, 3, H, W] uint8; needs a size, or files of equal size."""
        return torch.stack([self[int(i)] for i in indices])


# ---- shards ------------------------------------------------------------------------------------------------------
