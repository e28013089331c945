"""A folder to annotate: images/NAME.*, masks/NAME.png, drafts/NAME.png, classes.yaml, annotate.json.

The reader of folders takes it as it is: a mask holds a class a pixel, or 255 where nobody has said anything.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gsegkit.classes.colours import filled
from gsegkit.colours import display_palette
from gsegkit.errors import ConfigError, DataError
from gsegkit.exports.places import place
from gsegkit.images import image_size, list_images, png_bytes, read_image, read_mask
from gsegkit.painting.examples import css_colours
from gsegkit.parts import COMPONENT_FILE
from gsegkit.reading.class_names import read_class_names
from gsegkit.records.annotated import ANNOTATED_FILE, AnnotatedRecord
from gsegkit.rundir import CONFIG_FILE
from gsegkit.storage import atomic_write, atomic_write_json
from gsegkit.types import IGNORE

IMAGES, MASKS, DRAFTS = "images", "masks", "drafts"
MAX_PICTURES = 500  # that an editor shows
LARGEST_SIDE = 2048  # pixels of a picture
REMEDY = "a folder to annotate has images/ and classes.yaml (a list of names); gsegkit annotate RUN makes one"


def can_be_edited(path: Path) -> bool:
    """Whether a folder is one to annotate: no run, no stored part, and it has images/ or was annotated before."""
    own = any((path / name).exists() for name in (COMPONENT_FILE, CONFIG_FILE))
    return not own and ((path / IMAGES).is_dir() or (path / ANNOTATED_FILE).exists())


@dataclass(frozen=True)
class Shown:
    """One picture of the folder.

    Attributes:
        name: file stem; that of its mask too.
        path: the image.
        size: (height, width) as it is shown, upright.
    """

    name: str
    path: Path
    size: tuple[int, int]


class AnnotationFolder:
    """What an editor reads and writes. Nothing is written before the first change.

    Attributes:
        classes: names of the K classes.
        colours: "#rrggbb" of each.
        pictures: in the order of their names.
        record: annotate.json.

    Args:
        path: the folder.

    Raises:
        DataError: no images, too many or too large ones, two of one name, or masks that do not fit them.
        ConfigError: no class names, or masks in another form than this editor writes.
        ArtifactError: annotate.json is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        names = read_class_names(path)
        if names is None:
            raise ConfigError(f"'{path}' has no classes.yaml", REMEDY)
        self.classes = names
        own = path / ANNOTATED_FILE
        self.record = AnnotatedRecord.read(own) if own.exists() else AnnotatedRecord()
        chosen = dict(enumerate(self.record.colours[: len(names)]))
        self._palette = display_palette(filled(chosen, len(names)))
        self.colours = css_colours(self._palette, len(names))
        self.pictures = _pictures(path / IMAGES)
        self._check_masks(known=own.exists())

    # ---- reading -------------------------------------------------------------------------------------------------

    def pixels(self, index: int) -> Tensor:
        """[3, H, W] uint8."""
        shown = self.pictures[index]
        pixels = read_image(shown.path)
        if tuple(pixels.shape[1:]) != shown.size:
            raise DataError(f"image '{shown.path}' was changed while it was in use", "open the folder again")
        return pixels

    def mask(self, index: int) -> Tensor:
        """[H, W] uint8, classes and 255 = unknown, which all is without a file."""
        found = self._stored(MASKS, index)
        return torch.full(self.pictures[index].size, IGNORE, dtype=torch.uint8) if found is None else found

    def draft(self, index: int) -> Tensor:
        """What the mask was before anybody changed it here, [H, W] uint8."""
        found = self._stored(DRAFTS, index)
        return self.mask(index) if found is None else found

    def changed(self, index: int) -> bool:
        """Whether the mask is another one than its draft."""
        return not torch.equal(self.mask(index), self.draft(index))

    def done(self, index: int) -> bool:
        """Whether a person has said so."""
        return self.pictures[index].name in self.record.done

    def revision(self, index: int) -> str:
        """16 hex digits for the mask as it is on the disk."""
        return hashlib.sha256(self.mask(index).numpy().tobytes()).hexdigest()[:16]

    # ---- writing -------------------------------------------------------------------------------------------------

    def save(self, index: int, mask: Tensor) -> None:
        """Write a mask; what was there before the first change is kept as its draft.

        Args:
            index: of the picture.
            mask: [H, W] uint8, classes and 255.

        Raises:
            DataError: another size, or a class that there is not; nothing is written.
            StorageError: it cannot be written; the earlier mask is still there.
        """
        self._check(mask, index, "this mask")
        if not (self.path / ANNOTATED_FILE).exists():
            self._write_record()  # first: it says how the masks are to be read
        path, draft = self._file(MASKS, index), self._file(DRAFTS, index)
        if not draft.exists():
            atomic_write(draft, path.read_bytes() if path.exists() else png_bytes(self.mask(index), self._palette))
        atomic_write(path, png_bytes(mask, self._palette))

    def set_done(self, index: int, done: bool) -> None:
        """Note whether a picture is done; StorageError when that cannot be written."""
        name = self.pictures[index].name
        others = tuple(one for one in self.record.done if one != name)
        self.record = self.record.model_copy(update={"done": (*others, name) if done else others})
        self._write_record()

    # ---- inside --------------------------------------------------------------------------------------------------

    def _write_record(self) -> None:
        atomic_write_json(self.path / ANNOTATED_FILE, self.record.model_dump(mode="json"))

    def _file(self, inner: str, index: int) -> Path:
        return place(self.path, inner, f"{self.pictures[index].name}.png")

    def _stored(self, inner: str, index: int) -> Tensor | None:
        path = self._file(inner, index)
        if not path.exists():
            return None
        mask = read_mask(path)
        self._check(mask, index, f"mask '{path}'")
        return mask

    def _check(self, mask: Tensor, index: int, what: str) -> None:
        height, width = self.pictures[index].size
        if tuple(mask.shape) != (height, width):
            raise DataError(
                f"{what} is {mask.shape[1]} x {mask.shape[0]}, its picture is {width} x {height}",
                "give the mask in the picture's size (after EXIF rotation)",
            )
        strange = mask[(mask >= len(self.classes)) & (mask != IGNORE)]
        if strange.numel():
            raise DataError(
                f"{what} holds the class {int(strange[0])}, and there are {len(self.classes)}",
                "classes are numbered from 0 in the order of classes.yaml; 255 is unknown",
            )

    def _check_masks(self, known: bool) -> None:
        """Read every mask once; `known`: this editor has written here, so 255 is unknown."""
        root = self.path / MASKS
        if not root.is_dir():
            return
        own = {self._file(MASKS, index) for index in range(len(self.pictures))}
        others = (
            [path for path in list_images(root) if path not in own] if root.is_dir() and any(root.iterdir()) else []
        )
        if others:
            raise ConfigError(
                f"mask '{others[0]}' is not the NAME.png of an image images/NAME.*",
                "rename it, or convert it to an 8-bit PNG of class indices",
            )
        values: set[int] = set()
        for index in range(len(self.pictures)):
            values.update(self.mask(index).unique().tolist() if self._file(MASKS, index).exists() else ())
        if not known and IGNORE in values and values <= {0, IGNORE}:
            raise ConfigError(
                f"the masks in '{root}' hold 0 and 255 alone, which is mostly meant as background and foreground",
                "store the foreground as 1, so that 255 can be unknown",
            )


def _pictures(folder: Path) -> tuple[Shown, ...]:
    if not folder.is_dir():
        raise ConfigError(f"'{folder}' does not exist", REMEDY)
    found: dict[str, Shown] = {}
    for path in list_images(folder):
        height, width = image_size(path)
        if max(height, width) > LARGEST_SIDE:
            raise DataError(
                f"image '{path}' is {width} x {height}",
                f"the editor shows pictures of at most {LARGEST_SIDE} px per side; shrink it",
            )
        if path.stem in found:
            raise DataError(
                f"'{found[path.stem].path}' and '{path}' have the same stem", "masks are named by it; rename one"
            )
        found[path.stem] = Shown(path.stem, path, (height, width))
    if len(found) > MAX_PICTURES:
        raise DataError(
            f"'{folder}' holds {len(found)} images", f"the editor shows {MAX_PICTURES} at most; divide the folder"
        )
    return tuple(found.values())
