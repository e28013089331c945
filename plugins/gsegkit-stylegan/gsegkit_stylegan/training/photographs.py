"""Real images for the trainer: read once, fitted to the network's size, served by (seed, step)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from gsegkit.dataset import UnlabelledImages
from gsegkit.errors import DataError
from gsegkit.images import to_images
from gsegkit.seeds import child_seed
from gsegkit_stylegan.training.upload import upload

MEMORY_LIMIT = 4 * 2**30  # bytes of pixels that are kept in memory; a larger folder is read batch by batch
GPU_SHARE = 0.25  # of the free memory of a GPU that the pixels may take, so that batches need not be copied there


class RealImages:
    """Square photographs of one side, in an order that is a function of (seed, epoch).

    Args:
        images: the folder's images.
        side: the network's resolution.
        fit: "squash", "crop" (centre) or "pad".
        mirror: "none", "x" or "xy": axes along which half of the images are flipped.
        seed: of order and flips.
        device: where batches go.
        num_classes: 0, or the number of sub-folders: each is a class, in the order of their names.
    """

    def __init__(
        self,
        images: UnlabelledImages,
        side: int,
        fit: str,
        mirror: str,
        seed: int,
        device: torch.device,
        num_classes: int = 0,
    ) -> None:
        if len(images) < 2:
            raise DataError(f"training needs at least 2 images, got {len(images)}", "give a larger folder")
        self.images = images.fitted((side, side), fit)
        self.side, self.mirror, self.seed, self.device = side, mirror, seed, device
        self._classes = _folder_classes(images, num_classes) if num_classes else None
        self._permutations: dict[int, Tensor] = {}
        self._pixels: Tensor | None = None
        if len(images) * 3 * side * side <= MEMORY_LIMIT:
            self._pixels = self.images.batch(range(len(images)))
            if device.type == "cuda" and self._pixels.nbytes <= GPU_SHARE * torch.cuda.mem_get_info(device)[0]:
                self._pixels = self._pixels.to(device)

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, step: int, count: int, side: int) -> Tensor:
        """The real images of one step: [count, 3, side, side] float32 in [-1, 1]."""
        rows = self.rows(step, count)
        if self._pixels is None:
            pixels = self.images.batch(rows.tolist())
        else:
            pixels = self._pixels[upload(rows, self._pixels.device)]
        batch = to_images(upload(pixels, self.device))
        if side < self.side:
            batch = F.avg_pool2d(batch, self.side // side)
        return self._flip(batch, step)

    def rows(self, step: int, count: int) -> Tensor:
        """Indices of one step's images: a new permutation every epoch, no image left out."""
        at, end, parts = step * count, (step + 1) * count, []
        while at < end:
            epoch, first = divmod(at, len(self))
            parts.append(self._order(epoch)[first : first + end - at])
            at += len(parts[-1])
        return torch.cat(parts)

    def labels(self, step: int, count: int) -> Tensor | None:
        """Class labels of the same images, [count] int64; None when unconditional."""
        return None if self._classes is None else upload(self._classes[self.rows(step, count)], self.device)

    def _order(self, epoch: int) -> Tensor:
        if epoch not in self._permutations:
            generator = torch.Generator().manual_seed(child_seed(self.seed, "epoch", epoch))
            kept = {e: order for e, order in self._permutations.items() if e >= epoch - 1}
            self._permutations = {**kept, epoch: torch.randperm(len(self), generator=generator)}
        return self._permutations[epoch]

    def _flip(self, batch: Tensor, step: int) -> Tensor:
        generator = torch.Generator().manual_seed(child_seed(self.seed, "flip", step))
        coins = upload(torch.rand(2, len(batch), generator=generator) < 0.5, batch.device)
        for axis, dim in (("x", 3), ("y", 2)):
            if axis in self.mirror.replace("none", ""):
                batch = torch.where(coins[dim - 2][:, None, None, None], batch.flip(dim), batch)
        return batch


def _folder_classes(images: UnlabelledImages, num_classes: int) -> Tensor:
    folders = sorted({path.parent for path in images.paths})
    if len(folders) != num_classes:
        raise DataError(
            f"a network of {num_classes} classes needs images in {num_classes} folders, found {len(folders)}",
            "one sub-folder per class, or num_classes=0",
        )
    return torch.tensor([folders.index(path.parent) for path in images.paths])
