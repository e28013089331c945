"""Generator evaluator `frechet`: how far are a generator's images, and its bare layers, from photographs?

The Frechet distance is Heusel et al.'s; of bare backgrounds it is Yang et al.'s bg-FID: a background as near to the
photographs as the whole image means that the object was painted into the background. The backbone is named and by
default random, since pretrained ones were learned from labels: no number here is an FID.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gsegkit.context import RunContext
from gsegkit.dataset import UnlabelledImages
from gsegkit.errors import ConfigError, DataError
from gsegkit.images import to_images
from gsegkit.interfaces import Generator, GeneratorEvaluator
from gsegkit.seeds import isolated_rng
from gsegkit.taps import frozen
from gsegkit.types import Report
from gsegkit_eval.config import FrechetConfig

MIN_IMAGES = 8  # of photographs: halves of fewer have no covariance to speak of
READ = 64  # photographs at a time


class Backbone(nn.Module):
    """A timm network that describes images by the channel means of some of its stages.

    Random weights depend on the seed and on timm's and torch's initialisation alone, not on the device.

    Raises:
        ConfigError: timm does not know the name or the stages, or its weights cannot be had.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, name: str = "resnet18", pretrained: bool = False, seed: int = 0, stages: Sequence[int] = (1, 2, 3)
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


def frechet_distance(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """|mean difference|^2 + tr(A + B - 2 (A B)^(1/2)) of two sets of features, [N, D] and [M, D] float64.

    A and B are the covariances. It falls with the number of rows: compare sets of equal size.
    """
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    # tr (A B)^(1/2) by eigenvalues: the product is often singular, and they stay well-defined then
    root = np.sqrt(np.linalg.eigvals(cov_a @ cov_b).real.clip(min=0)).sum()
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + cov_a.trace() + cov_b.trace() - 2 * root)


class Frechet(GeneratorEvaluator):
    """Distances of samples and of their layers with three channels; see the README for what they are good for."""

    config: FrechetConfig

    def evaluate(self, generator: Generator, images: UnlabelledImages, ctx: RunContext) -> Report:
        """See `GeneratorEvaluator.evaluate`.

        Raises:
            ConfigError: there is no such backbone.
            DataError: fewer than 8 photographs.
        """
        if len(images) < MIN_IMAGES:
            raise DataError(
                f"{len(images)} photographs are too few for a Frechet distance",
                f"give at least {MIN_IMAGES}, preferably 1000",
            )
        c = self.config
        backbone = Backbone(c.backbone, c.pretrained, c.backbone_seed, c.stages).to(ctx.device)
        with frozen(generator):
            made = self._samples(generator, backbone, ctx)
        real = self._photographs(generator, images, backbone, ctx)
        spread = float(real.var(axis=0, ddof=1).sum())
        if spread == 0:
            raise DataError("all photographs have the same features", "give a folder of different photographs")
        # a folder's order is often that of its subjects
        order = np.random.default_rng(ctx.seed).permutation(len(real))
        halves = frechet_distance(real[order[::2]], real[order[1::2]])
        found = {"frechet": frechet_distance(made.pop("images"), real)}
        found |= {f"frechet_{name}": frechet_distance(rows, real) for name, rows in made.items()}
        metrics: dict[str, float | None] = {
            "distance" + k.removeprefix("frechet"): v / spread for k, v in found.items()
        }
        metrics |= {"distance_halves": halves / spread, **found}
        metrics |= {"num_samples": ctx.limit(c.num_samples, 8), "num_images": len(real)}
        return Report(
            metrics=metrics,
            definitions={name: _definition(name) for name in metrics},
            notes=(
                f"backbone: {backbone.title}",
                "compare numbers of one backbone, size and count only; none of them is an FID",
            ),
        )

    def _samples(self, generator: Generator, backbone: Backbone, ctx: RunContext) -> dict[str, NDArray[np.float64]]:
        """Features of the images under `images`, and of every layer with three channels under its name."""
        found: dict[str, list[Tensor]] = {}
        batches = list(ctx.batches("test", self.config.num_samples))
        for seeds in ctx.track(batches, "painting"):
            with torch.no_grad():
                batch = generator.sample(seeds.to(generator.device))
            layers = {name: layer for name, layer in batch.layers.items() if layer.shape[1] == 3}
            for name, pictures in chain({"images": batch.images}.items(), layers.items()):
                rows = backbone(pictures)
                if not bool(torch.isfinite(rows).all()):
                    raise DataError(
                        f"the generator made {name} that are not finite", "train it again, or use earlier weights"
                    )
                found.setdefault(name, []).append(rows)
        return {name: _stacked(rows) for name, rows in found.items()}

    def _photographs(
        self, generator: Generator, images: UnlabelledImages, backbone: Backbone, ctx: RunContext
    ) -> NDArray[np.float64]:
        info = generator.info
        count = max(MIN_IMAGES, ctx.limit(min(self.config.num_samples, len(images)), MIN_IMAGES))
        chosen = np.random.default_rng(ctx.seed).permutation(len(images))[:count].tolist()
        fitted = images.fitted((info.height, info.width), info.fit_rule)
        batches = [chosen[i : i + READ] for i in range(0, count, READ)]
        return _stacked(backbone(to_images(fitted.batch(part))) for part in ctx.track(batches, "reading photographs"))


def _stacked(rows: Iterable[Tensor]) -> NDArray[np.float64]:
    stacked: NDArray[np.float64] = torch.cat(list(rows)).numpy()
    return stacked


def _definition(name: str) -> str:
    kind, _, layer = name.partition("_")
    if name == "num_samples":
        return "generated images that were compared"
    if name == "num_images":
        return "photographs that were compared"
    if layer == "halves":
        return "distance between two random halves of the photographs: what no generator can be asked to beat"
    whose = f"the bare layer '{layer}'" if layer else "the images"
    unit = " as a share of the photographs' total variance" if kind == "distance" else ", in squared features"
    return f"Frechet distance between features of {whose} and of the photographs{unit}"
