"""webdataset: pairs in tar files."""

from __future__ import annotations

import contextlib
from pathlib import Path

from gsegkit.dataset import LabelledDataset, Sample
from gsegkit.exports.writers import DatasetWriter, need
from gsegkit.images import png_bytes
from gsegkit.storage import storage_errors

TAR_PAIRS = 1000  # pairs in one tar file


class TarDataset(DatasetWriter):
    """pairs-000000.tar ...: NAME.image.png and NAME.mask.png side by side, as webdataset reads them."""

    def __init__(self, folder: Path, dataset: LabelledDataset) -> None:
        super().__init__(folder, dataset)
        webdataset = need("webdataset", "webdataset")
        pattern = str(folder / "pairs-%06d.tar").replace("%06d", "\0").replace("%", "%%").replace("\0", "%06d")
        with storage_errors(folder):
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
            with contextlib.suppress(OSError):  # it writes what it holds: to a full disk, in vain
                self.sink.close()
