"""The two terms of Melas-Kyriazi et al., Eq. 1, as the paper prints them and as its released code computes them.

Both come as (edges, prior): `edges` turns images into what must not change, `prior` is the map that the shifted image
is compared with. A positive weight of the prior term makes the middle of the image lighter, for both:

* printed: S = sum over colours of the squared Sobel responses, r = 1 in the centre .. -1 in the corners, sums over
  pixels. As printed, minimising lambda L_c + L_s with lambda > 0 darkens the middle, while the text says that it
  brightens the object; here the sign follows the text.
* code: luma, Sobel magnitude with the kernel divided by 8, means over pixels, and a prior of mean zero, so that
  brightening the whole image earns nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

import gsegkit.images

LUMA = (0.2989, 0.5870, 0.1140)  # weights of the released code; they sum to 0.9999
PRIOR_STEEPNESS = 4.0  # of the released code's prior
MAGNITUDE_EPS = 1e-6  # keeps the square root differentiable where an image is flat


def luma(images: Tensor) -> Tensor:
    """Grey values as the released code weighs them: [N, 3, H, W] -> [N, 1, H, W]; differentiable."""
    return gsegkit.images.luma(images, LUMA)


def sobel(planes: Tensor) -> Tensor:
    """Horizontal and vertical Sobel responses, plain kernel, edges repeated: [N, C, H, W] -> [N, 2, C, H, W]."""
    padded = F.pad(planes, (1, 1, 1, 1), mode="replicate")
    smooth = padded[..., :-2, :] + 2 * padded[..., 1:-1, :] + padded[..., 2:, :]  # [1 2 1] down
    across = smooth[..., 2:] - smooth[..., :-2]
    smooth = padded[..., :-2] + 2 * padded[..., 1:-1] + padded[..., 2:]  # [1 2 1] across
    down = smooth[..., 2:, :] - smooth[..., :-2, :]
    return torch.stack([across, down], dim=1)


# ---- as printed --------------------------------------------------------------------------------------------------


def printed_edges(images: Tensor) -> Tensor:
    """S of the paper: squared responses added over the colours, [N, 1, H, W]; no root."""
    return sobel(images).square().sum(dim=(1, 2)).unsqueeze(1)


def printed_prior(height: int, width: int) -> Tensor:
    """The paper's r, [H, W]: 1 in the centre, -1 in the corners, straight in between; its mean is not zero."""
    i = torch.arange(1, height + 1).view(-1, 1)
    j = torch.arange(1, width + 1)
    alpha = math.hypot(height - 1, width - 1) / 4
    return 1 - torch.hypot(i - (height + 1) / 2, j - (width + 1) / 2) / alpha


# ---- as computed by the released code ------------------------------------------------------------------------------


def code_edges(images: Tensor) -> Tensor:
    """Magnitude of the luma's gradient, kernel divided by 8: [N, 1, H, W]."""
    responses = sobel(luma(images)) / 8
    return (responses.square().sum(dim=1) + MAGNITUDE_EPS).sqrt()


def code_prior(height: int, width: int) -> Tensor:
    """4 (mean(d) - d), [H, W], with d the distance from the centre on axes from -1 to 1: positive in the middle.

    The released code has the other sign, and subtracts where this adds.
    """
    y = torch.linspace(-1, 1, height).view(-1, 1)
    d = torch.hypot(y.expand(height, width), torch.linspace(-1, 1, width).expand(height, width))
    return PRIOR_STEEPNESS * (d.mean() - d)


# ---- the loss ----------------------------------------------------------------------------------------------------


class Terms(NamedTuple):
    """One reading of Eq. 1.

    Attributes:
        edges: images -> what must stay, [N, 1, H, W].
        prior: map that the shifted image is compared with, [H, W], positive in the middle.
        grey: the prior sees the luma (else the sum over the colours).
        mean: pixels are averaged (else added up).
        energy: L_s is divided by this, L_c by its square root.
    """

    edges: Callable[[Tensor], Tensor]
    prior: Tensor
    grey: bool
    mean: bool
    energy: float = 1.0

    def edge_change(self, shifted: Tensor, edges: Tensor) -> Tensor:
        """L_s of each image: how much the shifted one's edges differ from `edges`, [N]."""
        return self._add((self.edges(shifted) - edges).square()) / self.energy

    def contrast(self, shifted: Tensor) -> Tensor:
        """L_c of each image, [N]: positive when the middle is lighter than the border."""
        grey = luma(shifted) if self.grey else shifted.sum(dim=1, keepdim=True)
        return self._add(grey * self.prior) / math.sqrt(self.energy)

    def edge_energy(self, edges: Tensor) -> Tensor:
        """What `edge_change` would be if all edges vanished, [N]."""
        return self._add(edges.square()) / self.energy

    def _add(self, planes: Tensor) -> Tensor:
        flat = planes.flatten(1)
        return flat.mean(dim=1) if self.mean else flat.sum(dim=1)


def terms(reading: str, height: int, width: int, device: torch.device | None = None) -> Terms:
    """The terms of a reading ("printed", or "code" for the other two) for images of one size."""
    if reading == "printed":
        return Terms(printed_edges, printed_prior(height, width).to(device), grey=False, mean=False)
    return Terms(code_edges, code_prior(height, width).to(device), grey=True, mean=True)


def eq_1(
    term: Terms, shifted: Tensor, edges: Tensor, before: Tensor, signs: Tensor, edge_weight: float, prior_weight: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Eq. 1 for K directions and N codes: edge_weight L_s - prior_weight L_c, where L_c > 0 is what a direction wants.

    A positive weight means a lighter middle, as the paper's text says and its printed sign does not.

    Args:
        term: the reading of Eq. 1.
        shifted: G(z + eps v), [K * N, 3, H, W], direction by direction.
        edges: S(G(z)), [N, 1, H, W].
        before: L_c of G(z), [N]: a constant, without which the curve says little.
        signs: [K]: 1 = lighter, -1 = darker.
        edge_weight: of L_s.
        prior_weight: lambda.

    Returns:
        The loss, L_s, and the contrast gained, each [K, N].
    """
    k = len(signs)
    edge_change = term.edge_change(shifted, edges.repeat(k, 1, 1, 1)).view(k, -1)  # L_s
    contrast = (term.contrast(shifted).view(k, -1) - before) * signs[:, None]  # L_c
    return edge_weight * edge_change - prior_weight * contrast, edge_change, contrast
