"""Photographs in memory, and the order in which a training sees its data.

Nothing here draws from a global random generator: callers hand in the rows and coins that they drew.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from gsegkit.context import RunContext
from gsegkit.dataset import UnlabelledImages
from gsegkit.errors import DataError, GsegkitError, and_more
from gsegkit.images import resize_pixels
from gsegkit.reading.images import counted
from gsegkit.seeds import child_seed


class EpochOrder:
    """Which rows a step sees: a function of (seed, step), every epoch a permutation of its own.

    A batch may reach over an epoch's end, so none is short and no row is left out.

    Args:
        count: rows of the data set.
        batch_size: rows of a step; may exceed `count`.
        seed: of the order.
        name: of the random stream.

    Example:
        >>> order = EpochOrder(3, 2, seed=0)
        >>> sorted([*order.rows(0), *order.rows(1)[:1]])
        [0, 1, 2]
    """

    def __init__(self, count: int, batch_size: int, seed: int, name: str = "order") -> None:
        self.count, self.batch_size, self.seed, self.name = count, batch_size, seed, name
        self._orders: dict[int, Tensor] = {}

    def rows(self, step: int) -> list[int]:
        """Rows of one step, [batch_size]."""
        at, end, rows = step * self.batch_size, (step + 1) * self.batch_size, list[int]()
        while at < end:
            epoch, first = divmod(at, self.count)
            rows += self._order(epoch)[first : first + end - at].tolist()
            at = step * self.batch_size + len(rows)
        return rows

    def _order(self, epoch: int) -> Tensor:
        if epoch not in self._orders:
            generator = torch.Generator().manual_seed(child_seed(self.seed, self.name, epoch))
            kept = {e: order for e, order in self._orders.items() if e >= epoch - 1}
            self._orders = {**kept, epoch: torch.randperm(self.count, generator=generator)}
        return self._orders[epoch]


MEMORY_LIMIT = 4 << 30  # bytes of decoded photographs that a bank keeps; those of a larger folder are read when needed
GPU_SHARE = 0.25  # of a GPU's free memory that a bank may take, so that batches need not be copied there
MAX_BROKEN = 0.02  # share of unreadable files that are skipped
NAMED = 10  # broken files that are named


class ImageBank:
    """The photographs of a training, fitted to one size; the one place that decides what fits in memory.

    All files are read once at the start. Unreadable ones are named in a warning and skipped, up to `max_broken`.
    Photographs of up to `limit` bytes stay in memory as uint8 (on the GPU if they take a quarter of its free memory
    at most); those of a larger folder are read from disk batch by batch, and all of them are still seen.

    Args:
        images: the files.
        size: (height, width) to fit to.
        fit: "squash", "crop" or "pad".
        ctx: progress, warnings.
        least: fewer readable photographs are refused.
        device: where batches go.
        num_classes: 0, or the number of folders: each is a class, in the order of their names.
        max_broken: share of unreadable files above which the folder is refused.
        limit: bytes of memory.

    Attributes:
        labels: [M] int64 class of each photograph, or None.

    Raises:
        DataError: too few photographs, too many unreadable ones, or not as many folders as classes.
    """

    def __init__(
        self,
        images: UnlabelledImages,
        size: tuple[int, int],
        fit: str,
        ctx: RunContext,
        *,
        least: int = 2,
        device: torch.device | None = None,
        num_classes: int = 0,
        max_broken: float = MAX_BROKEN,
        limit: int = MEMORY_LIMIT,
    ) -> None:
        if len(images) < least:
            raise _too_few(len(images), least)
        self.size, self.device = size, device or torch.device("cpu")
        kept = len(images) * 3 * size[0] * size[1] <= limit
        self.files, read = _read(images.fitted(size, fit), kept, max_broken, ctx)
        if len(self.files) < least:
            raise _too_few(len(self.files), least)
        self._pixels = torch.stack(read) if kept else None
        self._to_device()
        self.labels = _folder_classes(self.files, num_classes) if num_classes else None

    @classmethod
    def of_pixels(cls, pixels: Tensor, device: torch.device | None = None) -> ImageBank:
        """A bank of images that are in memory already, [M, 3, H, W] uint8."""
        bank = cls.__new__(cls)
        bank.files, bank.labels, bank._pixels = UnlabelledImages(()), None, pixels
        bank.size, bank.device = (int(pixels.shape[2]), int(pixels.shape[3])), device or torch.device("cpu")
        bank._to_device()
        return bank

    def __len__(self) -> int:
        return len(self._pixels if self._pixels is not None else self.files)

    @property
    def in_memory(self) -> bool:
        """Whether photographs are kept decoded."""
        return self._pixels is not None

    def batch(self, rows: Sequence[int] | Tensor) -> Tensor:
        """Photographs of these rows, [N, 3, H, W] uint8 on the bank's device."""
        if self._pixels is not None:
            found = self._pixels[upload(torch.as_tensor(rows), self._pixels.device)]
        else:
            read = self.files.batch([int(row) for row in rows]) if len(rows) else torch.zeros(0, 3, *self.size).byte()
            found = self._resized(read)
        return upload(found, self.device)

    def resized(self, size: tuple[int, int]) -> ImageBank:
        """The same photographs scaled to another size; shares nothing but the files."""
        other = copy.copy(self)
        other.size = size
        if self._pixels is not None:
            parts = torch.split(self._pixels.cpu(), 1024)  # scaling works in float32
            other._pixels = torch.cat([resize_pixels(part, size) for part in parts])
            other._to_device()
        return other

    def _resized(self, pixels: Tensor) -> Tensor:
        return pixels if tuple(pixels.shape[2:]) == self.size else resize_pixels(pixels, self.size)

    def _to_device(self) -> None:
        if self._pixels is None or self.device.type != "cuda":
            return
        if self._pixels.nbytes <= GPU_SHARE * torch.cuda.mem_get_info(self.device)[0]:
            self._pixels = self._pixels.to(self.device)


def flip_where(pixels: Tensor, across: Tensor | None = None, down: Tensor | None = None) -> Tensor:
    """Mirror those of [N, C, H, W] whose coin, [N] bool, is true: left-right (`across`), upside-down (`down`)."""
    for coins, dim in ((across, 3), (down, 2)):
        if coins is not None:
            pixels = torch.where(upload(coins, pixels.device)[:, None, None, None], pixels.flip(dim), pixels)
    return pixels


def upload(tensor: Tensor, device: torch.device) -> Tensor:
    """`tensor.to(device)`; a plain copy to a GPU would first wait until all work queued there is done."""
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def _too_few(found: int, least: int) -> DataError:
    return DataError(
        f"{found} photographs are too few to train on", f"give at least {least}; good results need some thousands"
    )


def _read(
    images: UnlabelledImages, keep: bool, max_broken: float, ctx: RunContext
) -> tuple[UnlabelledImages, list[Tensor]]:
    """The readable files and, with `keep`, their pixels."""
    read: list[Tensor] = []
    good: list[int] = []
    broken: list[str] = []
    changed: Counter[str] = Counter()
    for index in _reading(len(images), ctx):
        try:
            photograph = images.read(index)
        except GsegkitError as error:
            broken.append(error.message)
            continue
        good.append(index)
        changed.update(photograph.notes)
        if keep:
            read.append(photograph.pixels)
    if broken:
        what = f"{len(broken)} of {len(images)} photographs cannot be read: {and_more(broken, NAMED)}"
        if len(broken) > max_broken * len(images):
            raise DataError(what, "remove them, or copy them again")
        ctx.warn(f"{what}; they are skipped")
    if changed:
        ctx.info(f"changed when read, of {len(images)} photographs: {counted(changed)}")
    return replace(images, paths=tuple(images.paths[index] for index in good)), read


def _reading(count: int, ctx: RunContext) -> Iterator[int]:
    """Indices, with progress. A stop waits for the first step, so that a stopped training always has a checkpoint."""
    ctx.progress.start(f"{ctx.folder.name}: reading photographs", count)
    try:
        for index in range(count):
            yield index
            ctx.progress.advance(index + 1, {})
    finally:
        ctx.progress.finish()


def _folder_classes(images: UnlabelledImages, num_classes: int) -> Tensor:
    folders = sorted({path.parent for path in images.paths})
    if len(folders) != num_classes:
        raise DataError(
            f"a network with {num_classes} classes needs one image folder per class, found {len(folders)} folders",
            "put each class into its own sub-folder, or set num_classes=0",
        )
    return torch.tensor([folders.index(path.parent) for path in images.paths])
