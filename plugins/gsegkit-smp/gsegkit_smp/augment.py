"""Augmentation of image, mask and weights together: one random affine map a row, then colours, blur and noise.

All is a function of (images, masks, options, seed), so a resumed training sees what the uninterrupted one would.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from gsegkit.images import luma
from gsegkit.types import IGNORE
from gsegkit_smp.config import SmpConfig


def augment(
    images: Tensor,
    masks: Tensor,
    weights: Tensor | None,
    config: SmpConfig,
    seed: int,
    rows: slice = slice(None),
    count: int | None = None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Change every row at random.

    Args:
        images: [N, 3, H, W] float32 in [-1, 1].
        masks: [N, H, W] uint8.
        weights: [N, H, W] float32, or None.
        config: which changes, and how strong.
        seed: the random numbers.
        rows: which rows of a batch these are; each changes as it would in the whole batch.
        count: rows of that batch; None = these are all.

    Returns:
        The same three; pixels that the affine map uncovers are 255 in the mask.
    """
    generator = torch.Generator().manual_seed(seed)
    n = len(images) if count is None else count
    # every number is drawn whether it is used or not: switching one change off leaves the others as they were
    flips = torch.rand(2, n, generator=generator)
    moves = torch.rand(4, n, generator=generator) * 2 - 1
    colours = torch.rand(4, n, generator=generator) * 2 - 1
    strengths = torch.rand(2, n, generator=generator)
    lights = torch.rand(4, n, generator=generator) * 2 - 1
    greys = torch.rand(n, generator=generator) < config.grey
    flips, moves, colours, strengths, lights = (each[:, rows] for each in (flips, moves, colours, strengths, lights))
    greys = greys[rows]

    for axis, chosen in ((-1, flips[0] < config.flip), (-2, flips[1] < config.flip_vertical)):
        if bool(chosen.any()):
            images, masks, weights = _flip(images, masks, weights, chosen.to(images.device), axis)
    if config.rotate or config.scale or config.shift:
        theta = affine_maps(moves, config, (int(images.shape[-2]), int(images.shape[-1])))
        images, masks, weights = warp(images, masks, weights, theta.to(images.device))
    if config.balance or config.gamma:
        images = relight(images, lights.to(images.device), config)
    if config.colour or config.hue:
        images = _recolour(images, colours.to(images.device), config)
    if config.grey:
        images = torch.where(greys.to(images.device).reshape(-1, 1, 1, 1), luma(images), images)
    if config.blur:
        images = _blur(images, (strengths[0] * config.blur).to(images.device), config.blur)
    if config.noise:
        noise = torch.Generator(images.device).manual_seed(seed)
        draws = torch.randn((n, *images.shape[1:]), generator=noise, device=images.device)
        images = images + draws[rows] * (strengths[1] * config.noise).to(images.device).reshape(-1, 1, 1, 1)
    return images.clamp(-1, 1), masks, weights


def affine_maps(moves: Tensor, config: SmpConfig, size: tuple[int, int]) -> Tensor:
    """Maps from output to input positions, in the coordinates of `F.affine_grid`.

    Args:
        moves: [4, N] float32 in [-1, 1]: angle, log zoom, shift down, shift right.
        config: `rotate`, `scale`, `shift`.
        size: (height, width).

    Returns:
        [N, 2, 3] float32.
    """
    angle = moves[0] * math.radians(config.rotate)
    zoom = torch.exp(moves[1] * math.log1p(config.scale))
    aspect = size[0] / size[1]  # a rotation is one in pixels, not in coordinates that run from -1 to 1 on both sides
    cos, sin = angle.cos() / zoom, angle.sin() / zoom
    down, right = 2 * config.shift * moves[2], 2 * config.shift * moves[3]
    rows = (torch.stack([cos, -sin * aspect, right], 1), torch.stack([sin / aspect, cos, down], 1))
    return torch.stack(rows, 1)


def warp(images: Tensor, masks: Tensor, weights: Tensor | None, theta: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """Apply affine maps: images bilinear and mirrored at the border; masks and weights nearest; uncovered = 255."""
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    covered = (grid.abs() <= 1).all(-1)  # [N,H,W]
    images = F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    masks = _nearest(masks.float(), grid).to(torch.uint8).masked_fill(~covered, IGNORE)
    return images, masks, None if weights is None else _nearest(weights, grid)


def _nearest(maps: Tensor, grid: Tensor) -> Tensor:
    sampled = F.grid_sample(maps.unsqueeze(1), grid, mode="nearest", padding_mode="border", align_corners=False)
    return sampled.squeeze(1)


def _flip(
    images: Tensor, masks: Tensor, weights: Tensor | None, chosen: Tensor, axis: int
) -> tuple[Tensor, Tensor, Tensor | None]:
    rows = chosen.reshape(-1, 1, 1)
    images = torch.where(rows.unsqueeze(1), images.flip(axis), images)
    masks = torch.where(rows, masks.flip(axis), masks)
    return images, masks, None if weights is None else torch.where(rows, weights.flip(axis), weights)


def relight(images: Tensor, lights: Tensor, config: SmpConfig) -> Tensor:
    """Another lamp and another exposure: v -> (gain * v) ^ gamma for v in [0, 1], gain by channel.

    Args:
        images: [N, 3, H, W] float32 in [-1, 1].
        lights: [4, N] float32 in [-1, 1]: log gains of red, green and blue, log gamma.
        config: `balance`, `gamma`.

    Returns:
        The same shape; a gain above 1 clips highlights, as a camera does.
    """
    gains = torch.exp(lights[:3] * math.log1p(config.balance)).T.reshape(-1, 3, 1, 1)
    powers = torch.exp(lights[3] * math.log1p(config.gamma)).reshape(-1, 1, 1, 1)
    changed: Tensor = ((images + 1) / 2 * gains).clamp(0, 1) ** powers * 2 - 1
    return changed


def _recolour(images: Tensor, draws: Tensor, config: SmpConfig) -> Tensor:
    """Hue, saturation, contrast, brightness; `draws` is [4, N] in [-1, 1]."""
    turn, saturation, contrast, brightness = (row.reshape(-1, 1, 1, 1) for row in draws)
    if config.hue:
        images = torch.einsum("nij,njhw->nihw", hue_matrices(turn.flatten() * math.radians(config.hue)), images)
    grey = luma(images)
    images = grey + (images - grey) * (1 + config.colour * saturation)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    changed: Tensor = mean + (images - mean) * (1 + config.colour * contrast) + config.colour * brightness
    return changed


def hue_matrices(angles: Tensor) -> Tensor:
    """Rotations of RGB about the grey axis by [N] radians: [N, 3, 3] (Rodrigues' formula)."""
    cos, sin = angles.cos().reshape(-1, 1, 1), angles.sin().reshape(-1, 1, 1)
    cross = angles.new_tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / math.sqrt(3)
    matrices: Tensor = cos * torch.eye(3, device=angles.device) + sin * cross + (1 - cos) / 3
    return matrices


def _blur(images: Tensor, sigmas: Tensor, largest: float) -> Tensor:
    """Separable Gaussian blur with a sigma for each row."""
    n, c, h, w = images.shape
    radius = max(1, math.ceil(2 * largest))
    offsets = torch.arange(-radius, radius + 1, device=images.device)
    kernels = torch.exp(-0.5 * (offsets / sigmas.clamp_min(1e-3).unsqueeze(1)) ** 2)  # [N,2r+1]
    kernels = (kernels / kernels.sum(1, keepdim=True)).repeat_interleave(c, 0)
    flat = images.reshape(1, n * c, h, w)
    flat = F.pad(flat, (radius, radius, radius, radius), mode="replicate")
    flat = F.conv2d(flat, kernels.reshape(n * c, 1, 1, -1), groups=n * c)
    flat = F.conv2d(flat, kernels.reshape(n * c, 1, -1, 1), groups=n * c)
    return flat.reshape(n, c, h, w)
