"""What an exported file computes: a photograph of any size in, its classes at that size out, as `predict` gives them.

The steps are those of `Segmenter.probs`, written so that one traced graph serves every size and every runtime: resizing
is a product with two matrices that the graph makes from the photograph's size, because runtimes disagree on their own
resize operators (antialiasing above all) and browsers lack them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gsegkit.images import fitted_size
from gsegkit.interfaces import Segmenter


class PixelsToClasses(nn.Module):
    """What is exported: fit, normalise, segment, and bring back; `Segmenter.probs` without scales or mirror images."""

    def __init__(self, segmenter: Segmenter) -> None:
        super().__init__()
        self.segmenter = segmenter

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """[N, 3, H, W] uint8, or float32 in 0 .. 1 -> classes [N, H, W] uint8 and probabilities [N, K, H, W] float32.

        A traced graph keeps to the dtype it was traced with. Floats are brought to 8 bits first, as `predict` reads
        photographs; values outside 0 .. 1 count as the nearest end.
        """
        levels = (pixels * 255).round().clamp(0, 255) if pixels.is_floating_point() else pixels.float()
        probs = self.logits(levels).softmax(dim=1)
        return probs.argmax(dim=1).to(torch.uint8), probs

    def logits(self, pixels: Tensor) -> Tensor:
        """[N, 3, H, W] float32 in 0 .. 255 -> [N, K, H, W] float32."""
        size, aim, rule = (pixels.shape[-2], pixels.shape[-1]), self.segmenter.train_size, self.segmenter.fit_rule
        if rule == "native":
            return self.segmenter.logits(pixels / 127.5 - 1)
        inner = fitted_size(*size, aim, rule)
        fitted = resize(pixels, inner, antialias=True).round().clamp(0, 255)
        if rule == "pad":
            top, left = (aim[0] - inner[0]) // 2, (aim[1] - inner[1]) // 2
            fitted = fitted[:, :, _held(aim[0], top, inner[0])][:, :, :, _held(aim[1], left, inner[1])]
        logits = self.segmenter.logits(fitted / 127.5 - 1)
        if rule == "pad":
            logits = logits[:, :, torch.arange(inner[0]) + top][:, :, :, torch.arange(inner[1]) + left]
        return resize(logits, size, antialias=False)


def resize(maps: Tensor, size: tuple[int, int], *, antialias: bool) -> Tensor:
    """Bilinear resize of [..., H, W] float32 to (height, width), as `F.interpolate(align_corners=False)` does it."""
    rows = resize_matrix(maps.shape[-2], size[0], antialias=antialias)
    columns = resize_matrix(maps.shape[-1], size[1], antialias=antialias)
    resized: Tensor = rows @ maps @ columns.T
    return resized


def resize_matrix(source: int, target: int, *, antialias: bool) -> Tensor:
    """[target, source] float32 whose rows are the weights of the source's pixels in a target pixel.

    A triangle around the target pixel's centre, of width 1 or, antialiased, of the target pixel's own width.
    """
    scale = torch.sym_float(source) / torch.sym_float(target)
    width = torch.sym_max(scale, 1.0) if antialias else 1.0
    centres: Tensor = (torch.arange(target, dtype=torch.float32) + 0.5) * scale  # type: ignore[assignment]
    if not antialias:  # beyond the outermost centres the outermost pixel counts alone
        centres = centres.clamp(min=0.5).minimum(torch.ones_like(centres) * (source - 0.5))
    pixels = torch.arange(source, dtype=torch.float32) + 0.5
    distances: Tensor = (pixels[None] - centres[:, None]).abs() / width  # type: ignore[assignment]
    weights = (1 - distances).clamp(min=0)
    return weights / weights.sum(dim=1, keepdim=True)


def _held(length: int, start: int, count: int) -> Tensor:
    """[length] int64: positions 0 .. count - 1 from `start` on, the first and last held before and after."""
    positions = (torch.arange(length) - start).clamp(min=0)
    return positions.minimum(torch.ones_like(positions) * (count - 1))
