"""PNG: class indices in grey, classes drawn over the photograph, and pairs as gsegkit reads them itself."""

from __future__ import annotations

from PIL import Image
from torch import Tensor

from gsegkit.colours import overlay
from gsegkit.dataset import Sample
from gsegkit.exports.places import place
from gsegkit.exports.writers import DatasetWriter, PredictionWriter, write_bytes
from gsegkit.images import png_bytes, write_png
from gsegkit.storage import atomic_file

STRIP_PIXELS = 2**19


class LabelPredictions(PredictionWriter):
    """labels/NAME.png: 8-bit grey, the class index of every pixel."""

    pattern = "labels/{name}.png"

    def write(self, name: str, source: str, pixels: Tensor, mask: Tensor) -> None:
        """See `PredictionWriter.write`."""
        write_png(place(self.out, self.path_below(name)), mask)


class OverlayPredictions(PredictionWriter):
    """overlays/NAME.png: the photograph with its classes in colour."""

    pattern = "overlays/{name}.png"

    def write(self, name: str, source: str, pixels: Tensor, mask: Tensor) -> None:
        """See `PredictionWriter.write`."""
        height, width = mask.shape
        rows = max(1, STRIP_PIXELS // width)  # a large photograph is never held as floats, nor drawn a second time
        image = Image.new("RGB", (width, height))
        for top in range(0, height, rows):
            part, classes = pixels[:, top : top + rows], mask[top : top + rows]
            drawn = overlay(part[None], classes[None], palette=self.palette)[0].permute(1, 2, 0)
            image.paste(Image.fromarray(drawn.contiguous().numpy()), (0, top))
        with atomic_file(place(self.out, self.path_below(name))) as file:
            image.save(file, "PNG")


class PngDataset(DatasetWriter):
    """images/NAME.png and masks/NAME.png (8-bit grey class indices): what gsegkit reads itself, bit for bit."""

    def add(self, name: str, sample: Sample) -> None:
        """See `DatasetWriter.add`."""
        write_bytes(self.folder / "images" / f"{name}.png", png_bytes(sample.pixels))
        write_bytes(self.folder / "masks" / f"{name}.png", png_bytes(sample.mask))
