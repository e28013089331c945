"""The filters that a network resamples with, out of the kernels that its file holds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NoReturn

import torch
from torch import Tensor

from gsegkit.errors import ArtifactError

USUAL_TAPS = (1.0, 3.0, 3.0, 1.0)
MAX_TAPS = 8


def filters(convolutions: Iterable[Tensor], images: Iterable[Tensor], notes: list[str]) -> dict[str, Any]:
    """Options of the filters.

    Args:
        convolutions: kernels of the up-sampling convolutions (and of the skips beside them).
        images: kernels that up-sample the image.
        notes: gets one if the file holds no kernels.

    Raises:
        ArtifactError: not a filter that a network of ours can have, or another one in each layer.
    """
    conv, image = _one(convolutions, "convolutions"), _one(images, "images")
    if not (conv or image):
        notes.append("the file holds no resampling filter: the usual one (1, 3, 3, 1) was assumed")
    taps = conv or image or USUAL_TAPS
    return {"resample_filter": taps, "image_filter": None if image in (None, taps) else image}


def _one(kernels: Iterable[Tensor], what: str) -> tuple[float, ...] | None:
    taps = {filter_taps(kernel) for kernel in kernels}
    if len(taps) > 1:
        shown = " and ".join(map(str, sorted(taps)))[:120]
        raise ArtifactError(f"different resampling filters in its {what}: {shown}", "one for all layers is supported")
    return taps.pop() if taps else None


def filter_taps(kernel: Tensor) -> tuple[float, ...]:
    """1-D taps of a stored resampling filter: [k], or the outer product [k, k]; of any gain, with leading axes of 1.

    Raises:
        ArtifactError: not a separable symmetric filter of 2 to 8 positive taps.
    """
    shape = list(kernel.shape)
    kernel = kernel.double().reshape([side for side in shape if side != 1] or [1])
    taps = kernel if kernel.ndim == 1 else kernel.sum(dim=0)
    if kernel.ndim > 2 or len(set(kernel.shape)) != 1 or not 2 <= kernel.shape[0] <= MAX_TAPS:
        _refuse(f"a resampling filter of shape {shape}")
    if not bool((taps > 0).all()):
        _refuse("a resampling filter with taps that are not positive")
    if kernel.ndim == 2 and not torch.allclose(taps[:, None] * taps[None] / taps.sum(), kernel, atol=1e-5):
        _refuse("a resampling filter that is not separable")
    if not torch.allclose(taps, taps.flip(0), rtol=1e-4):
        _refuse("a resampling filter that is not symmetric")
    taps = taps / taps.min()
    near = taps.round()
    rounded = near if torch.allclose(taps, near, atol=1e-3) else taps.mul(1e5).round().div(1e5)
    return tuple(rounded.tolist())


def _refuse(what: str) -> NoReturn:
    raise ArtifactError(what, f"separable symmetric filters of 2 to {MAX_TAPS} positive taps are supported")
