"""Hugging Face: pairs as a table of the package `datasets`."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from gsegkit.dataset import LabelledDataset, Sample
from gsegkit.exports.writers import DatasetWriter, need
from gsegkit.images import png_bytes
from gsegkit.storage import storage_errors


class HuggingFaceDataset(DatasetWriter):
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
        with storage_errors(folder):
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
        with contextlib.suppress(OSError):  # see `TarDataset.discard`
            self.writer.close()
