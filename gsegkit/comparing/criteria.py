"""Criteria that rank segmentations of the same photographs without annotations.

Each looks at foregrounds, [H, W] bool, and gives numbers of which a larger one is better. How far each can be trusted
is measured where annotations exist: see `validated`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

#: Foregrounds of a method, one for each photograph.
Foregrounds = Sequence[Tensor]
#: A photograph [3, H, W] uint8 -> its foreground [H, W] bool by every variant of a method.
Foregrounder = Callable[[Tensor], Mapping[str, Tensor]]

AREA = (0.02, 0.9)  # shares of a photograph that an object is expected to cover
NOISE = 2.0  # Lab units; variance below its square is not told from noise
GAINS = (1.06, 1.0, 0.94)  # of red, green and blue: another white balance
CROP = 12  # one in so many rows and columns is cut off at the top and left, half of that elsewhere


def iou(found: Tensor, other: Tensor) -> float:
    """Intersection over union of two [H, W] bool; 1 when both are empty."""
    union = int((found | other).sum())
    return int((found & other).sum()) / union if union else 1.0


# ---- between methods -----------------------------------------------------------------------------------------------


def agreement(foregrounds: Mapping[str, Foregrounds], families: Mapping[str, str]) -> dict[str, list[float]]:
    """Mean IoU with the methods of other families, each family counted once: method -> one number a photograph.

    Args:
        foregrounds: method -> its foregrounds.
        families: method -> what it is a variant of; variants share their faults, so they are no witnesses.

    Returns:
        {} when there are fewer than two families.
    """
    found: dict[str, list[float]] = {}
    for name, own in foregrounds.items() if _several(families) else ():
        others = _others(name, families)
        found[name] = [
            _mean([_mean([iou(mask, foregrounds[other][i]) for other in family]) for family in others])
            for i, mask in enumerate(own)
        ]
    return found


def consensus(foregrounds: Mapping[str, Foregrounds], families: Mapping[str, str]) -> dict[str, list[float]]:
    """IoU with the majority of the other families, each family one vote; see `agreement`."""
    found: dict[str, list[float]] = {}
    for name, own in foregrounds.items() if _several(families) else ():
        others = _others(name, families)
        found[name] = [
            iou(mask, majority([[foregrounds[other][i] for other in family] for family in others]))
            for i, mask in enumerate(own)
        ]
    return found


def majority(votes: Sequence[Sequence[Tensor]]) -> Tensor:
    """Pixels that more than half of the families call foreground; a family's vote is the mean of its variants."""
    each = [torch.stack([mask.float() for mask in family]).mean(dim=0) for family in votes]
    return torch.stack(each).mean(dim=0) > 0.5


def _several(families: Mapping[str, str]) -> bool:
    return len(set(families.values())) > 1


def _others(name: str, families: Mapping[str, str]) -> list[list[str]]:
    found: dict[str, list[str]] = {}
    for other, family in families.items():
        if family != families[name]:
            found.setdefault(family, []).append(other)
    return list(found.values())


# ---- of one method -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Looked:
    """What the criteria look at in a photograph, made once for all methods.

    Attributes:
        colours: CIE Lab, [3, H, W] float32.
        ranks: of each pixel the share of pixels with a smaller gradient, [H, W] float32 in 0 .. 1.
    """

    colours: Tensor
    ranks: Tensor

    @staticmethod
    def at(pixels: Tensor) -> Looked:
        """Look at a photograph, [3, H, W] uint8."""
        colours = lab(pixels)
        padded = F.pad(colours[None], (1, 1, 1, 1), mode="replicate")[0]
        across, down = padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2], padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]
        slope = (across.square() + down.square()).sum(dim=0)
        values = slope.flatten().sort().values
        ranks = torch.searchsorted(values, slope.flatten()) / max(slope.numel() - 1, 1)
        return Looked(colours, ranks.view_as(slope).float())


#: Of a photograph and a foreground, a number of which a larger one is better.
Criterion = Callable[[Looked, Tensor], float]


def edges(photograph: Looked, mask: Tensor) -> float:
    """Mean rank of the photograph's gradient along the mask's outline; 0 without an outline."""
    line = outline(mask)
    return float(photograph.ranks[line].mean()) if bool(line.any()) else 0.0


def separation(photograph: Looked, mask: Tensor) -> float:
    """How well the colours alone give the mask back: IoU of the mask and of two Gaussians in Lab fitted inside and out.

    0 where a side has fewer than 5 pixels.
    """
    points, inside = photograph.colours.flatten(1).T.double(), mask.flatten()
    share = float(inside.double().mean())
    if min(int(inside.sum()), int((~inside).sum())) < 5:
        return 0.0
    within, without = _log_density(points, points[inside]), _log_density(points, points[~inside])
    chosen = within + torch.log(torch.tensor(share)) > without + torch.log(torch.tensor(1 - share))
    return iou(chosen, inside)


def _log_density(points: Tensor, of: Tensor) -> Tensor:
    """Of [M, 3] points under the Gaussian of others, up to a constant."""
    covariance = torch.cov(of.T) + NOISE**2 * torch.eye(3, dtype=of.dtype)
    offset = points - of.mean(dim=0)
    return -0.5 * ((offset @ torch.linalg.inv(covariance)) * offset).sum(dim=1) - 0.5 * torch.logdet(covariance)


def plausibility(mask: Tensor) -> float:
    """1 where the foreground covers a share within `AREA`, else 0: nothing and everything are no objects."""
    share = float(mask.float().mean())
    return float(AREA[0] <= share <= AREA[1])


def outline(mask: Tensor) -> Tensor:
    """Pixels on either side of the mask's edge, [H, W] bool; the photograph's own border is none."""
    grown = mask[None, None].float()
    grown = F.pad(grown, (1, 1, 1, 1), mode="replicate")
    return (F.max_pool2d(grown, 3, 1) != -F.max_pool2d(-grown, 3, 1))[0, 0]


# ---- stability -----------------------------------------------------------------------------------------------------


def stability(predict: Foregrounder, pixels: Tensor, masks: Mapping[str, Tensor]) -> dict[str, float]:
    """Mean IoU of foregrounds with those of the photograph mirrored, in other colours, and cropped.

    Args:
        predict: the method, with all its variants.
        pixels: [3, H, W] uint8.
        masks: variant -> its foreground of them.
    """
    height, width = pixels.shape[1:]
    top, left = max(1, height // CROP), max(1, width // CROP)
    window = (slice(top, height - top // 2), slice(left, width - left // 2))
    tinted = (pixels.float() * torch.tensor(GAINS)[:, None, None]).round().clamp(0, 255).to(torch.uint8)
    mirrored, cropped = predict(pixels.flip(2)), predict(pixels[(slice(None), *window)].contiguous())
    in_other_colours = predict(tinted)
    return {
        name: _mean([
            iou(mask, mirrored[name].flip(1)), iou(mask, in_other_colours[name]), iou(mask[window], cropped[name])
        ])
        for name, mask in masks.items()
    }  # fmt: skip


# ---- colours -------------------------------------------------------------------------------------------------------


def lab(pixels: Tensor) -> Tensor:
    """Colours in sRGB, [3, H, W] uint8 -> CIE Lab (D65) [3, H, W] float32."""
    values = pixels.float() / 255
    linear = torch.where(values > 0.04045, ((values + 0.055) / 1.055) ** 2.4, values / 12.92)
    # rows: X, Y, Z of a unit of red, green and blue, each divided by the white point's
    matrix = torch.tensor(
        [[0.433953, 0.376219, 0.189828], [0.212671, 0.715160, 0.072169], [0.017758, 0.109477, 0.872766]]
    )
    x, y, z = (_cube_root(part) for part in (matrix @ linear.flatten(1)).view_as(linear))
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def _cube_root(values: Tensor) -> Tensor:
    return torch.where(values > 0.008856, values.clamp_min(1e-6) ** (1 / 3), 7.787 * values + 16 / 116)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
