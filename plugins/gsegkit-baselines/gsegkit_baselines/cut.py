"""GrabCut by OpenCV, from a rectangle or from a mask; the only module that imports OpenCV."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gsegkit.images import resize_pixels, shrunk_size
from gsegkit_baselines.base import Mask
from gsegkit_baselines.config import GrabCutConfig

FEWEST = 10  # pixels inside and outside: each side gets a mixture of five Gaussians
SIDE = 640  # longest side at which a mask is cut


def from_rectangle(pixels: Tensor, config: GrabCutConfig) -> Mask:
    """[3, H, W] uint8 -> foreground [H, W]: GrabCut from a rectangle `config.inset` of the sides inside the border."""
    height, width = shrunk_size(int(pixels.shape[1]), int(pixels.shape[2]), config.side)
    x, y = max(1, round(config.inset * width)), max(1, round(config.inset * height))
    start = np.full((height, width), cv2.GC_BGD, np.uint8)
    start[y : height - y, x : width - x] = cv2.GC_PR_FGD
    return _cut(pixels, start, config.rounds, config.seed)


def from_mask(pixels: Tensor, probably: Mask, rounds: int, seed: int = 0) -> Mask:
    """[3, H, W] uint8 -> foreground [H, W]: GrabCut from what is probably foreground, [H, W]."""
    size = shrunk_size(int(pixels.shape[1]), int(pixels.shape[2]), SIDE)
    small = cv2.resize(probably.astype(np.uint8), size[::-1], interpolation=cv2.INTER_NEAREST)
    start = np.where(small > 0, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    return _cut(pixels, start, rounds, seed)


def _cut(pixels: Tensor, start: NDArray[np.uint8], rounds: int, seed: int) -> Mask:
    """Foreground at the size of `pixels`; with too few pixels for mixtures on a side, the start as it is."""
    height, width = start.shape
    small = resize_pixels(pixels[None], (height, width))[0]
    image = np.ascontiguousarray(small.permute(1, 2, 0).numpy()[:, :, ::-1])
    inside = (start == cv2.GC_FGD) | (start == cv2.GC_PR_FGD)
    plain = bool((small.flatten(1) == small.flatten(1)[:, :1]).all())
    if plain:
        return np.zeros(tuple(pixels.shape[1:]), dtype=bool)
    if min(inside.sum(), (~inside).sum()) >= FEWEST:
        mask, models = start.copy(), (np.zeros((1, 65)), np.zeros((1, 65)))
        cv2.setRNGSeed(seed)
        cv2.grabCut(image, mask, (0, 0, 0, 0), *models, rounds, cv2.GC_INIT_WITH_MASK)
        inside = (mask == cv2.GC_FGD) | (mask == cv2.GC_PR_FGD)
    if inside.shape == tuple(pixels.shape[1:]):
        return inside
    share = torch.from_numpy(inside).float()[None, None]
    return (torch.nn.functional.interpolate(share, tuple(pixels.shape[1:]), mode="bilinear")[0, 0] > 0.5).numpy()
