"""The background generator: the same generator with one activation switched off (Labels4Free, Sec. 3.2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from kornia.filters import gaussian_blur2d, otsu_threshold
from torch import Tensor

from gsegkit.context import RunContext
from gsegkit.errors import CapabilityError, ConfigError
from gsegkit.interfaces import Edit, Generator

MEASURED = 64  # images that every edit point is tried on
CELLS = 8  # an image is described by 8 x 8 cells
BLUR = (7, 1.0)  # window and sigma over which colours are compared: texture is redrawn by the edit, too
EDITS = ("zero", "border")


def zero(activation: Tensor) -> Tensor:
    """Switched off, as in the paper."""
    return torch.zeros_like(activation)


def border(activation: Tensor) -> Tensor:
    """Everywhere what the map has on its border, on average: [N, C, h, w], constant over h and w."""
    inside = activation[:, :, 1:-1, 1:-1]
    n = activation.shape[-2] * activation.shape[-1] - inside.shape[-2] * inside.shape[-1]
    mean = (activation.sum(dim=(2, 3)) - inside.sum(dim=(2, 3))) / n
    return mean[:, :, None, None].expand_as(activation).contiguous()


FUNCTIONS: Mapping[str, Edit] = {"zero": zero, "border": border}


@dataclass(frozen=True)
class Background:
    """G_bg: an edit point and what is done to it."""

    point: str
    edit: str

    @classmethod
    def parse(cls, name: str) -> Background:
        """From `point:edit`, as an extractor's facts name it."""
        point, _, edit = name.partition(":")
        return cls(point, "border" if edit == "rim" else edit)  # "rim": its name in runs stored before

    @property
    def edits(self) -> dict[str, Edit]:
        """What `synthesize(edits=...)` takes."""
        return {self.point: FUNCTIONS[self.edit]}


def candidates(generator: Generator) -> tuple[str, ...]:
    """Edit points that can carry the object: all but a resolution's contribution to the colours (`*.rgb`).

    Raises:
        CapabilityError: the generator declares none.
    """
    names = tuple(name for name in generator.info.edit_points if not name.endswith(".rgb"))
    if not names:
        raise CapabilityError(
            f"generator {type(generator).__name__} declares no edit point, so it has no background generator",
            "choose one with the capability 'feature-edit' (gsegkit list generator)",
        )
    return names


def choose(generator: Generator, background: str, edit: str, ctx: RunContext) -> tuple[Background, dict[str, Any]]:
    """The background generator that the options ask for, and what was measured for it, JSON-ready.

    Raises:
        ConfigError: an edit point that the generator does not have.
    """
    names = candidates(generator)
    seeds = ctx.seeds("fit", ctx.limit(MEASURED, 8))
    if background == "gradient":
        scores = gradient_norms(generator, names, seeds, ctx.batch_size)
        return Background(max(scores, key=lambda name: scores[name]), "zero" if edit == "auto" else edit), scores
    if background != "auto":
        if background not in names:
            raise ConfigError(
                f"extractor.background={background}: the generator has no such edit point",
                f"it has: {', '.join(names)}",
            )
        names = (background,)
    edits = EDITS if edit == "auto" else (edit,)
    options = [Background(name, e) for name in names for e in edits]
    unlike = dict(zip(options, _unlike_border(generator, options, seeds, ctx.batch_size), strict=True))
    return min(options, key=lambda b: unlike[b]), {f"{b.point}:{b.edit}": score for b, score in unlike.items()}


# ---- ours: what is most like the borders of the images --------------------------------------------------------------


@torch.no_grad()
def _unlike_border(generator: Generator, options: list[Background], seeds: Tensor, batch_size: int) -> list[float]:
    """How far each option's images are from the borders of the images as they were: 0 = alike, 1 = unchanged."""
    own, edited = 0.0, [0.0] * len(options)
    for chunk in torch.split(seeds, batch_size):
        latents, labels = generator.latents(chunk), generator.labels(chunk)
        before = describe(generator.synthesize(latents, labels).images)
        typical = border_median(before)[:, :, None, None]
        own += float((before - typical).square().sum(dim=1).mean(dim=(1, 2)).sum())
        for i, option in enumerate(options):
            after = describe(generator.synthesize(latents, labels, edits=option.edits).images)
            edited[i] += float((after - typical).square().sum(dim=1).mean(dim=(1, 2)).sum())
    return [round(distance / max(own, 1e-12), 4) for distance in edited]


def describe(images: Tensor) -> Tensor:
    """Mean colour, spread of colours and strength of edges in cells: [N, 3, H, W] -> [N, 7, 8, 8]."""
    images = images.clamp(-1, 1)
    mean = F.adaptive_avg_pool2d(images, CELLS)
    spread = (F.adaptive_avg_pool2d(images.square(), CELLS) - mean.square()).clamp_min(0).sqrt()
    edges = F.pad(images.diff(dim=3).abs(), (0, 1)) + F.pad(images.diff(dim=2).abs(), (0, 0, 0, 1))
    return torch.cat([mean, spread, F.adaptive_avg_pool2d(edges.mean(dim=1, keepdim=True), CELLS)], dim=1)


def border_median(cells: Tensor) -> Tensor:
    """[N, C, 8, 8] -> [N, C]: the median over the outermost cells, since objects reach over a part of them."""
    mask = torch.ones(cells.shape[-2:], dtype=torch.bool, device=cells.device)
    mask[1:-1, 1:-1] = False
    return cells[:, :, mask].median(dim=2).values


# ---- the paper's: where gradients towards a plain background are largest -------------------------------------------


def gradient_norms(generator: Generator, names: tuple[str, ...], seeds: Tensor, batch_size: int) -> dict[str, float]:
    """Sec. 3.2: gradient of ||G(w, n) - x||^2 for each activation, its norm summed over channels; mean over samples.

    x is a crop of generated background, upsampled. The paper's authors cropped by hand; here it is a corner of the
    image itself.
    """
    totals = dict.fromkeys(names, 0.0)
    for chunk in torch.split(seeds, batch_size):
        latents, labels = generator.latents(chunk).detach(), generator.labels(chunk)
        with torch.no_grad():
            images = generator.synthesize(latents, labels).images
        h, w = images.shape[-2] // CELLS, images.shape[-1] // CELLS
        x = F.interpolate(images[:, :, :h, :w], size=images.shape[-2:], mode="bilinear", align_corners=False)
        with torch.enable_grad():
            offsets: dict[str, Tensor] = {}
            edits = {name: _offset(offsets, name) for name in names}
            loss = (generator.synthesize(latents, labels, edits=edits).images - x).square().sum()
            gradients = torch.autograd.grad(loss, [offsets[name] for name in names], allow_unused=True)
        for name, gradient in zip(names, gradients, strict=True):
            if gradient is not None:
                totals[name] += float(gradient.flatten(2).norm(dim=2).sum()) / len(seeds)
    return {name: round(value, 4) for name, value in totals.items()}


def _offset(offsets: dict[str, Tensor], name: str) -> Edit:
    def edit(activation: Tensor) -> Tensor:
        offsets[name] = torch.zeros_like(activation).requires_grad_()
        return activation + offsets[name]

    return edit


# ---- what the edit takes away --------------------------------------------------------------------------------------


def difference(images: Tensor, emptied: Tensor) -> Tensor:
    """Distance of colours between an image and the same image without its object, [N, H, W]."""
    kernel, sigma = BLUR
    both = [gaussian_blur2d(x.clamp(-1, 1), (kernel, kernel), (sigma, sigma)) for x in (images, emptied)]
    distance: Tensor = (both[0] - both[1]).norm(dim=1)
    return distance


def area_of(distances: Tensor) -> Tensor:
    """Share of each image that changes much, by Otsu's threshold; [N, H, W] -> [N]."""
    mask, _ = otsu_threshold(distances[:, None], return_mask=True)
    return mask.float().mean(dim=(1, 2, 3))


def separation(distances: Tensor, mask: Tensor) -> Tensor:
    """Share of the distances' variance that a mask explains; [N, H, W] twice, mask 0 or 1 -> [N] in [-1, 1].

    High when the object is what changes and the rest is what stays; needs no label. 0 for an empty or a full mask,
    negative when more changes outside of the mask than inside.
    """
    area = mask.mean(dim=(1, 2))
    inside = (distances * mask).sum(dim=(1, 2)) / mask.sum(dim=(1, 2)).clamp_min(1)
    outside = (distances * (1 - mask)).sum(dim=(1, 2)) / (1 - mask).sum(dim=(1, 2)).clamp_min(1)
    between = area * (1 - area) * (inside - outside).square() * (inside - outside).sign()
    return between / distances.var(dim=(1, 2), correction=0).clamp_min(1e-12)
