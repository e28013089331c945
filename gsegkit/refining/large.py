"""Photographs whose probabilities would not fit into memory: labelled at a working size, enlarged strip by strip."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from gsegkit.refining import Predictor

MOST_VALUES = 2**27  # probabilities of one photograph that are held at full size: 512 MB
WORKING_VALUES = 2**25  # of one that has more: refiners need several times as much
STRIP_VALUES = 2**24


def working_size(height: int, width: int, num_classes: int) -> tuple[int, int] | None:
    """(height, width) at which a photograph is labelled; None = its own."""
    if height * width * num_classes <= MOST_VALUES:
        return None
    scale = (WORKING_VALUES / (height * width * num_classes)) ** 0.5
    return max(1, int(height * scale)), max(1, int(width * scale))


def label_large(predictor: Predictor, pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """Classes of one large photograph.

    The segmenter sees no more of a photograph than its training size, so little is lost; borders that refiners
    sharpen are as sharp as the working size.

    Args:
        predictor: labels it at the working size.
        pixels: [3, H, W] uint8.
        size: of `working_size`.

    Returns:
        [H, W] uint8 on the CPU, 255 where a refiner says so.
    """
    import torch
    import torch.nn.functional as F

    from gsegkit.types import IGNORE

    height, width = int(pixels.shape[1]), int(pixels.shape[2])
    batch = predictor.label(shrunk(pixels, size)[None])
    probs, ignored = batch.decided(), (batch.masks == IGNORE).cpu()
    found = torch.empty(height, width, dtype=torch.uint8)
    rows = max(1, STRIP_VALUES // (width * probs.shape[1]))
    # centres of the rows, as bilinear interpolation with align_corners=False places them
    places = ((torch.arange(height) + 0.5) * size[0] / height - 0.5).clamp(0, size[0] - 1)
    columns = (torch.arange(width) * size[1]) // width
    for top in range(0, height, rows):
        own = places[top : top + rows]
        above, share = own.long(), (own % 1).view(-1, 1).to(probs)
        below = (above + 1).clamp(max=size[0] - 1)
        between = probs[:, :, above] * (1 - share) + probs[:, :, below] * share
        wide = F.interpolate(between, size=(len(own), width), mode="bilinear", align_corners=False)
        strip = wide.argmax(dim=1)[0].to(torch.uint8).cpu()
        nearest = ignored[0][own.round().long()][:, columns]
        found[top : top + rows] = strip.masked_fill(nearest, IGNORE)
    return found


def shrunk(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """[3, H, W] uint8 at a smaller size: means of whole blocks first, strip by strip, then resized."""
    import torch
    import torch.nn.functional as F

    from gsegkit.images import resize_pixels

    height, width = int(pixels.shape[1]), int(pixels.shape[2])
    block = max(1, min(height // size[0], width // size[1]))
    if block > 1:
        rows = block * max(1, STRIP_VALUES // (block * 3 * width))
        strips = [pixels[:, top : top + rows] for top in range(0, height, rows)]
        means = [F.avg_pool2d(strip.float(), block, ceil_mode=True).round().to(torch.uint8) for strip in strips]
        pixels = torch.cat(means, dim=1)
    return resize_pixels(pixels[None], size)[0]
