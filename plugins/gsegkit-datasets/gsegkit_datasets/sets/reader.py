"""What the readers of published data sets have in common: from rows of a list to photographs and masks."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from gsegkit.dataset import LabelledDataset, Sample
from gsegkit.errors import DataError, NoMasksError, plural
from gsegkit.images import list_images, read_image, resize_pixels
from gsegkit.interfaces import DatasetReader
from gsegkit.reading.files import open_image
from gsegkit.reading.scaling import resolved
from gsegkit_datasets.config import SetConfig
from gsegkit_datasets.sets.crops import Box, CroppedImages, cropped, resize_mask, sized
from gsegkit_datasets.sets.encodings import stored_size
from gsegkit_datasets.sets.facts import Facts
from gsegkit_datasets.sets.layouts import Found, Layout, recognise

PEEK = 8  # samples that are read when a data set is opened; the others are when they are asked for
MAX_NAMED = 3
BINARY = ("background", "foreground")
ORIENTATION = 0x0112  # of EXIF
UNPACKED = "unpacked tables"  # what `gsegkit unpack` makes of a data set's tables
UNTURN: dict[int, tuple[bool, bool, bool]] = {  # EXIF orientation -> transpose, flip rows, flip columns, back to stored
    5: (True, False, False), 6: (True, True, False), 7: (True, True, True), 8: (True, False, True),
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One image that a list names.

    Attributes:
        name: of the sample; unique.
        image: its file, which may be missing.
        mask: its file, which may be missing, or the files of its parts, which are there; () = all of it is background,
            None = it should have one.
        box: of its object, where the set has boxes.
        border: colour of what its mask does not label, where the set has such a colour.
    """

    name: str
    image: Path
    mask: Path | tuple[Path, ...] | None = None
    box: Box | None = None
    border: tuple[int, int, int] | None = None


@dataclass(frozen=True)
class Listed:
    """What a split is made of.

    Attributes:
        rows: in the order of the list.
        sources: the files that say so.
        notes: what a user should know.
    """

    rows: Sequence[Row]
    sources: tuple[Path, ...] = ()
    notes: tuple[str, ...] = field(default=())


class SetReader(DatasetReader):
    """Reads one published data set; a subclass says where its lists are and what its masks mean."""

    config: SetConfig
    facts: ClassVar[Facts]
    layouts: tuple[Layout, ...]
    tables: ClassVar[Mapping[str, tuple[str, ...]]] = {}  # split -> its folders, where its tables were unpacked
    shrinks: ClassVar[bool] = False  # photographs that are larger than their masks come down to the masks' size

    @abstractmethod
    def listed(self, found: Found) -> Listed:
        """All images of the chosen split, whether their files exist or not."""

    @abstractmethod
    def decode(self, row: Row) -> np.ndarray:
        """[H, W] uint8, the class indices of a row's mask, 255 = ignore; `row.mask` is there."""

    def classes(self) -> tuple[str, ...]:
        """Names of the classes that `decode` gives."""
        return BINARY

    def expected(self, found: Found) -> int | None:
        """How many images the published split has; None = not known."""
        return self.published_count()

    def published_count(self) -> int | None:
        """How many images the split has as it was published; None = not known."""
        return self.facts.counts.get(getattr(self.config, "split", "all"))

    def no_masks(self, found: Found, count: int) -> DataError:
        """What to say when no image of the split has a mask."""
        return NoMasksError(
            f"'{found.root}' is {self.facts.title} without masks: none of {plural(count, 'image')} has one",
            self.facts.unpack("masks"),
        )

    def images(self, folder: Path) -> CroppedImages:
        """The split's photographs, in the order of its list; masks are not needed."""
        _, listed, _ = self._open(Path(folder), masks=False)
        paths = tuple(row.image for row in listed.rows)
        boxes = {row.image: row.box for row in listed.rows if row.box is not None}
        return CroppedImages(paths, scaling=resolved(self.config.scaling), crop=self.config.crop, boxes=boxes)

    def labelled(self, folder: Path) -> SetDataset:
        """The split's photographs with their masks, both read when they are asked for; the first few at once."""
        found, listed, expected = self._open(Path(folder), masks=True)
        dataset = SetDataset(self, found, listed, expected)
        notes = self.peek([dataset.pair(listed.rows[index]) for index in _spread(len(listed.rows))])
        dataset.notes = (*dataset.notes, *notes)
        return dataset

    def unpacked(self, root: Path, folders: tuple[str, ...]) -> Listed:
        """The images of a split whose tables were unpacked: FOLDER/images and FOLDER/masks."""
        rows: list[Row] = []
        for folder in folders:
            images, masks = root / folder / "images", root / folder / "masks"
            found, _ = pairs_of(list_images(images), list_images(masks), images, masks)
            rows += [replace(row, name=f"{folder}/{row.name}") for row in found]
        return Listed(
            rows,
            (),
            ("the copy is one of tables that were unpacked: samples have its numbers, not their published names",),
        )

    def peek(self, pairs: Sequence[tuple[Tensor, Tensor]]) -> tuple[str, ...]:
        """What looks wrong about a few photographs ([3, H, W] uint8) and masks ([H, W] uint8), a sentence each."""
        return ()

    # ---- inside --------------------------------------------------------------------------------------------------

    def _open(self, folder: Path, masks: bool) -> tuple[Found, Listed, int | None]:
        split = getattr(self.config, "split", "all")
        markers = tuple(f"{part}/{kind}/" for part in self.tables.get(split, ()) for kind in ("images", "masks"))
        layouts = (*self.layouts, Layout(UNPACKED, markers)) if markers else self.layouts
        found = recognise(folder, layouts, self.facts, self.config.layout)
        listed = self.unpacked(found.root, self.tables[split]) if found.name == UNPACKED else self.listed(found)
        expected = self.expected(found)
        notes = [f"{self.facts.title}, layout {found.name}, split {split}: {plural(len(listed.rows), 'image')}"]
        if expected is not None and len(listed.rows) != expected:
            said = (
                f"{self.facts.title}, split {split}: {plural(len(listed.rows), 'image')}, "
                f"the published one has {expected:,}"
            )
            if self.config.count == "refuse":
                raise DataError(said, "it is another version or a part of it: " + self.facts.unpack())
            notes.append(f"{said}: another version, or a part of it; scores are not comparable with papers")
        counts = Counter(row.name for row in listed.rows)
        twice = next((name for name, count in counts.items() if count > 1), None)
        if twice is not None:
            raise DataError(f"the lists of '{found.root}' name '{twice}' twice", self.facts.unpack("list"))
        rows, left = self._complete(found, listed.rows, masks)
        if self.config.limit is not None and self.config.limit < len(rows):
            drawn = np.random.default_rng(self.config.seed).permutation(len(rows))[: self.config.limit]
            rows = [rows[index] for index in sorted(drawn.tolist())]
            left = (*left, f"{plural(len(rows), 'image')} of them, drawn with seed {self.config.seed}")
        return found, Listed(rows, listed.sources, (*notes, *left, *listed.notes)), expected

    def _complete(self, found: Found, rows: Sequence[Row], masks: bool) -> tuple[list[Row], tuple[str, ...]]:
        """The rows whose files are all there; what was left out. What must not be left out is an error."""
        wanted = [row for row in rows if row.name not in self.config.leave_out]
        unknown = set(self.config.leave_out) - {row.name for row in rows}
        if unknown:
            raise DataError(f"leave_out names '{min(unknown)}', which the split does not have", "check the name")
        if not wanted:
            raise DataError(f"no image of '{found.root}' is left", "leave out fewer, or choose another split")
        bare = {row.name for row in wanted if not row.image.is_file()}
        unmasked = {row.name for row in wanted if row.name not in bare and not _has_mask(row)} if masks else set()
        if len(bare) == len(wanted):
            raise DataError(
                f"'{found.root}' lacks all {plural(len(bare), 'image')} of the split: it is not unpacked to the end",
                self.facts.unpack("images"),
            )
        if len(unmasked) == len(wanted) - len(bare) and masks:
            raise self.no_masks(found, len(unmasked))
        notes = []
        for lost, what, brings in ((bare, "image", "images"), (unmasked, "mask", "masks")):
            serious = sorted(lost - self.facts.absent)
            if serious and self.config.missing == "error":
                some = ", ".join(serious[:MAX_NAMED]) + (" ..." if len(serious) > MAX_NAMED else "")
                raise DataError(
                    f"'{found.root}' lacks the {what} of {len(serious):,} of {len(wanted):,} listed images: {some}",
                    f"{self.facts.unpack(brings)} again, or set data_reader.missing=skip",
                )
            if lost:
                notes.append(f"left out, without {what}: {plural(len(lost), 'image')}")
        if self.config.leave_out:
            notes.append(f"left out, as told: {plural(len(self.config.leave_out), 'image')}")
        return [row for row in wanted if row.name not in bare | unmasked], tuple(notes)


class SetDataset(LabelledDataset):
    """Photographs and masks of one split of a published data set.

    Attributes:
        title: of the data set.
        layout: that was recognised.
        split: that was chosen.
        expected: number of images of the published split; None = not known.
    """

    def __init__(self, reader: SetReader, found: Found, listed: Listed, expected: int | None) -> None:
        self.reader, self.rows, self.expected = reader, list(listed.rows), expected
        self.title, self.layout = reader.facts.title, found.name
        self.split = getattr(reader.config, "split", "all")
        self.classes, self.scaling = reader.classes(), resolved(reader.config.scaling)
        self.notes = (*listed.notes, *reader.facts.notes)
        self.sources = listed.sources
        masks = (row.mask if isinstance(row.mask, tuple) else (row.mask,) for row in self.rows)
        self.files = (*(row.image for row in self.rows), *(path for each in masks for path in each if path is not None))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Sample:
        row = self.rows[index]
        pixels, mask = self.pair(row)
        config = self.reader.config
        pixels, mask = cropped(pixels, config.crop, row.box), cropped(mask, config.crop, row.box)
        pixels, mask = sized(pixels, mask, config.size, config.crop == "centre-square")
        return Sample(row.name, pixels.contiguous(), mask.contiguous())

    def pair(self, row: Row) -> tuple[Tensor, Tensor]:
        """A row's photograph [3, H, W] uint8 and mask [H, W] uint8, of one size, neither cut nor sized."""
        pixels = read_image(row.image, self.scaling)
        size = (int(pixels.shape[1]), int(pixels.shape[2]))
        if row.mask == ():
            return pixels, torch.zeros(size, dtype=torch.uint8)
        mask = torch.from_numpy(np.ascontiguousarray(self.reader.decode(row)))
        wanted = (int(mask.shape[0]), int(mask.shape[1]))
        if wanted == size:
            return pixels, mask
        if wanted == stored_size(row.image):  # the mask was drawn on the pixels as they are stored
            return _unturned(pixels, row.image), mask
        if self.reader.shrinks and size[0] % wanted[0] == 0 and size[0] * wanted[1] == size[1] * wanted[0]:
            return resize_pixels(pixels[None], wanted)[0], mask
        if self.reader.config.resize_mask == "nearest":
            return pixels, resize_mask(mask, size)
        raise DataError(
            f"the mask of '{row.image}' is {wanted[1]} x {wanted[0]}, the image {size[1]} x {size[0]}",
            "one is from another version of the data set; data_reader.resize_mask=nearest resizes the mask",
        )


def pairs_of(images: Sequence[Path], masks: Sequence[Path], image_root: Path, mask_root: Path) -> tuple[list[Row], int]:
    """Rows of two folders without a list, paired by their paths without suffix, and how many masks were left over."""
    of_key: dict[str, list[Path]] = {}
    for path in masks:
        of_key.setdefault(path.relative_to(mask_root).with_suffix("").as_posix(), []).append(path)
    rows = []
    for path in images:
        key = path.relative_to(image_root).with_suffix("").as_posix()
        rows.append(Row(key, path, _best(of_key.pop(key, []), path)))
    return rows, len(of_key)


# ---- inside ------------------------------------------------------------------------------------------------------


def _has_mask(row: Row) -> bool:
    """Whether its mask is there; of several files those are listed that were found."""
    return row.mask.is_file() if isinstance(row.mask, Path) else row.mask is not None


def _best(masks: Sequence[Path], image: Path) -> Path | None:
    """Of several masks of one name the one of the image's size: DUTS has a .jpg beside a .png of another size."""
    if len(masks) < 2:
        return masks[0] if masks else None
    size = stored_size(image)
    return min(masks, key=lambda path: (stored_size(path) != size, path.suffix.lower() != ".png", path.name))


def _spread(count: int) -> list[int]:
    """Up to `PEEK` places, evenly spread."""
    return sorted({index * count // PEEK for index in range(PEEK)}) if count else []


def _unturned(pixels: Tensor, path: Path) -> Tensor:
    """[3, H, W] uint8 that was turned upright, as the file stores it."""
    with open_image(path) as image:
        transpose, rows, columns = UNTURN[int(image.getexif().get(ORIENTATION, 1))]
    if transpose:
        pixels = pixels.transpose(1, 2)
    return pixels.flip([axis for axis, flip in ((1, rows), (2, columns)) if flip])
