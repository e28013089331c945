"""The latent codes: public z, private c, and c's parent p (paper, Appendix A)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from gsegkit_layered.networks import Codes


@dataclass(frozen=True)
class Prior:
    """Distribution of the codes.

    Attributes:
        z_dim: length of the public code z, N(0, I).
        kind: `categorical` (c uniform, p = floor(c / group_size)), `normal` (c is N(0, I), no parent), or `none`.
        size: categories of c, or its numbers.
        group_size: consecutive categories that share a parent.
    """

    z_dim: int
    kind: Literal["categorical", "normal", "none"] = "none"
    size: int = 0
    group_size: int = 1

    @property
    def num_classes(self) -> int:
        """Labels: the categories of c."""
        return self.size if self.kind == "categorical" else 0

    @property
    def mask_dim(self) -> int:
        """Numbers of the code that reaches the mask: the parent, or the whole of a normal code."""
        return self.size // self.group_size if self.kind == "categorical" else self.colour_dim

    @property
    def colour_dim(self) -> int:
        """Numbers of the code that reaches the object's colours."""
        return 0 if self.kind == "none" else self.size

    @property
    def latent_dim(self) -> int:
        """Numbers of a latent: z, and a normal private code."""
        return self.z_dim + (self.size if self.kind == "normal" else 0)

    def draw(self, count: int) -> tuple[Tensor, Tensor | None]:
        """Latents and labels from torch's global generator, on the CPU."""
        latents = torch.randn(count, self.latent_dim)
        return latents, torch.randint(self.size, (count,)) if self.kind == "categorical" else None

    def codes(self, latents: Tensor, labels: Tensor | None) -> Codes:
        """[N, latent_dim] and [N] -> the codes."""
        z, c = latents[:, : self.z_dim], latents[:, self.z_dim :]
        if self.kind == "categorical":
            assert labels is not None
            one_hot = F.one_hot(labels, self.size).to(latents.dtype)
            return Codes(z, F.one_hot(labels // self.group_size, self.mask_dim).to(latents.dtype), one_hot)
        return Codes(z, c, c)

    def information(self, codes: Codes, in_image: Tensor, in_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Eq. 5: -log Q_x(c | x) and -log Q_m(p | m), means over the batch.

        A normal code's likelihood is taken with variance 1.
        """
        if self.kind == "categorical":
            image = F.cross_entropy(in_image, codes.c.argmax(dim=1))
            return image, F.cross_entropy(in_mask, codes.p.argmax(dim=1))
        return 0.5 * (in_image - codes.c).square().sum(1).mean(), 0.5 * (in_mask - codes.p).square().sum(1).mean()
