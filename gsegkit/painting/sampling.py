"""Painting with no training at all: search a generator's latents for a picture in which the extractor sees the mask.

Semantic-conditional sampling of Xu and Zheng, "Linear Semantics in Generative Adversarial Networks", Sec. 5.2: draw
some latents, keep the one whose label map agrees best with the mask, then descend on the cross-entropy between the
extractor's answer and the mask. Every picture is one of the generator's: a mask that it never paints is not followed.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from gsegkit.config import Config
from gsegkit.context import RunContext
from gsegkit.dataset import LabelledDataset, MemoryDataset
from gsegkit.errors import CapabilityError, ConfigError
from gsegkit.images import to_pixels
from gsegkit.interfaces import Generator, MaskExtractor, Segmenter
from gsegkit.painting.painter import Painter, check_canvas
from gsegkit.seeds import child_seed, sample_seeds
from gsegkit.taps import frozen
from gsegkit.types import IGNORE

SAMPLES_AT_ONCE = 16
SPREAD_SAMPLES = 256  # latents that tell where latents lie
FLOOR = 1e-4  # added to probabilities: a pixel that is wrong for sure pulls no harder than one of this probability


class MaskSamplingConfig(Config):
    """Options of mask-sampling."""

    candidates: int = Field(10, ge=1, le=1000, description="latents drawn; the search starts at the best of them")
    steps: int = Field(50, ge=0, le=10_000, description="steps of Adam; 0 = the best candidate as it is")
    lr: float = Field(0.1, gt=0, le=1, description="step of Adam, in standard deviations of the latents")
    anchor: float = Field(1e-3, ge=0, le=100, description="weight of the squared distance from the best candidate")
    centre: float = Field(1e-3, ge=0, le=100, description="weight of the mean square of the latent: not too unusual")


class MaskSampling(Painter):
    """Paints with a run's generator and extractor as they are. It is not stored: it lives with its run.

    A latent of this painter holds one of the generator's for each candidate, in standard deviations from their mean,
    so that a mix of two seeds is again a usual latent. The candidates of a class-conditional generator have its
    classes in turn.

    Args:
        generator: of a run.
        extractor: fitted to it; under class names, those are the painter's classes.
        config: options.

    Raises:
        CapabilityError: the extractor's probabilities have no gradient in the generator's latents.
    """

    config: MaskSamplingConfig
    mean: Tensor
    deviation: Tensor

    def __init__(self, generator: Generator, extractor: MaskExtractor, config: MaskSamplingConfig) -> None:
        super().__init__(config)
        self.generator, self.extractor = generator.eval(), extractor.eval()
        self.classes, self.scaling = extractor.classes, generator.scaling
        self.train_size = (generator.info.height, generator.info.width)
        known = generator.latents(sample_seeds(0, "fit", 0, SPREAD_SAMPLES))
        self.latent_dim = config.candidates * known[0].numel()
        self.register_buffer("mean", known.mean(dim=0))
        self.register_buffer("deviation", known.std(dim=0).clamp_min(1e-6))
        self._check_gradient()

    def fit(self, dataset: LabelledDataset, ctx: RunContext, *, segmenter: Segmenter | None = None) -> None:
        """Refused: there is nothing to learn."""
        raise ConfigError("mask-sampling has nothing to learn", "paint with it, or train a painter")

    def latents(self, seeds: Tensor) -> Tensor:
        """See `Painter.latents`."""
        rows = [self._standard(self.generator.latents(self._candidate_seeds(int(seed)))).flatten() for seed in seeds]
        return torch.stack(rows) if rows else self.mean.new_zeros(0, self.latent_dim)

    def paint(self, masks: Tensor, z: Tensor) -> Tensor:
        """See `Painter.paint`; takes seconds a picture."""
        check_canvas(self, masks, z)
        starts = z.to(self.device).unflatten(1, (self.config.candidates, *self.generator.info.latent_shape))
        with frozen(self):
            rows = [self._search(mask, row) for mask, row in zip(masks.to(self.device), starts, strict=True)]
        return torch.cat(rows) if rows else torch.zeros(0, 3, *self.train_size, device=self.device)

    def samples(self, count: int) -> MemoryDataset:
        """Pictures of the generator with what the extractor sees in them: masks that it can certainly paint."""
        pixels, masks = [], []
        for seeds in sample_seeds(0, "preview", 0, count).split(SAMPLES_AT_ONCE):
            batch = self.generator.sample(seeds, features=self.extractor.features(self.generator.info))
            found = self.extractor.extract(batch, self.generator)
            seen = found.probs.argmax(dim=1).to(torch.uint8)
            masks.append((seen if found.ignore is None else seen.masked_fill(found.ignore, IGNORE)).cpu())
            pixels.append(to_pixels(batch.images).cpu())
        return MemoryDataset(torch.cat(pixels), torch.cat(masks), self.classes)

    # ---- one picture ---------------------------------------------------------------------------------------------

    def _search(self, mask: Tensor, starts: Tensor) -> Tensor:
        """[1, 3, H, W] of one mask [H, W] uint8 and its candidates [C, *latent_shape]; alone, so no batch matters."""
        with torch.no_grad():
            best = int(agreement(mask, self._look(starts, range(len(starts)))[1]).argmax())
        start = starts[best : best + 1]
        z = start.clone().requires_grad_()
        optimiser = torch.optim.Adam([z], lr=self.config.lr)
        found, least = start[:0], float("inf")
        steps = self.config.steps if bool((mask != IGNORE).any()) else 0
        for step in range(steps + 1):
            with torch.set_grad_enabled(step < steps):
                images, probs = self._look(z, [best])
                mismatch = cross_entropy(mask, probs)
                away, unusual = (z - start).square().sum(), z.square().mean()
                loss = mismatch + self.config.anchor * away + self.config.centre * unusual
            if float(mismatch.detach()) < least or not len(found):
                found, least = images.detach(), float(mismatch.detach())
            if step < steps:
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
        return found.clamp(-1, 1)

    def _look(self, z: Tensor, candidates: Iterable[int]) -> tuple[Tensor, Tensor]:
        """Images [N, 3, H, W] of latents in standard deviations, and the extractor's probabilities, 0 where ignored."""
        labels = None
        if self.generator.info.num_classes:
            labels = torch.tensor([self._label(index) for index in candidates], device=z.device)
        features = self.extractor.features(self.generator.info)
        batch = self.generator.synthesize(z * self.deviation + self.mean, labels, features=features)
        found = self.extractor.extract(batch, self.generator)
        if found.ignore is None:
            return batch.images, found.probs
        return batch.images, found.probs.masked_fill(found.ignore[:, None], 0)  # no class: never what was painted

    # ---- candidates ----------------------------------------------------------------------------------------------

    def _candidate_seeds(self, seed: int) -> Tensor:
        """Identities of the generator's samples that are the candidates of a seed: [candidates] int64."""
        return torch.tensor([self._candidate_seed(seed, index) for index in range(self.config.candidates)])

    def _candidate_seed(self, seed: int, index: int) -> int:
        for attempt in count():  # a sample's class is a function of its seed, and its latent may depend on both
            found = child_seed(seed, "candidate", index, attempt)
            labels = self.generator.labels(torch.tensor([found]))
            if labels is None or int(labels) == self._label(index):
                return found
        raise AssertionError("unreachable")

    def _label(self, index: int) -> int:
        return index % self.generator.info.num_classes

    def _standard(self, latents: Tensor) -> Tensor:
        return (latents - self.mean) / self.deviation

    def _check_gradient(self) -> None:
        with frozen(self), torch.enable_grad():
            _, probs = self._look(torch.zeros_like(self.mean)[None].requires_grad_(), [0])
        if not probs.requires_grad:
            raise CapabilityError(
                f"mask-sampling needs masks with a gradient in the latents, and those that {_named(self.extractor)} "
                f"reads from {_named(self.generator)} have none",
                "train a painter on the run's pairs: gsegkit train-painter",
            )


def agreement(mask: Tensor, probs: Tensor) -> Tensor:
    """Share of the known pixels whose most probable class is the mask's: [H, W] uint8, [N, K, H, W] -> [N] float32."""
    known = mask != IGNORE
    highest, found = probs.max(dim=1)
    hits = (found == mask) & (highest > 0) & known
    return hits.flatten(1).sum(dim=1) / known.sum().clamp_min(1)


def cross_entropy(mask: Tensor, probs: Tensor) -> Tensor:
    """Mean over the known pixels, 0 where there are none: [H, W] uint8, [1, K, H, W] -> a scalar."""
    target = mask.long()[None]
    losses = F.nll_loss((probs + FLOOR).log(), target, ignore_index=IGNORE, reduction="sum")
    return losses / (target != IGNORE).sum().clamp_min(1)


def _named(part: torch.nn.Module) -> str:
    inner = getattr(part, "extractor", part)  # an extractor under class names
    return type(inner).__name__
