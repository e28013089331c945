"""Dataset reader `folder`: images, or images with masks or annotations, without any configuration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from gsegkit.dataset import LabelledDataset, Sample, UnlabelledImages
from gsegkit.errors import DataError, NoMasksError, plural
from gsegkit.images import image_size, list_images, read_image, read_mask
from gsegkit.interfaces import DatasetReader
from gsegkit.reading.class_names import check_class_names, read_class_names
from gsegkit.reading.scaling import resolved
from gsegkit.records.annotated import ANNOTATED_FILE
from gsegkit.types import IGNORE
from gsegkit_datasets.coco import find_coco, read_coco
from gsegkit_datasets.config import FolderConfig
from gsegkit_datasets.outlines import AnnotatedDataset
from gsegkit_datasets.yolo import find_labels, has_names, read_yolo

LAYOUTS = (
    "give images/ and masks/ with files of the same stem, NAME.png beside NAME_mask.png, a JSON file of COCO "
    "annotations, or images/ and labels/ with YOLO outlines"
)


class FolderReader(DatasetReader):
    """Opens plain folders; the README says which layouts and which masks."""

    config: FolderConfig

    def images(self, folder: Path) -> UnlabelledImages:
        """The folder's images without its masks, in a stable order."""
        return UnlabelledImages(tuple(self._split(Path(folder))[0]), scaling=resolved(self.config.scaling))

    def labelled(self, folder: Path) -> LabelledDataset:
        """The folder's images with their masks. Reads every mask once; images are read when they are asked for."""
        folder = Path(folder)
        images, masks = self._split(folder)
        if not masks or self.config.annotations is not None:
            return self._annotated(folder, images)
        own = (folder / ANNOTATED_FILE).is_file()  # of `gsegkit annotate` or its editor
        images, notes = _with_mask(images, masks) if own else (images, ())
        pairs = self._pair(images, masks)
        names = self.config.classes
        if names is None:
            names = read_class_names(folder)
        else:
            check_class_names(names, "option 'classes'")
        index = own and self.config.values == "auto"  # there 255 is unknown, whatever else there is
        config = self.config.model_copy(update={"values": "index"}) if index else self.config
        return FolderDataset(pairs, config, names, notes)

    def _annotated(self, folder: Path, images: list[Path]) -> LabelledDataset:
        """Masks drawn from the COCO or YOLO annotations that lie in the folder."""
        path = find_coco(folder, self.config.annotations)
        labels = find_labels(folder, images) if path is None else {}
        if path is None and not labels:
            raise NoMasksError(f"folder '{folder}' holds {len(images)} images but no mask", LAYOUTS)
        if self.config.classes is not None:
            check_class_names(self.config.classes, "option 'classes'")
        found = read_coco(path, images, folder) if path is not None else read_yolo(folder, images, labels)
        names = self.config.classes
        if names is None and (path is not None or not has_names(folder)):
            names = read_class_names(folder)
        return AnnotatedDataset(found, names, resolved(self.config.scaling), folder)

    def _split(self, folder: Path) -> tuple[list[Path], list[Path]]:
        """Image files and mask files."""
        inner = folder / (self.config.images or "images")
        root = inner if self.config.images or inner.is_dir() else folder
        files = list_images(root)
        mask_root = folder / (self.config.masks or "masks")
        if self.config.masks or mask_root.is_dir():
            images = [path for path in files if mask_root not in path.parents]
            masks = list_images(mask_root)
        else:
            stems = {path.stem for path in files}
            masks = [path for path in files if self._base(path) in stems]
            images = [path for path in files if self._base(path) not in stems]
        if not images:
            raise DataError(f"folder '{root}' holds masks but no image", LAYOUTS)
        return images, masks

    def _base(self, path: Path) -> str | None:
        """The stem of the image that this file would be the mask of."""
        suffix = self.config.mask_suffix
        return path.stem.removesuffix(suffix) if path.stem.endswith(suffix) else None

    def _pair(self, images: Sequence[Path], masks: Sequence[Path]) -> list[tuple[Path, Path]]:
        image_of, mask_of = _by_stem(images), _by_stem(masks)
        # inside masks/ both NAME.png and NAME_mask.png are common
        if not image_of.keys() & mask_of.keys():
            mask_of = {self._base(path) or stem: path for stem, path in mask_of.items()}
        bare = [stem for stem in image_of if stem not in mask_of]
        if bare:
            raise DataError(f"{len(bare)} of {len(image_of)} images have no mask: {_some(bare)}", LAYOUTS)
        spare = [stem for stem in mask_of if stem not in image_of]
        if spare:
            raise DataError(
                f"{len(spare)} of {len(mask_of)} masks have no image: {_some(spare)}", "remove them or add the images"
            )
        return [(path, mask_of[stem]) for stem, path in image_of.items()]


class FolderDataset(LabelledDataset):
    """Pairs of files.

    What the masks store is decided once for the whole folder. Masks whose only values are 0 and 255 are binary, and
    255 becomes class 1: as indices they would hold background and "ignore" and no class at all. One pixel of any
    other value in any mask makes all of them index masks, in which 255 is ignored.

    Attributes:
        binary: whether 255 was read as class 1.
    """

    def __init__(
        self,
        pairs: Sequence[tuple[Path, Path]],
        config: FolderConfig,
        names: tuple[str, ...] | None,
        notes: tuple[str, ...] = (),
    ) -> None:
        self.pairs, self.notes = list(pairs), notes
        self.binary = False
        self.scaling = resolved(config.scaling)
        values = self._scan()
        self.binary = config.values == "binary" or (config.values == "auto" and set(values) <= {0, IGNORE})
        if self.binary and not set(values) <= {0, IGNORE}:
            bad = min(set(values) - {0, IGNORE})
            raise DataError(f"mask '{values[bad]}' holds the value {bad}", "binary masks hold 0 and 255 only")
        if not self.binary and set(values) <= {IGNORE}:
            raise DataError(
                f"no mask holds a class: every pixel of '{pairs[0][1]}' and the others is {IGNORE}, which is ignored",
                "set data_reader.values=binary if 255 means foreground",
            )
        top = 1 if self.binary else max((value for value in values if value != IGNORE), default=0)
        if names is None and top >= config.max_classes:
            raise DataError(
                f"mask '{values[top]}' holds the value {top}: these are probably grey levels, not class indices",
                "store label indices or 0/255 as PNG (JPEG blurs them), or name the classes in classes.txt",
            )
        if names is not None and top >= len(names):
            where = f"mask '{values[top]}' holds" if top in values else "the masks hold"
            raise DataError(
                f"{where} the class index {top}, but {len(names)} classes are named ({', '.join(names[:8])})",
                "name all classes from 0 on, background included",
            )
        count = max(top + 1, 2)
        self.classes = names or ("background", *(f"class-{index}" for index in range(1, count)))

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        image, path = self.pairs[index]
        pixels, mask = read_image(image, self.scaling), read_mask(path)
        _check_size(path, mask, (int(pixels.shape[1]), int(pixels.shape[2])))
        if self.binary:
            mask = (mask == IGNORE).to(torch.uint8)
        elif bool(((mask >= len(self.classes)) & (mask != IGNORE)).any()):
            raise DataError(f"mask '{path}' was changed while it was in use", "run the command again")
        return Sample(image.stem, pixels, mask)

    def _scan(self) -> dict[int, Path]:
        """Every value that occurs in a mask, with the first mask that has it; checks all sizes."""
        values: dict[int, Path] = {}
        for image, path in self.pairs:
            mask = read_mask(path)
            _check_size(path, mask, image_size(image))
            for value in torch.bincount(mask.flatten(), minlength=256).nonzero().flatten().tolist():
                values.setdefault(value, path)
        return values


def _check_size(path: Path, mask: Tensor, size: tuple[int, int]) -> None:
    if tuple(mask.shape) != size:
        raise DataError(
            f"mask '{path}' is {mask.shape[1]} x {mask.shape[0]}, its image is {size[1]} x {size[0]}",
            "give the mask in the image's size (after EXIF rotation)",
        )


def _by_stem(paths: Sequence[Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in paths:
        if path.stem in found:
            raise DataError(
                f"'{found[path.stem]}' and '{path}' have the same stem '{path.stem}'",
                "samples are named by it; rename or remove one",
            )
        found[path.stem] = path
    return found


def _with_mask(images: Sequence[Path], masks: Sequence[Path]) -> tuple[list[Path], tuple[str, ...]]:
    """The images that have a mask, and a note on the others: nobody has painted them yet."""
    painted = {path.stem for path in masks}
    found = [path for path in images if path.stem in painted]
    bare = len(images) - len(found)
    return found, (f"{plural(bare, 'image')} without a mask left out",) if bare else ()


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")
