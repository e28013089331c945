"""Adaptive discriminator augmentation (Karras et al. 2020, "Training GANs with Limited Data").

Every transformation is applied to each image with probability p; all are invertible as distributions for p < 0.8, so
they do not leak into the samples. Differentiable in the images. All geometric draws are composed into one matrix and
one resampling; all colour draws into one 3 x 4 matrix. Draws and strengths are those of the paper's appendix B.

# differs from the paper: the resampling is one bicubic lookup. The paper scales the image up with a wavelet filter
#   (sym6), warps it and filters it down. Without that low-pass, images that shrink alias a little; a step is faster.
# differs from the paper: filtering and corruption (noise, cutout) are left out, as in the paper's own final choice.
# differs from the paper: D's step judges the same fakes as G's step before it, augmented by other draws; the paper
#   draws new latents. This saves one pass through the generator a step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gsegkit.training import upload

MAX_P = 0.8  # beyond it, augmentations start to leak (section 2.2 of the paper)


class AdaController:
    """p follows the overfitting signal r_t = E[sign D(real)]: up when above the target, down when below."""

    def __init__(self, target: float, kimg: float, interval: int, batch_size: int, start: float = 0.0) -> None:
        self.target, self.interval = target, interval
        self.increment = interval * batch_size / (kimg * 1000)
        self.p = start if target > 0 else 0.0
        self.signs = 0.0
        self.count = 0
        self.r_t = 0.0
        self._unread: list[Tensor] = []  # of the steps since the last look; reading a number stalls a GPU

    def update(self, step: int, real_logits: Tensor) -> None:
        """Note the signs of a step's real logits; every `interval` steps change p."""
        if self.target <= 0:
            return
        self._unread.append(real_logits.detach().sign().mean())
        if (step + 1) % self.interval == 0:
            self._read()
            self.r_t = self.signs / self.count
            direction = 1.0 if self.r_t > self.target else -1.0
            self.p = min(max(self.p + direction * self.increment, 0.0), MAX_P)
            self.signs, self.count = 0.0, 0

    def state_dict(self) -> dict[str, Any]:
        """All that changes."""
        self._read()
        return {"p": self.p, "signs": self.signs, "count": self.count, "r_t": self.r_t}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """Take a state back."""
        self.p, self.signs = float(state["p"]), float(state["signs"])
        self.count, self.r_t = int(state["count"]), float(state["r_t"])
        self._unread = []

    def _read(self) -> None:
        if self._unread:
            self.signs = sum(torch.stack(self._unread).tolist(), self.signs)
            self.count += len(self._unread)
            self._unread = []


def augment(images: Tensor, p: float, kinds: Sequence[str], generator: torch.Generator) -> Tensor:
    """Augment [N, 3, H, W] float32 images, each transformation with probability p.

    Args:
        images: in [-1, 1] or beyond.
        p: probability in [0, 1]; 0 returns the images themselves.
        kinds: of "blit", "geometry", "colour".
        generator: CPU generator of the draws.
    """
    drawn = draw_augmentation(len(images), images.shape[-1], p, kinds, generator)
    return apply_augmentation(images, {name: upload(matrix, images.device) for name, matrix in drawn.items()})


def draw_augmentation(
    n: int, side: int, p: float, kinds: Sequence[str], generator: torch.Generator
) -> dict[str, Tensor]:
    """What `augment` draws for n images of this side, on the CPU: nothing at p = 0.

    Returns:
        "warp": [n, 2, 3], where each output pixel looks; "colour": [n, 3, 4], an affine map of RGB. Both float32.
    """
    if p <= 0:
        return {}
    draw = _Draws(n, p, generator)
    drawn = {}
    if "blit" in kinds or "geometry" in kinds:
        drawn["warp"] = _geometry(draw, kinds, side)[:, :2]
    if "colour" in kinds:
        drawn["colour"] = _colour(draw)
    return drawn


def apply_augmentation(images: Tensor, drawn: Mapping[str, Tensor]) -> Tensor:
    """[N, 3, H, W] float32 under what `draw_augmentation` drew, on the images' device; differentiable."""
    if "warp" in drawn:
        images = _warp(images, drawn["warp"])
    if "colour" in drawn:
        images = _recolour(images, drawn["colour"])
    return images


class _Draws:
    """Per-image random numbers: a value where the coin with probability p says so, else the identity's."""

    def __init__(self, n: int, p: float, generator: torch.Generator) -> None:
        self.n, self.p, self.generator = n, p, generator

    def normal(self, std: float) -> Tensor:
        return self._gate(torch.randn(self.n, generator=self.generator) * std)

    def normals(self, std: float, axes: int) -> tuple[Tensor, ...]:
        """One number an axis, all axes of an image under the same coin."""
        return self._gate(torch.randn(axes, self.n, generator=self.generator) * std).unbind()

    def uniform(self, low: float, high: float, p: float | None = None) -> Tensor:
        return self._gate(torch.rand(self.n, generator=self.generator) * (high - low) + low, p)

    def uniforms(self, low: float, high: float, axes: int) -> tuple[Tensor, ...]:
        """One number an axis, all axes of an image under the same coin."""
        return self._gate(torch.rand(axes, self.n, generator=self.generator) * (high - low) + low).unbind()

    def integer(self, high: int) -> Tensor:
        return self._gate(torch.randint(0, high, (self.n,), generator=self.generator).float())

    def _gate(self, values: Tensor, p: float | None = None) -> Tensor:
        coin = torch.rand(self.n, generator=self.generator) < (self.p if p is None else p)
        return torch.where(coin, values, torch.zeros_like(values))


# ---- geometry ----------------------------------------------------------------------------------------------------


def _geometry(draw: _Draws, kinds: Sequence[str], side: int) -> Tensor:
    """[N, 3, 3]: where each output pixel looks, in coordinates from -1 to 1."""
    matrix = torch.eye(3).repeat(draw.n, 1, 1)
    if "blit" in kinds:
        flip = 1 - 2 * draw.integer(2)
        matrix = matrix @ _scaling(flip, torch.ones_like(flip))
        matrix = matrix @ _rotation(draw.integer(4) * (math.pi / 2))
        # Whole pixels, at most an eighth of the image; one pixel is 2 / side.
        shifts = [(share * side).round() * (2 / side) for share in draw.uniforms(-0.125, 0.125, 2)]
        matrix = matrix @ _translation(*shifts)
    if "geometry" in kinds:
        half = 1 - math.sqrt(1 - draw.p)  # two rotations around the stretch, together with probability p
        scale = torch.exp2(draw.normal(0.2))
        matrix = matrix @ _scaling(scale, scale)
        matrix = matrix @ _rotation(draw.uniform(-math.pi, math.pi, half))
        stretch = torch.exp2(draw.normal(0.2))
        matrix = matrix @ _scaling(stretch, 1 / stretch)
        matrix = matrix @ _rotation(draw.uniform(-math.pi, math.pi, half))
        matrix = matrix @ _translation(*(share * 2 for share in draw.normals(0.125, 2)))
    return matrix


def _matrix(rows: list[list[Tensor]]) -> Tensor:
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def _scaling(x: Tensor, y: Tensor) -> Tensor:
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    return _matrix([[x, zero, zero], [zero, y, zero], [zero, zero, one]])


def _rotation(angle: Tensor) -> Tensor:
    zero, one, c, s = torch.zeros_like(angle), torch.ones_like(angle), angle.cos(), angle.sin()
    return _matrix([[c, -s, zero], [s, c, zero], [zero, zero, one]])


def _translation(x: Tensor, y: Tensor) -> Tensor:
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    return _matrix([[one, zero, x], [zero, one, y], [zero, zero, one]])


def _warp(images: Tensor, theta: Tensor) -> Tensor:
    points = F.affine_grid(theta.to(images.dtype), list(images.shape), align_corners=False)
    # Bicubic: whole-pixel moves stay exact, and little of the finest detail is lost to the resampling.
    return F.grid_sample(images, points, mode="bicubic", padding_mode="reflection", align_corners=False)


# ---- colour ------------------------------------------------------------------------------------------------------


def _colour(draw: _Draws) -> Tensor:
    """[N, 3, 4]: an affine map of RGB."""
    axis = torch.full((3,), 1 / math.sqrt(3))
    grey = torch.outer(axis, axis)
    eye = torch.eye(3)
    contrast = torch.exp2(draw.normal(0.5))[:, None, None]
    shift = draw.normal(0.2)[:, None, None] * torch.ones(3, 1)
    matrix, offset = contrast * eye, contrast * shift
    luma_flip = draw.integer(2)[:, None, None]
    mirror = eye - 2 * grey * luma_flip
    hue = draw.uniform(-math.pi, math.pi)[:, None, None]
    cross = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
    turn = eye * hue.cos() + cross * hue.sin() + grey * (1 - hue.cos())
    saturation = torch.exp2(draw.normal(1.0))[:, None, None]
    saturate = grey + (eye - grey) * saturation
    change = saturate @ turn @ mirror
    return torch.cat([change @ matrix, change @ offset], dim=2)


def _recolour(images: Tensor, matrix: Tensor) -> Tensor:
    matrix = matrix.to(images.dtype)
    flat = torch.baddbmm(matrix[:, :, 3:], matrix[:, :, :3], images.flatten(2))
    return flat.reshape(images.shape)
