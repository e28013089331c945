"""Pictures for miniatures: an ellipse on a ground, faces with parts; and how they are written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from gsegkit_datasets.sets.parts import OFFICIAL

QUALITY = 95  # of JPEGs
#: Parts of a drawn face in a unit square: part -> (middle x, middle y, half width, half height).
FACE = {
    "hair": (0.5, 0.36, 0.40, 0.34), "neck": (0.5, 0.86, 0.16, 0.16), "cloth": (0.5, 1.0, 0.45, 0.10),
    "skin": (0.5, 0.52, 0.28, 0.34), "l_eye": (0.38, 0.45, 0.06, 0.04), "r_eye": (0.62, 0.45, 0.06, 0.04),
    "l_brow": (0.38, 0.36, 0.08, 0.03), "r_brow": (0.62, 0.36, 0.08, 0.03), "nose": (0.5, 0.56, 0.05, 0.09),
    "mouth": (0.5, 0.72, 0.07, 0.02), "u_lip": (0.5, 0.69, 0.09, 0.02), "l_lip": (0.5, 0.76, 0.09, 0.03),
    "l_ear": (0.2, 0.52, 0.05, 0.08), "r_ear": (0.8, 0.52, 0.05, 0.08), "ear_r": (0.8, 0.63, 0.03, 0.03),
    "neck_l": (0.5, 0.93, 0.12, 0.03), "eye_g": (0.5, 0.45, 0.2, 0.06), "hat": (0.5, 0.06, 0.36, 0.08),
}  # fmt: skip
RARE = ("eye_g", "hat", "ear_r", "neck_l")  # absent from every second face


def size_of(index: int) -> tuple[int, int]:
    """(height, width) of drawn photograph number `index`: no two neighbours alike."""
    return 36 + 4 * (index % 3), 48 - 6 * (index % 2)


def ellipse(size: tuple[int, int], x: float, y: float, half_width: float, half_height: float) -> np.ndarray:
    """[H, W] bool; places and lengths are shares of width and height."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    across = ((columns + 0.5) / size[1] - x) / half_width
    down = ((rows + 0.5) / size[0] - y) / half_height
    found: np.ndarray = across**2 + down**2 <= 1
    return found


def blob(index: int, size: tuple[int, int] | None = None) -> np.ndarray:
    """[H, W] bool, the object of drawn photograph number `index`."""
    random = np.random.default_rng(index)
    x, y = random.uniform(0.4, 0.6, 2)
    return ellipse(size or size_of(index), x, y, *random.uniform(0.2, 0.3, 2))


def photograph(mask: np.ndarray, index: int) -> np.ndarray:
    """[H, W, 3] uint8: the regions of a mask in colours of their own, with noise."""
    random = np.random.default_rng(1000 + index)
    colours = random.integers(60, 200, (256, 3))
    noise = random.integers(-8, 9, (*mask.shape, 3))
    return (colours[mask.astype(np.uint8)] + noise).clip(0, 255).astype(np.uint8)


def votes(mask: np.ndarray) -> np.ndarray:
    """[H, W] uint8: five annotators' votes, 51 each; a majority exactly where the mask is."""
    deep, near = ndimage.binary_erosion(mask, iterations=2), ndimage.binary_dilation(mask)
    wide = ndimage.binary_dilation(near)
    found: np.ndarray = np.select([deep, mask, near, wide], [255, 153, 102, 51], 0).astype(np.uint8)
    return found


def soft_edges(mask: np.ndarray) -> np.ndarray:
    """[H, W] uint8: 255 and 0, with values between them along the edge; above 127 exactly where the mask is."""
    inner, outer = ndimage.binary_erosion(mask), ndimage.binary_dilation(mask)
    found: np.ndarray = np.select([inner, mask, outer], [255, 190, 60], 0).astype(np.uint8)
    return found


def face(index: int, side: int) -> dict[str, np.ndarray]:
    """Part -> [side, side] bool, of the parts that drawn face number `index` has."""
    names = [name for name in FACE if name not in RARE or index % 2]
    return {name: ellipse((side, side), *FACE[name]) for name in OFFICIAL if name in names}


def save(path: Path, array: np.ndarray, kind: str = "", palette: np.ndarray | None = None) -> None:
    """Write [H, W] or [H, W, 3] uint8, or [H, W] uint16, in the format of its name, or as `kind` whatever it says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(array)
    if palette is not None:
        image = image.convert("P") if image.mode != "L" else image
        image.putpalette(palette.astype(np.uint8).ravel().tolist())
    suffix = path.suffix.lower()
    image.save(path, kind or ("JPEG" if suffix in (".jpg", ".jpeg") else "PNG"), **_options(kind, suffix))


def stray(path: Path) -> None:
    """A file of the sort that a Mac leaves in archives: an image by its name, and none by its content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\0\5\26\7\0\2\0\0Mac OS X        ")


def _options(kind: str, suffix: str) -> dict[str, int]:
    return {"quality": QUALITY, "subsampling": 0} if not kind and suffix in (".jpg", ".jpeg") else {}
