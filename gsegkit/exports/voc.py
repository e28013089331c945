"""Pascal VOC: class indices as palette PNG, and the folders that its readers expect."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image
from torch import Tensor

from gsegkit.colours import voc_palette
from gsegkit.dataset import LabelledDataset, Sample
from gsegkit.exports.places import place
from gsegkit.exports.writers import DatasetWriter, PredictionWriter, write_bytes, write_text
from gsegkit.images import png_bytes, write_png

JPEG_QUALITY = 95


class VocPredictions(PredictionWriter):
    """voc/NAME.png: class indices as a palette PNG in VOC's colours."""

    pattern = "voc/{name}.png"

    def write(self, name: str, source: str, pixels: Tensor, mask: Tensor) -> None:
        """See `PredictionWriter.write`."""
        write_png(place(self.out, self.path_below(name)), mask, voc_palette())


class VocDataset(DatasetWriter):
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
