"""Eq. 2 and 3: layers become an image, with and without a perturbation of the object."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from gsegkit_layered.networks import Layers


@dataclass(frozen=True)
class Perturbation:
    """One draw of T and of the background's contrast for each image.

    Attributes:
        scale: [N] factors of the object's size.
        angle: [N] in radians, counter-clockwise as seen.
        shift: [N, 2] to the right and down, as a share of the side.
        contrast: [N] factors.
    """

    scale: Tensor
    angle: Tensor
    shift: Tensor
    contrast: Tensor

    @staticmethod
    def draw(
        count: int, side: int, *, scale: float, rotation: float, shift: float, contrast: float, whole_pixels: bool
    ) -> Perturbation:
        """Uniform draws from torch's global generator, on the CPU, so that they do not depend on the device."""
        u = torch.rand(5, count) * 2 - 1
        moves = u[2:4].T * shift
        if whole_pixels:
            moves = (moves * side).round() / side
        return Perturbation(1 + scale * u[0], math.radians(rotation) * u[1], moves, 1 + contrast * u[4])

    def of(self, rows: slice) -> Perturbation:
        """Those of some rows of the batch."""
        return Perturbation(self.scale[rows], self.angle[rows], self.shift[rows], self.contrast[rows])

    def to(self, device: torch.device) -> Perturbation:
        """The same on a device."""
        return Perturbation(*(value.to(device) for value in (self.scale, self.angle, self.shift, self.contrast)))


def compose(layers: Layers) -> Tensor:
    """Eq. 2: (1 - m) b + m f, [N, 3, H, W]."""
    return (1 - layers.m) * layers.b + layers.m * layers.f


def perturbed(layers: Layers, t: Perturbation) -> tuple[Tensor, Tensor]:
    """Eq. 3: (1 - T(m)) b' + T(m) T(f), [N, 3, H, W]; and T(m), [N, 1, H, W]."""
    moved = transform(torch.cat([layers.f, layers.m], dim=1), t)
    f, m = moved[:, :3], moved[:, 3:]
    return (1 - m) * jitter_contrast(layers.b, t.contrast) + m * f, m


def transform(maps: Tensor, t: Perturbation) -> Tensor:
    """Eq. 9 and 10: scale, then rotate, then move [N, C, H, W] about the centre.

    What comes in from outside is 0. That matters: the background shows there, so an object that fills the image would
    leave a visible edge.
    """
    cos, sin = torch.cos(t.angle) / t.scale, torch.sin(t.angle) / t.scale
    x, y = 2 * t.shift[:, 0], 2 * t.shift[:, 1]  # the sampling grid is 2 wide
    # grid_sample asks where each pixel comes from: the inverse, move back, rotate back, scale back; y points down
    rows = torch.stack([cos, -sin, -(cos * x - sin * y), sin, cos, -(sin * x + cos * y)], dim=1)
    grid = F.affine_grid(rows.view(-1, 2, 3).to(maps.dtype), list(maps.shape), align_corners=False)
    return F.grid_sample(maps, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def jitter_contrast(b: Tensor, factor: Tensor) -> Tensor:
    """Stretch [N, 3, H, W] about each channel's mean by [N] factors, clamped to the channel's own range."""
    mean = b.mean(dim=(2, 3), keepdim=True)
    low, high = b.amin(dim=(2, 3), keepdim=True), b.amax(dim=(2, 3), keepdim=True)
    return torch.clamp(mean + factor.view(-1, 1, 1, 1) * (b - mean), low, high)
