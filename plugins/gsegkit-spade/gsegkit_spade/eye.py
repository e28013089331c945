"""The run's own segmenter as a fixed network to compare pictures through. It replaces a network that learned labels."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from gsegkit.interfaces import Segmenter


class Eye:
    """Maps of a trained segmenter: those before each of its halvings, or its logits where it has no convolutions.

    Args:
        segmenter: is copied, and not changed.
        size: (height, width) of the pictures.
        device: where they are.
    """

    def __init__(self, segmenter: Segmenter, size: tuple[int, int], device: torch.device) -> None:
        self.segmenter = copy.deepcopy(segmenter).to(device).eval().requires_grad_(False)
        self._seen: dict[nn.Module, Tensor] = {}
        for module in self._watched(torch.zeros(1, 3, *size, device=device)):
            module.register_forward_hook(self._keep)

    def maps(self, pictures: Tensor) -> list[Tensor]:
        """[N, 3, H, W] float32 in [-1, 1] -> maps, shallow to deep; differentiable."""
        self._seen = {}
        logits = self.segmenter.logits(pictures)
        found, self._seen = list(self._seen.values()), {}
        return found or [logits]

    def distance(self, painted: Tensor, true: Tensor) -> Tensor:
        """Sum over the maps of the mean absolute difference, each as a share of the true map's mean absolute value."""
        with torch.no_grad():
            aims = self.maps(true)
        return torch.stack(
            [
                (found - aim).abs().mean() / aim.abs().mean().clamp_min(1e-3)
                for found, aim in zip(self.maps(painted), aims, strict=True)
            ]
        ).sum()

    def _keep(self, module: nn.Module, given: object, found: Tensor) -> None:
        self._seen[module] = found

    @torch.no_grad()
    def _watched(self, picture: Tensor) -> list[nn.Module]:
        """The last convolution at each size, on the way down; maps of one pixel are left out, which are no pictures."""
        self._seen = {}
        convolutions = [module for module in self.segmenter.modules() if isinstance(module, nn.Conv2d)]
        hooks = [module.register_forward_hook(self._keep) for module in convolutions]
        self.segmenter.logits(picture)
        for hook in hooks:
            hook.remove()
        smallest, chosen = float("inf"), dict[int, nn.Module]()
        for module, found in self._seen.items():
            area = int(found.shape[-1] * found.shape[-2])
            if 1 < area <= smallest:
                smallest, chosen[area] = area, module
        return list(chosen.values())
