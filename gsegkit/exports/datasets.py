"""Data sets for other tools: PNG pairs, COCO, YOLO-seg, VOC, webdataset, Hugging Face. Streamed, all or nothing."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from gsegkit.colours import voc_palette
from gsegkit.context import RunContext
from gsegkit.dataset import LabelledDataset, Sample
from gsegkit.errors import ConfigError, DataError, MissingDependencyError
from gsegkit.exports.annotations import CocoFile, object_classes, unique_name, yolo_lines
from gsegkit.images import png_bytes
from gsegkit.storage import storage_errors

CLASSES_FILE = "classes.yaml"
TAR_PAIRS = 1000  # pairs in one webdataset shard
JPEG_QUALITY = 95


@dataclass(frozen=True)
class ExportSummary:
    """What export_dataset made.

    Attributes:
        path: the new folder.
        format: its format.
        pairs: number of (image, mask) pairs in it.
    """

    path: Path
    format: str
    pairs: int

    def __str__(self) -> str:
        return f"{self.pairs} pairs in {self.path} ({self.format})"


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


class PngWriter(DatasetWriter):
    """images/NAME.png and masks/NAME.png (8-bit grey class indices): what gsegkit reads itself, bit for bit."""

    def add(self, name: str, sample: Sample) -> None:
        """See `DatasetWriter.add`."""
        write_bytes(self.folder / "images" / f"{name}.png", png_bytes(sample.pixels))
        write_bytes(self.folder / "masks" / f"{name}.png", png_bytes(sample.mask))


class CocoWriter(DatasetWriter):
    """images/NAME.png and annotations.json: one RLE per image and class; see `gsegkit.exports.annotations`."""

    def __init__(self, folder: Path, dataset: LabelledDataset) -> None:
        super().__init__(folder, dataset)
        self.file = CocoFile(folder / "annotations.json", self.classes)

    def add(self, name: str, sample: Sample) -> None:
        """See `DatasetWriter.add`."""
        write_bytes(self.folder / "images" / f"{name}.png", png_bytes(sample.pixels))
        self.file.add(f"{name}.png", sample.mask)

    def close(self) -> None:
        """Put annotations.json in its place."""
        self.file.close()

    def discard(self) -> None:
        """See `DatasetWriter.discard`."""
        self.file.discard()


class YoloWriter(DatasetWriter):
    """images/train/NAME.png, labels/train/NAME.txt and data.yaml; see `yolo_lines`."""

    def add(self, name: str, sample: Sample) -> None:
        """See `DatasetWriter.add`."""
        write_bytes(self.folder / "images" / "train" / f"{name}.png", png_bytes(sample.pixels))
        lines = "".join(f"{line}\n" for line in yolo_lines(sample.mask, self.classes))
        write_text(self.folder / "labels" / "train" / f"{name}.txt", lines)

    def close(self) -> None:
        """Write data.yaml; YOLO insists on a `val` folder, and there is no second one."""
        names = dict(enumerate(object_classes(self.classes).values()))
        text = yaml.safe_dump({"train": "images/train", "val": "images/train", "names": names}, sort_keys=False)
        write_text(self.folder / "data.yaml", "# val is the training set: put annotated photographs there\n" + text)


class VocWriter(DatasetWriter):
    """JPEGImages/NAME.jpg, SegmentationClass/NAME.png (palette), ImageSets/Segmentation/*.txt.

    VOC's readers want JPEG, so these images (not the masks) are lossy: quality 95, full colour resolution.
    """

    def __init__(self, folder: Path, dataset: LabelledDataset) -> None:
        super().__init__(folder, dataset)
        self.names: list[str] = []

    def add(self, name: str, sample: Sample) -> None:
        """See `DatasetWriter.add`."""
        buffer = io.BytesIO()
        image = Image.fromarray(sample.pixels.permute(1, 2, 0).contiguous().numpy())
        image.save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0)
        write_bytes(self.folder / "JPEGImages" / f"{name}.jpg", buffer.getvalue())
        write_bytes(self.folder / "SegmentationClass" / f"{name}.png", png_bytes(sample.mask, voc_palette()))
        self.names.append(name)

    def close(self) -> None:
        """Write the lists of names and the label map (name:r,g,b::)."""
        lists = self.folder / "ImageSets" / "Segmentation"
        for split in ("train", "trainval"):
            write_text(lists / f"{split}.txt", "".join(f"{name}\n" for name in self.names))
        colours = [",".join(map(str, colour)) for colour in voc_palette().tolist()]
        rows = [f"{name}:{colours[value]}::\n" for value, name in enumerate(self.classes)]
        write_text(self.folder / "labelmap.txt", "".join(rows))


class TarWriter(DatasetWriter):
    """pairs-000000.tar ...: NAME.image.png and NAME.mask.png side by side, as webdataset reads them."""

    def __init__(self, folder: Path, dataset: LabelledDataset) -> None:
        super().__init__(folder, dataset)
        webdataset = need("webdataset", "webdataset")
        pattern = str(folder / "pairs-%06d.tar").replace("%06d", "\0").replace("%", "%%").replace("\0", "%06d")
        self.sink = webdataset.ShardWriter(pattern, maxcount=TAR_PAIRS, mtime=0, verbose=0)

    def add(self, name: str, sample: Sample) -> None:
        """See `DatasetWriter.add`."""
        with storage_errors(self.folder):
            pair = {"__key__": name, "image.png": png_bytes(sample.pixels), "mask.png": png_bytes(sample.mask)}
            self.sink.write(pair)

    def close(self) -> None:
        """Finish the last shard."""
        sink, self.sink = self.sink, None
        with storage_errors(self.folder):
            sink.close()

    def discard(self) -> None:
        """See `DatasetWriter.discard`."""
        if self.sink is not None:
            self.sink.close()


class HuggingFaceWriter(DatasetWriter):
    """Columns name, image, mask for `datasets.load_from_disk`; written by `close`, in the order of the data set."""

    def __init__(self, folder: Path, dataset: LabelledDataset) -> None:
        super().__init__(folder, dataset)
        datasets = need("datasets", "huggingface")
        self.features = datasets.Features(
            {"name": datasets.Value("string"), "image": datasets.Image(), "mask": datasets.Image()}
        )
        from datasets.arrow_writer import ArrowWriter

        self.datasets = datasets
        self.arrow = folder / "parts" / "pairs.arrow"  # a table cannot be saved to the folder that it lies in
        self.arrow.parent.mkdir()
        self.writer = ArrowWriter(features=self.features, path=str(self.arrow))

    def add(self, name: str, sample: Sample) -> None:
        """See `DatasetWriter.add`."""
        image, mask = png_bytes(sample.pixels), png_bytes(sample.mask)
        with storage_errors(self.folder):
            self.writer.write(
                {"name": name, "image": {"bytes": image, "path": None}, "mask": {"bytes": mask, "path": None}}
            )

    def close(self) -> None:
        """Turn the table into the layout of `datasets.save_to_disk`."""
        with storage_errors(self.folder):
            self.writer.finalize()
            table = self.datasets.Dataset.from_file(str(self.arrow))
            table.save_to_disk(str(self.folder))
            del table
            shutil.rmtree(self.arrow.parent)

    def discard(self) -> None:
        """See `DatasetWriter.discard`."""
        self.writer.close()


WRITERS: Mapping[str, type[DatasetWriter]] = {
    "png": PngWriter,
    "coco": CocoWriter,
    "yolo": YoloWriter,
    "voc": VocWriter,
    "webdataset": TarWriter,
    "huggingface": HuggingFaceWriter,
}


def export_dataset(
    dataset: LabelledDataset, out: str | Path, format: str = "png", ctx: RunContext | None = None
) -> ExportSummary:
    """Write a data set for another tool, pair by pair. The folder appears when it is complete, or not at all.

    Args:
        dataset: any pairs; images may differ in size.
        out: the folder to make; an empty one may be there.
        format: "png", "coco", "yolo", "voc", "webdataset" or "huggingface".
        ctx: progress and stop.

    Raises:
        ConfigError: unknown format.
        DataError: `out` holds something already, or the data set is empty.
        MissingDependencyError: the format needs an extra that is not installed.
        StorageError: it cannot be written; nothing is left behind.
    """
    out = Path(out)
    ctx = ctx or RunContext(folder=out)
    if format not in WRITERS:
        raise ConfigError(f"no data set format '{format}'", f"formats: {', '.join(WRITERS)}")
    if len(dataset) == 0:
        raise DataError("the data set is empty", "relax the refiners or make more samples")
    with new_folder(out) as folder:
        writer = WRITERS[format](folder, dataset)
        taken: set[str] = set()
        try:
            for index in ctx.track(range(len(dataset)), f"exporting {format}"):
                sample = dataset[index]
                writer.add(unique_name(sample.name, taken), sample)
            writer.close()
        finally:
            writer.discard()
    return ExportSummary(out, format, len(dataset))


@contextlib.contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A hidden folder beside `out` that becomes `out` when the block ends well, and vanishes otherwise.

    Raises:
        DataError: `out` is a file or not empty.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        what = "is not empty" if out.is_dir() else "is a file"
        raise DataError(f"'{out}' {what}", "choose a new folder; existing files are never overwritten")
    temporary = out.with_name(f".{out.resolve().name}.tmp")  # one fixed name: what a killed process left is replaced
    with storage_errors(out):
        if temporary.exists():
            shutil.rmtree(temporary)
        temporary.mkdir(parents=True)
    try:
        yield temporary
        with storage_errors(out):
            _sync_tree(temporary)
            if out.exists():
                out.rmdir()
            os.replace(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def classes_yaml(dataset: LabelledDataset) -> str:
    """The text of classes.yaml: names from mask value 0 on."""
    remark = (
        f"# names of the mask values 0, 1, 2 ...; 255 is ignored; images were fitted by rule '{dataset.fit_rule}'\n"
    )
    return remark + yaml.safe_dump(list(dataset.classes), allow_unicode=True)


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


def _sync_tree(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                os.fsync(file.fileno())
