"""What the writers of all formats share: their base classes, names that are safe, bytes put into files."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from gsegkit.colours import display_palette
from gsegkit.dataset import LabelledDataset, Sample
from gsegkit.errors import MissingDependencyError
from gsegkit.reading.class_names import class_names_yaml
from gsegkit.storage import storage_errors

CLASSES_FILE = "classes.yaml"
BACKGROUND_NAMES = ("background", "bg", "void")


class PredictionWriter(ABC):
    """Writes one kind of file for every predicted image; missing folders are made.

    Args:
        out: folder of all predictions; the writer keeps to its own sub-folder or file.
        classes: names of the K classes.
        palette: [256, 3] uint8, colours of the classes in images; None = `display_palette()`.

    Attributes:
        pattern: an image's file below `out`, with `{name}` in it; "" = all images share files.
        shared: files below `out` that all images share.
        in_order: all images are in one file, in the order in which they are written; their pixels are not.
    """

    pattern: ClassVar[str] = ""
    shared: ClassVar[tuple[str, ...]] = ()
    in_order: ClassVar[bool] = False

    def __init__(self, out: Path, classes: Sequence[str], palette: Tensor | None = None) -> None:
        self.out = out
        self.classes = tuple(classes)
        self.palette = display_palette() if palette is None else palette

    @classmethod
    def files(cls, names: Iterable[str]) -> list[str]:
        """Every file below `out` that predictions of images of these names would write."""
        return [*([cls.path_below(name) for name in names] if cls.pattern else []), *cls.shared]

    @classmethod
    def path_below(cls, name: str) -> str:
        """An image's file below `out`."""
        return cls.pattern.replace("{name}", name)

    @abstractmethod
    def write(self, name: str, source: str, pixels: Tensor, mask: Tensor) -> None:
        """Write one image's files; `name` is unique, may hold `/`, and has no suffix.

        Args:
            name: the image's name.
            source: the photograph's file name below the inputs' common folder.
            pixels: [3, H, W] uint8, the photograph.
            mask: [H, W] uint8, its classes.
        """

    def close(self) -> None:  # noqa: B027 (most writers share no file)
        """Finish files that all images share."""

    def discard(self) -> None:  # noqa: B027
        """Drop unfinished files; harmless after close()."""


class DatasetWriter(ABC):
    """Writes pairs in one format into a folder that nobody else sees yet.

    Args:
        folder: an empty folder.
        dataset: what is written; for its classes.
    """

    def __init__(self, folder: Path, dataset: LabelledDataset) -> None:
        self.folder = folder
        self.dataset = dataset
        self.classes = dataset.classes
        write_text(folder / CLASSES_FILE, classes_yaml(dataset))

    @abstractmethod
    def add(self, name: str, sample: Sample) -> None:
        """Write one pair under a name that is unique and safe as a file stem."""

    def close(self) -> None:  # noqa: B027 (most formats have nothing to finish)
        """Write what belongs to all pairs."""

    def discard(self) -> None:  # noqa: B027
        """Let go of open files after a failure; harmless after close()."""


def object_classes(classes: Sequence[str]) -> dict[int, str]:
    """Mask value -> name of the classes that are objects.

    Class 0 is the background of a two-class set, and wherever it is called so; in any other set (clusters without
    names) every class is an object.
    """
    has_background = bool(classes) and (len(classes) == 2 or classes[0].lower() in BACKGROUND_NAMES)
    return {value: name for value, name in enumerate(classes) if value > 0 or not has_background}


def classes_yaml(dataset: LabelledDataset) -> str:
    """The text of classes.yaml: names from mask value 0 on."""
    remark = f"names of the mask values 0, 1, 2 ...; 255 is ignored; images were fitted by rule '{dataset.fit_rule}'"
    return class_names_yaml(dataset.classes, remark)


def need(module: str, extra: str) -> Any:
    """Import a package of an extra; MissingDependencyError with the command that installs it."""
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingDependencyError(
            f"this needs the package '{module}', which cannot be imported ({error})", f"pip install 'gsegkit[{extra}]'"
        ) from None


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file inside a folder that is not visible yet; StorageError when it cannot be written."""
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """See `write_bytes`."""
    write_bytes(path, text.encode())
