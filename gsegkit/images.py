"""Images: float <-> pixels, reading (see `gsegkit.reading`), atomic writing, fitting to a size, grids, grey values.

The only place that knows 127.5.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from gsegkit.reading.files import list_images as list_images
from gsegkit.reading.images import image_size as image_size
from gsegkit.reading.images import read_image as read_image
from gsegkit.reading.images import read_mask as read_mask
from gsegkit.records.parts import FIT_RULES
from gsegkit.storage import atomic_write

STRIP_VALUES = 2**24  # resized at once
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
PEAK_BINS = 12  # of histogram_peaks: released code of Voynov et al. and of Melas-Kyriazi et al.


def to_pixels(images: Tensor) -> Tensor:
    """[..., H, W] float in [-1, 1] -> uint8: clip(images * 127.5 + 128)."""
    return (images.float() * 127.5 + 128).clamp(0, 255).to(torch.uint8)


def to_images(pixels: Tensor) -> Tensor:
    """uint8 -> float32 in [-1, 1]: pixels / 127.5 - 1.

    Example:
        >>> pixels = torch.arange(256, dtype=torch.uint8)
        >>> torch.equal(to_pixels(to_images(pixels)), pixels)
        True
    """
    return pixels.float() / 127.5 - 1


# ---- writing -----------------------------------------------------------------------------------------------------


def png_bytes(array: Tensor, palette: Tensor | None = None, level: int = 6) -> bytes:
    """Encode [3, H, W] (RGB) or [H, W] (grey, or indices into `palette` [256, 3]) uint8 as PNG; level 1 is fastest."""
    buffer = io.BytesIO()
    if array.ndim == 3:
        image = Image.fromarray(array.permute(1, 2, 0).cpu().numpy())
    else:
        image = Image.fromarray(array.cpu().numpy())
        if palette is not None:
            image = image.convert("L")
            image.putpalette(palette.flatten().tolist())
    image.save(buffer, "PNG", optimize=False, compress_level=level)
    return buffer.getvalue()


def write_png(path: str | Path, array: Tensor, palette: Tensor | None = None) -> None:
    """Write a PNG atomically; see `png_bytes`. StorageError when it cannot be written."""
    atomic_write(Path(path), png_bytes(array, palette))


# ---- sizes -------------------------------------------------------------------------------------------------------


def resize_pixels(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize [N, 3, H, W] uint8 with antialiasing (bilinear) to (height, width); uint8."""
    if tuple(pixels.shape[-2:]) == tuple(size):
        return pixels
    if pixels.numel() > STRIP_VALUES:  # the width first, as one call does it too: never held as floats as a whole
        rows = max(1, STRIP_VALUES // pixels[..., 0, :].numel())
        pixels = torch.cat([_resized(part, (part.shape[-2], size[1])) for part in pixels.split(rows, dim=-2)], dim=-2)
    return _resized(pixels, size).round().clamp(0, 255).to(torch.uint8)


def _resized(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(pixels.float(), size=size, mode="bilinear", antialias=True, align_corners=False)


def fit_pixels(pixels: Tensor, size: tuple[int, int], rule: str) -> Tensor:
    """Bring photographs to a network's size.

    Args:
        pixels: [N, 3, H, W] uint8.
        size: (height, width) of the network's images.
        rule: "squash" ignores the aspect; "crop" scales until `size` is covered and keeps the rest (nothing is cut:
            the network is fully convolutional; training crops the centre itself); "pad" scales until the image fits
            and pads with the edge; "native" leaves it as it is.

    Returns:
        [N, 3, h, w] uint8; exactly `size` for "squash" and "pad".
    """
    height, width = int(pixels.shape[-2]), int(pixels.shape[-1])
    if rule == "native":
        return pixels
    if rule == "squash":
        return resize_pixels(pixels, size)
    if rule == "crop":
        return resize_pixels(pixels, fitted_size(height, width, size, rule))
    if rule == "pad":
        inner = fitted_size(height, width, size, rule)
        top, left = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
        pads = (left, size[1] - inner[1] - left, top, size[0] - inner[0] - top)
        return F.pad(resize_pixels(pixels, inner).float(), pads, mode="replicate").to(torch.uint8)
    raise ValueError(f"fit rule must be one of {FIT_RULES}, got {rule!r}")


def unfit_logits(logits: Tensor, size: tuple[int, int], train_size: tuple[int, int], rule: str) -> Tensor:
    """Bring [N, K, h, w] logits of fitted photographs back to the photographs' (height, width)."""
    return enlarge_logits(without_pads(logits, size, train_size, rule), size)


def without_pads(logits: Tensor, size: tuple[int, int], train_size: tuple[int, int], rule: str) -> Tensor:
    """[N, K, h, w] logits of fitted photographs less what "pad" added around them; `size` is the photographs'."""
    if rule != "pad":
        return logits
    inner = fitted_size(*size, train_size, rule)
    top, left = (train_size[0] - inner[0]) // 2, (train_size[1] - inner[1]) // 2
    return logits[..., top : top + inner[0], left : left + inner[1]]


def enlarge_logits(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """[N, K, h, w] logits at (height, width), bilinearly."""
    if tuple(logits.shape[-2:]) == tuple(size):
        return logits
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)


def centre_crop(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """Cut the centre (height, width) out of [..., H, W]."""
    top = (pixels.shape[-2] - size[0]) // 2
    left = (pixels.shape[-1] - size[1]) // 2
    return pixels[..., top : top + size[0], left : left + size[1]]


def shrunk_size(height: int, width: int, side: int) -> tuple[int, int]:
    """(height, width) whose longer side is at most `side`, with the same aspect; never larger than it was."""
    return scaled_size(height, width, min(1.0, side / max(height, width)))


def scaled_size(height: int, width: int, scale: float) -> tuple[int, int]:
    """(height, width) times `scale`, each rounded and at least 1."""
    return max(1, round(height * scale)), max(1, round(width * scale))


def fitted_size(height: int, width: int, size: tuple[int, int], rule: str) -> tuple[int, int]:
    """(height, width) that a fit rule scales a photograph to; in whole numbers, so that a tracer's sizes pass too."""
    if rule == "squash":
        return size
    rows, columns = _quotient(height * size[1], width), _quotient(width * size[0], height)
    pick: Any = torch.sym_max if rule == "crop" else torch.sym_min
    return pick(size[0], torch.sym_max(1, rows)), pick(size[1], torch.sym_max(1, columns))


def _quotient(value: int, by: int) -> int:
    whole, rest = value // by, value % by  # rounded half to even
    return whole + (2 * rest + whole % 2) // (by + 1)


# ---- sheets ----------------------------------------------------------------------------------------------------


def grid(pixels: Tensor, columns: int, gap: int = 2) -> Tensor:
    """Lay [N, 3, H, W] uint8 out in rows of `columns` with a white gap; [3, h, w] uint8.

    Example:
        >>> grid(torch.zeros(5, 3, 16, 16, dtype=torch.uint8), columns=3).shape
        torch.Size([3, 34, 52])
    """
    n, _, h, w = pixels.shape
    columns = max(1, min(columns, n))
    rows = -(-n // columns)
    sheet = torch.full((3, rows * (h + gap) - gap, columns * (w + gap) - gap), 255, dtype=torch.uint8)
    for i in range(n):
        top, left = i // columns * (h + gap), i % columns * (w + gap)
        sheet[:, top : top + h, left : left + w] = pixels[i].cpu()
    return sheet


# ---- numbers of an image -----------------------------------------------------------------------------------------


def luma(images: Tensor, weights: Sequence[float] = LUMA) -> Tensor:
    """Grey values: [..., 3, H, W] of any range -> [..., 1, H, W] of the same range; differentiable for float images.

    Args:
        images: RGB; uint8 becomes float32.
        weights: of red, green and blue.
    """
    images = images if images.is_floating_point() else images.float()
    return (images * images.new_tensor(weights).view(3, 1, 1)).sum(dim=-3, keepdim=True)


def otsu(counts: Tensor) -> Tensor:
    """Otsu's threshold of a histogram: bins up to and including it are the dark group.

    Args:
        counts: [K] float64, values in each bin.

    Returns:
        [] int64 in 0 .. K - 2, the split with the greatest variance between the two groups; the first of equal ones.
    """
    below = counts.cumsum(0)[:-1]
    above = counts.sum() - below
    centres = torch.arange(len(counts), dtype=torch.float64, device=counts.device) + 0.5
    moments = (counts * centres).cumsum(0)
    gap = moments[:-1] / below.clamp_min(1) - (moments[-1] - moments[:-1]) / above.clamp_min(1)
    return (below * above * gap.square()).argmax()


def histogram_peaks(images: Tensor) -> Tensor:
    """Maxima of the coarse histogram of each image: [N, 3, H, W] float32 -> [N] float32.

    All channel values go into 12 bins on [-1, 1], values outside are left out; counts are smoothed by a box of width 3
    with zeros beyond the ends; a bin that is below neither neighbour is a maximum. Equal bins all count, so a blank
    image has many.
    """
    counts = [torch.histc(image.float().cpu(), bins=PEAK_BINS, min=-1, max=1) for image in images]
    if not counts:
        return torch.zeros(0, device=images.device)
    padded = F.pad(torch.stack(counts).double(), (1, 1))
    smooth = F.pad(padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:], (1, 1), value=-1.0)
    inner = smooth[:, 1:-1]
    peaks = (inner >= smooth[:, :-2]) & (inner >= smooth[:, 2:])
    return peaks.sum(dim=1).float().to(images.device)
