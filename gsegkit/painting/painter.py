"""The interface of painters: a mask and a latent in, a picture out."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from gsegkit.errors import ContractError
from gsegkit.interfaces import ModulePart, Segmenter
from gsegkit.seeds import normals
from gsegkit.types import IGNORE, check_tensor

if TYPE_CHECKING:
    from gsegkit.context import RunContext
    from gsegkit.dataset import LabelledDataset


@dataclass(frozen=True)
class PageNetwork:
    """A painter as a page runs it, without torch.

    Attributes:
        script: JavaScript that defines `makeNetwork(tensors, facts)`. It returns `(mask, latents) => pixels`: a
            Uint8Array of H * W classes (255 = unknown) and a Float32Array of [1 + K, latent_dim] latents (the picture's
            own, then one for each class) in, a Float32Array [3, H, W] in [-1, 1] out. A tensor is there a Float32Array.
        tensors: float32, finite; the page gets each as float16 with a scale of its own.
        facts: JSON-ready numbers and texts that the script needs beside them.
    """

    script: str
    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]


class Painter(ModulePart):
    """Paints pictures from masks. The mask says what is where, the latent how it looks.

    Attributes:
        classes: names of the K classes, known after fit().
        train_size: (height, width) of masks and pictures, known after fit().
        latent_dim: numbers in one latent, known after fit().
        region_styles: whether `paint` also takes a latent for each class.
        licence: what is known of the licence of its weights; "" = nothing beyond that of the pairs.
    """

    classes: tuple[str, ...]
    train_size: tuple[int, int]
    latent_dim: int
    region_styles: bool = False
    licence: str = ""

    @abstractmethod
    def fit(self, dataset: LabelledDataset, ctx: RunContext, *, segmenter: Segmenter | None = None) -> None:
        """Train on pairs of one size; 255 in a mask is unknown, and never a class.

        `segmenter` is a trained network of the same pictures that the training may look through. It is not changed.
        """

    @abstractmethod
    def paint(self, masks: Tensor, z: Tensor) -> Tensor:
        """Pictures, a function of mask and latent alone; no gradients.

        Args:
            masks: [N, H, W] uint8 of `train_size`, classes 0 .. K - 1, 255 = unknown.
            z: [N, latent_dim] float32, see `latents`; with `region_styles` also [N, 1 + K, latent_dim]: the picture's
                own latent, which unknown pixels have too, then one for each class.

        Returns:
            [N, 3, H, W] float32 in [-1, 1] on `self.device`.

        Raises:
            ContractError: see `check_canvas`.
        """

    def latents(self, seeds: Tensor) -> Tensor:
        """[N] int64 -> [N, latent_dim] float32 on `self.device`; row i depends on `seeds[i]` alone."""
        return normals(seeds, (self.latent_dim,)).to(self.device)

    def as_network(self) -> nn.Module | None:
        """The trained network alone, for exports; None = this painter is no single network.

        It takes labels [N, K + 1, H, W] float32, one channel a class and the last for unknown pixels, and z
        [N, latent_dim] float32, and gives pictures [N, 3, H, W] float32 in [-1, 1]: those of `paint`.
        """
        return None

    def in_page(self) -> PageNetwork | None:
        """The trained network as a page runs it; None = this painter needs Python. The page draws `latents` itself."""
        return None


def check_canvas(painter: Painter, masks: Tensor, z: Tensor) -> None:
    """Check what `Painter.paint` is given.

    Raises:
        ContractError: another dtype or size than the painter's, a class that it does not know, or latents that are
            not finite.
    """
    check_tensor(masks, "masks", torch.uint8, (None, *painter.train_size), "paint ")
    regions = (1 + len(painter.classes),) if painter.region_styles and z.ndim == 3 else ()
    check_tensor(z, "z", torch.float32, (len(masks), *regions, painter.latent_dim), "paint ")
    wrong = masks[(masks >= len(painter.classes)) & (masks != IGNORE)]
    if len(wrong):
        raise ContractError(
            f"a mask has the class {int(wrong[0])}, but there are {len(painter.classes)} classes",
            f"0 .. {len(painter.classes) - 1}, and {IGNORE} for unknown",
        )
    if not bool(torch.isfinite(z).all()):
        raise ContractError("a latent holds NaN or infinity", "draw latents with painter.latents(seeds)")
