"""Images: float <-> pixels, safe reading, atomic writing, fitting to a size, grids, grey values and histograms.

The only place that knows 127.5, and the only boundary through which image files enter.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor

from gsegkit.errors import DataError
from gsegkit.records.parts import FIT_RULES, MAX_SIDE
from gsegkit.storage import atomic_write

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")  # by content, not by file name
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
MAX_PIXELS = 120_000_000
MAX_BYTES = 64 * 2**20
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


# ---- reading -----------------------------------------------------------------------------------------------------


def read_image(path: str | Path) -> Tensor:
    """Read a photograph as RGB, upright (EXIF applied), transparency composited on white.

    Returns:
        [3, H, W] uint8.

    Raises:
        DataError: missing, empty, truncated, corrupt, of another format, or too large; names the file.
    """
    image = _open(Path(path))
    if image.mode in ("I", "I;16", "I;16B", "F"):
        raise DataError(
            f"'{path}' has {image.mode} pixels (more than 8 bits per channel)",
            "convert it to 8 bits with a contrast range of your choice",
        )
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(ground, image)
    array = np.array(image if image.mode == "RGB" else image.convert("RGB"))  # convert always copies
    del image  # a photograph of 108 megapixels is 432 MB in Pillow
    return torch.from_numpy(array).permute(2, 0, 1).contiguous()


def read_mask(path: str | Path) -> Tensor:
    """Read a mask as it is stored: label indices, 0/255, or palette indices.

    Returns:
        [H, W] uint8, the stored numbers.

    Raises:
        DataError: unreadable, or a colour image.
    """
    image = _open(Path(path))
    if image.mode == "1":
        image = image.convert("L")
    if image.mode in ("I", "I;16", "I;16B"):
        array = np.array(image)
        if array.min() < 0 or array.max() > 255:
            raise DataError(f"mask '{path}' holds values up to {array.max()}", "masks hold 0 .. 255")
        return torch.from_numpy(array.astype(np.uint8))
    if image.mode not in ("L", "P"):
        array = np.array(image.convert("RGB"))
        if not (array == array[..., :1]).all():
            raise DataError(
                f"mask '{path}' is a colour image ({image.mode})",
                "store label indices in an 8-bit grey or palette PNG",
            )
        return torch.from_numpy(array[..., 0].copy())
    return torch.from_numpy(np.array(image))


def image_size(path: str | Path) -> tuple[int, int]:
    """(height, width) after EXIF rotation; decodes no pixels where the format keeps its EXIF in front of them.

    Raises:
        DataError: as `read_image`.
    """
    with _header(Path(path)) as image:
        width, height = image.size
        try:
            turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
        except Exception as error:  # see _header
            raise _damaged(path, error) from None
    return (width, height) if turned else (height, width)


def list_images(folder: str | Path) -> list[Path]:
    """Image files of a folder and its sub-folders, by suffix, in a stable order; hidden ones are skipped.

    Raises:
        DataError: the folder is missing, not a folder, or holds no image.
    """
    folder = Path(folder)
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise DataError(f"image folder '{folder}' {what}", "check the path")
    paths = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    if not paths:
        raise DataError(f"folder '{folder}' contains no image", f"image files end in {', '.join(SUFFIXES)}")
    return paths


def _header(path: Path) -> Image.Image:
    try:
        size = path.stat().st_size
        if size == 0:
            raise DataError(f"image '{path}' is empty (0 bytes)", "remove it or copy it again")
        if size > MAX_BYTES:
            raise DataError(
                f"image '{path}' has {size / 2**20:.0f} MB",
                f"the limit is {MAX_BYTES >> 20} MB; shrink it",
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(path, formats=FORMATS)
    except OSError as error:
        reason = error.strerror or "not an image that can be read"
        raise DataError(f"cannot read image '{path}': {reason}", f"formats: {', '.join(FORMATS)}") from None
    except Exception as error:  # Pillow's decoders leak SyntaxError, ValueError, struct.error, bomb errors ...
        raise DataError(f"cannot read image '{path}': {error}", "remove it or copy it again") from None
    width, height = image.size
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        image.close()
        raise DataError(
            f"image '{path}' is {width} x {height}",
            f"the limit is {MAX_PIXELS // 10**6} megapixels and {MAX_SIDE} px per side; shrink it",
        )
    return image


def _open(path: Path) -> Image.Image:
    image = _header(path)
    try:
        image.load()
        return ImageOps.exif_transpose(image)
    except Exception as error:  # see _header
        raise _damaged(path, error) from None
    finally:
        image.close()


def _damaged(path: str | Path, error: Exception) -> DataError:
    return DataError(f"image '{path}' is damaged: {error}", "remove it or copy it again")


# ---- writing -----------------------------------------------------------------------------------------------------


def png_bytes(array: Tensor, palette: Tensor | None = None) -> bytes:
    """Encode [3, H, W] (RGB) or [H, W] (grey, or indices into `palette` [256, 3]) uint8 as PNG."""
    buffer = io.BytesIO()
    if array.ndim == 3:
        image = Image.fromarray(array.permute(1, 2, 0).cpu().numpy())
    else:
        image = Image.fromarray(array.cpu().numpy())
        if palette is not None:
            image = image.convert("L")
            image.putpalette(palette.flatten().tolist())
    image.save(buffer, "PNG", optimize=False)
    return buffer.getvalue()


def write_png(path: str | Path, array: Tensor, palette: Tensor | None = None) -> None:
    """Write a PNG atomically; see `png_bytes`. StorageError when it cannot be written."""
    atomic_write(Path(path), png_bytes(array, palette))


# ---- sizes -------------------------------------------------------------------------------------------------------


def resize_pixels(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize [N, 3, H, W] uint8 with antialiasing (bilinear) to (height, width); uint8."""
    if tuple(pixels.shape[-2:]) == tuple(size):
        return pixels
    resized = F.interpolate(pixels.float(), size=size, mode="bilinear", antialias=True, align_corners=False)
    return resized.round().clamp(0, 255).to(torch.uint8)


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
    if rule == "pad":
        inner = fitted_size(*size, train_size, rule)
        top, left = (train_size[0] - inner[0]) // 2, (train_size[1] - inner[1]) // 2
        logits = logits[..., top : top + inner[0], left : left + inner[1]]
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
