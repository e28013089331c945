"""Photographs whose probabilities would not fit into memory: segmented at a smaller size, enlarged strip by strip.

A segmenter sees no more of a photograph than its training size, so its own answer loses nothing: what is enlarged
strip by strip is what `Segmenter.probs` enlarges at once. Refiners work at the size of what they are given; they get a
working size, and borders that they sharpen are as sharp as that.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from gsegkit.types import LabelledBatch

MOST_VALUES = 2**27  # probabilities of one photograph that are held at full size: 512 MB
WORKING_VALUES = 2**24  # of one that has more: refiners need several times as much
STRIP_VALUES = 2**24  # enlarged at once: 64 MB, which glibc gives back at once; less could stay and add up


class Labels(Protocol):
    """What is asked of a `gsegkit.refining.Predictor` here."""

    classes: tuple[str, ...]
    segmenter: Any

    @property
    def one_view(self) -> bool:
        """Whether the answer is one pass of the network, enlarged."""
        ...

    def label(self, pixels: Tensor) -> LabelledBatch:
        """Photographs with their masks and probabilities."""
        ...


@dataclass(frozen=True)
class Strip:
    """Some rows of a photograph, on the CPU.

    Attributes:
        masks: [h, W] uint8, 255 where a refiner says so.
        values: [K, h, W] float32, probabilities or logits.
        logits: which of them.
    """

    masks: Tensor
    values: Tensor
    logits: bool = False

    @property
    def probs(self) -> Tensor:
        """[K, h, W] float32."""
        return self.values.softmax(dim=0) if self.logits else self.values


def working_size(predictor: Labels, height: int, width: int) -> tuple[int, int] | None:
    """(height, width) at which a photograph is labelled; None = its own, or what comes to the same."""
    values = height * width * len(predictor.classes)
    if values <= MOST_VALUES or predictor.one_view:
        return None
    scale = (WORKING_VALUES / values) ** 0.5
    return max(1, int(height * scale)), max(1, int(width * scale))


def label_one(predictor: Labels, pixels: Tensor) -> Tensor:
    """Classes of one photograph of any size: [3, H, W] uint8 -> [H, W] uint8 on the CPU, 255 where a refiner says."""
    import torch

    found, top = torch.empty(pixels.shape[1:], dtype=torch.uint8), 0
    for strip in strips(predictor, pixels):
        rows = len(strip.masks)
        found[top : top + rows] = strip.masks
        top += rows
    return found


def strips(predictor: Labels, pixels: Tensor) -> Iterator[Strip]:
    """One photograph from top to bottom: in one strip where its probabilities fit into memory, else in several.

    Args:
        predictor: labels it.
        pixels: [3, H, W] uint8.
    """
    height, width = int(pixels.shape[1]), int(pixels.shape[2])
    size = working_size(predictor, height, width)
    if size is not None:
        batch = predictor.label(shrunk(pixels, size)[None])
        yield from _enlarged(batch.decided(), _ignored(batch.masks), height, width, logits=False)
    elif height * width * len(predictor.classes) > MOST_VALUES:
        logits = predictor.segmenter.fitted_logits(pixels[None])  # see `one_view`
        yield from _enlarged(logits, None, height, width, logits=True)
    else:
        batch = predictor.label(pixels[None])
        yield Strip(batch.masks[0].cpu(), batch.decided()[0].cpu())


def _ignored(masks: Tensor) -> Tensor:
    from gsegkit.types import IGNORE

    return (masks[0] == IGNORE).cpu()


def _enlarged(values: Tensor, ignored: Tensor | None, height: int, width: int, *, logits: bool) -> Iterator[Strip]:
    """[1, K, h, w] probabilities or logits, and [h, w] bool, at (height, width), strip by strip."""
    import torch
    import torch.nn.functional as F

    from gsegkit.types import IGNORE

    size = (int(values.shape[2]), int(values.shape[3]))
    rows = max(1, STRIP_VALUES // (width * values.shape[1]))
    # centres of the rows, as bilinear interpolation with align_corners=False places them
    places = ((torch.arange(height) + 0.5) * size[0] / height - 0.5).clamp(0, size[0] - 1)
    columns = (torch.arange(width) * size[1]) // width
    for top in range(0, height, rows):
        own = places[top : top + rows]
        above, share = own.long(), (own % 1).view(-1, 1).to(values)
        below = (above + 1).clamp(max=size[0] - 1)
        between = values[:, :, above] * (1 - share) + values[:, :, below] * share
        wide = F.interpolate(between, size=(len(own), width), mode="bilinear", align_corners=False)[0].cpu()
        masks = wide.argmax(dim=0).to(torch.uint8)
        if ignored is not None:
            masks = masks.masked_fill(ignored[own.round().long()][:, columns], IGNORE)
        yield Strip(masks, wide, logits)


def shrunk(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """[3, H, W] uint8 at a smaller size: means of whole blocks first, strip by strip, then resized."""
    import torch
    import torch.nn.functional as F

    from gsegkit.images import resize_pixels

    height, width = int(pixels.shape[1]), int(pixels.shape[2])
    block = max(1, min(height // size[0], width // size[1]))
    if block > 1:
        rows = block * max(1, STRIP_VALUES // (block * 3 * width))
        parts = [pixels[:, top : top + rows] for top in range(0, height, rows)]
        means = [F.avg_pool2d(part.float(), block, ceil_mode=True).round().to(torch.uint8) for part in parts]
        pixels = torch.cat(means, dim=1)
    return resize_pixels(pixels[None], size)[0]
