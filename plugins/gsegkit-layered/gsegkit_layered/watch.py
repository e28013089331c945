"""Live diagnosis: do the masks still separate object and background, and which option to change if not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

MEMORY = 0.5  # of the running means, per look: two looks; with ten, empty masks were seen 40,000 images late
LONG = 0.9  # of the mean that a falling coverage is held against
STEADY = 0.8  # share of that mean below which masks are on their way to vanish
EMPTY = 0.02  # mean coverage below which all is background; once masks must be binary, also share of m > 1/2
FULL = 0.9  # and above which all is foreground

REMEDIES = {
    "background": "Raise gen.gamma, set gen.min_area, let the binarisation begin later (gen.binary_start), or begin "
    "with larger masks (gen.mask_bias)",
    "foreground": "Raise gen.shift and gen.scale, lower gen.gamma or gen.max_coverage, or show smaller parts of the "
    "photographs (gen.crop_min)",
}


class Watch:
    """Running means of what the masks do, and how long a trivial solution has lasted.

    Args:
        patience: images over which all must be background, or foreground, before that counts.

    Attributes:
        values: numbers to log: `coverage` (mean of m), `solid` (share of m > 1/2), `ambiguity` (mean of
            min(m, 1 - m)), `entropy` (bits a pixel), and from `compare`: scores of D for images and bare backgrounds,
            and their distances to photographs.
    """

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.values: dict[str, float] = {}
        self.bad_for = {"background": 0, "foreground": 0}
        self.usual: float | None = None  # coverage of the last ten looks or so
        self.binary = False

    def see(self, m: Tensor, images: int, *, binary: bool = False) -> None:
        """Look at [N, 1, H, W] masks, `images` images after the last look; `binary` = they should be 0 or 1 by now."""
        m, self.binary = m.detach().float(), binary
        p = m.clamp(1e-6, 1 - 1e-6)
        self._mean("coverage", float(m.mean()))
        self._mean("solid", float((m > 0.5).float().mean()))
        self._mean("ambiguity", float(torch.minimum(m, 1 - m).mean()))
        self._mean("entropy", float(-(p * p.log2() + (1 - p) * (1 - p).log2()).mean()))
        now = self.values["coverage"]
        self.usual = now if self.usual is None else LONG * self.usual + (1 - LONG) * now
        self.bad_for = {kind: self.bad_for[kind] + images if kind == self.trivial else 0 for kind in self.bad_for}

    def compare(self, *looked: tuple[Tensor, Tensor]) -> None:
        """Scores [N] and features [N, C] of D for photographs, images, and backgrounds alone.

        A bare background that D scores as high as the whole image means that the object was painted into it: the cheap
        form of the paper's FID against bg-FID.
        """
        (_, real), (image_score, image), (background_score, background) = looked
        self.values["D_image"] = float(image_score.mean())
        self.values["D_background"] = float(background_score.mean())
        self.values["distance_image"] = spread_distance(image, real)
        self.values["distance_background"] = spread_distance(background, real)

    @property
    def trivial(self) -> str:
        """`background`, `foreground`, or "" while the masks part something."""
        coverage, solid = self.values.get("coverage", 0.5), self.values.get("solid", 0.5)
        if coverage < EMPTY or (self.binary and solid < EMPTY):  # a faint veil over everything is no object either
            return "background"
        return "foreground" if coverage > FULL else ""

    @property
    def sound(self) -> bool:
        """Whether this state is worth keeping: not trivial, masks are more than a veil, and not just vanishing."""
        steady = self.usual is None or self.values["coverage"] >= STEADY * self.usual
        return not self.trivial and steady and self.values.get("solid", 0.5) >= EMPTY

    @property
    def verdict(self) -> str:
        """What has lasted for the whole patience; "" while nothing has."""
        return next((kind for kind, images in self.bad_for.items() if images >= self.patience), "")

    def state_dict(self) -> dict[str, Any]:
        """All that changes."""
        return {"values": dict(self.values), "bad_for": dict(self.bad_for), "usual": self.usual,
                "binary": self.binary}  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any], /) -> None:
        """Take a state back."""
        self.values = {name: float(value) for name, value in state["values"].items()}
        self.bad_for = {kind: int(images) for kind, images in state["bad_for"].items()}
        self.usual, self.binary = state["usual"], bool(state["binary"])

    def _mean(self, name: str, value: float) -> None:
        self.values[name] = value if name not in self.values else MEMORY * self.values[name] + (1 - MEMORY) * value


class LastGood:
    """A copy of networks from the last look at which they were sound."""

    def __init__(self, networks: Mapping[str, nn.Module]) -> None:
        self.networks = dict(networks)
        self.images = 0
        self.tensors: dict[str, dict[str, Tensor]] = {}
        self.keep(0)

    def keep(self, images: int) -> None:
        """Remember the present state, reached after `images` images, unless a number in it is not finite."""
        tensors = {name: dict(network.state_dict()) for name, network in self.networks.items()}
        sums = [value.sum() for table in tensors.values() for value in table.values() if value.is_floating_point()]
        if bool(torch.stack(sums).isfinite().all()):
            self.images = images
            self.tensors = {
                name: {key: value.detach().clone() for key, value in table.items()} for name, table in tensors.items()
            }

    def recall(self) -> None:
        """Put the remembered state back."""
        for name, network in self.networks.items():
            network.load_state_dict(self.tensors[name])
            network.eval().requires_grad_(False)

    def state_dict(self) -> dict[str, Any]:
        """The copy."""
        return {"images": self.images, "tensors": self.tensors}

    def load_state_dict(self, state: Mapping[str, Any], /) -> None:
        """Take a copy back."""
        self.images, self.tensors = int(state["images"]), state["tensors"]


@torch.no_grad()
def spread_distance(found: Tensor, real: Tensor) -> float:
    """Frechet distance of features [N, D] and [M, D] taken as independent numbers, over the spread of the second.

    Only for comparing layers of one training at one moment.
    """
    gap = (found.mean(0) - real.mean(0)).square() + (found.std(0) - real.std(0)).square()
    return float(gap.sum() / real.std(0).square().sum().clamp_min(1e-12))
