"""Extractor `directions`: two latent directions whose difference is the object.

Melas-Kyriazi et al., Finding an Unsupervised Image Segmenter in Each of Your Deep Generative Models, ICLR 2022. One
direction makes the middle of every image lighter and its border darker, the other does the opposite, and neither
moves an edge; where the first image is lighter than the second is the object.

Symbols as in the paper: G generator, z code (here: latent of the edit space), v unit direction, eps length of the
shift, S edges, r prior, lambda weight of the contrast term; v_l and v_d are rows 0 and 1 of `directions`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gsegkit.context import RunContext, Steps
from gsegkit.dataset import UnlabelledImages
from gsegkit.errors import ArtifactError, CapabilityError, DataError, DivergedError
from gsegkit.images import histogram_peaks
from gsegkit.interfaces import Generator, MaskExtractor
from gsegkit.taps import frozen
from gsegkit.types import GeneratedBatch, MaskBatch
from gsegkit_directions.config import DirectionsConfig
from gsegkit_directions.figures import SHOWN, direction_rows
from gsegkit_directions.latents import SPREAD_SAMPLES, EditSpace, check_shape, measure_latents, spread_of
from gsegkit_directions.losses import Terms, eq_1, luma, terms
from gsegkit_directions.scores import cleaned_coverage, otsu_levels

CLASSES = ("background", "foreground")
NAMES = ("light", "dark")
SIGNS = (1.0, -1.0)  # of the contrast term: positive = the middle gets lighter
JITTER_LEAST = 0.1  # of the released code: the least epsilon that its noise leaves
MEASURED = 64  # images on which edges are measured before, and masks after the search
BROKEN_SATURATED = 0.99  # share of values at or beyond the ends at which a generator counts as broken
RUNNING = 0.9  # decay of the running mean of the edges' change
GRACE = 20  # steps before that mean may stop a direction: a random start may change more than a good direction
PUBLISHED_AREA = 0.5  # of the papers' refinement


class Directions(MaskExtractor):
    """The light and the dark direction, and the masks made from them.

    Attributes:
        directions: [2, *latent_shape] float32: v_l and v_d.
        space: geometry of the edit space they were found in.
        found: JSON-ready facts of the search: cosine, coverage, contrast, where a direction was stopped.
    """

    config: DirectionsConfig
    directions: Tensor

    def __init__(self, config: DirectionsConfig) -> None:
        super().__init__(config)
        self.classes = CLASSES
        self.space = EditSpace((0,), 0.0)
        self.redraw = False  # sample() draws other noise than synthesize(): the unshifted image must be made anew
        self.found: dict[str, Any] = {}
        self.register_buffer("directions", torch.zeros(2, 0))

    # ---- Section 3.1: the search ---------------------------------------------------------------------------------

    def fit(self, generator: Generator, ctx: RunContext, *, images: UnlabelledImages | None = None) -> None:
        """Minimise Eq. 1 for both signs at once; real images are not used.

        Raises:
            CapabilityError: no gradient reaches the latents.
            DataError: the generator's latents or images are broken, or the shift saturates them.
            DivergedError: the loss became non-finite.
        """
        with frozen(generator):
            self._measure_space(generator, ctx)
            term = self._measure_edges(generator, ctx)
            search = self._search(generator, term, ctx)
            self.directions = self.space.unit(search.kept).detach().contiguous()
            self.redraw = _samples_differ(generator, ctx)
            self._measure_masks(generator, search, ctx)
            self._draw(generator, ctx)

    def rows(self, batch: GeneratedBatch, generator: Generator) -> dict[str, Tensor]:
        """What the two directions do to a batch; see `figures.direction_rows`."""
        with torch.no_grad():
            masks = self.extract(batch, generator).probs.argmax(dim=1)
            light, dark = (self.shifted(batch, generator, i) for i in range(2))
            return direction_rows(self.unshifted(batch, generator), light, dark, masks)

    def _draw(self, generator: Generator, ctx: RunContext) -> None:
        rows = self.rows(generator.sample(ctx.seeds("preview", SHOWN)), generator)
        caption = (
            "Rows: original; the light direction; the dark direction; their difference (grey = none); the mask. "
            f"Cosine of the two directions {self.found['cosine']:.2f}."
        )
        ctx.figure("directions", torch.cat(list(rows.values())), caption, SHOWN)

    def _search(self, generator: Generator, term: Terms, ctx: RunContext) -> Search:
        config = self.config
        search = Search(self.space.free_shape, ctx).to(ctx.device)
        optimizer = torch.optim.Adam([search.free], lr=config.lr)
        loop = ctx.steps(config.steps, state={"search": search, "optimizer": optimizer}, name="directions")
        for step in loop:
            for group in optimizer.param_groups:
                group["lr"] = self._learning_rate(step, loop)
            optimizer.zero_grad()
            edge_change, contrast, energy = self._accumulate(generator, term, search, step, ctx)
            _check_gradient(search.free.grad, generator)
            optimizer.step()
            search.free.data = self.space.normed(search.free.data)
            search.watch(edge_change / energy, step, config.max_edge_change)
            cosine = _cosine(self.space.unit(search.free.detach()))
            values = {f"edge_change_{name}": edge_change[i] for i, name in enumerate(NAMES)}
            values |= {f"contrast_{name}": contrast[i] for i, name in enumerate(NAMES)}
            loop.log(**values, cosine=cosine)
            if not bool(search.active.any()):
                break
        return search

    def _accumulate(
        self, generator: Generator, term: Terms, search: Search, step: int, ctx: RunContext
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of one step's codes, in micro-batches.

        Returns:
            L_s [2], the contrast gained [2] (positive = the middle got lighter, or darker), the edges' energy.
        """
        config = self.config
        weights = torch.tensor(SIGNS, device=ctx.device)
        eps = self._eps((2, config.batch_size, *self.space.shape)).to(ctx.device)  # [2,B,*latent] or a number
        totals = [
            torch.zeros(2, device=ctx.device),
            torch.zeros(2, device=ctx.device),
            torch.zeros((), device=ctx.device),
        ]
        first = 0
        for seeds in torch.split(
            ctx.seeds("fit", config.batch_size, SPREAD_SAMPLES + step * config.batch_size), ctx.batch_size
        ):
            latents, labels = generator.latents(seeds).detach(), generator.labels(seeds)
            with torch.no_grad():  # G(z) is shared by both directions
                originals = self._visible(generator.synthesize(latents, labels).images)
                edges, before = term.edges(originals), term.contrast(originals)
            v = self.space.unit(search.free).unsqueeze(1)  # [2,1,*latent]
            own = eps[:, first : first + len(seeds)] if eps.ndim else eps
            shifted = latents + own * v  # [2,n,*latent]
            twice = None if labels is None else labels.repeat(2)  # the same class in every image of a code
            pictures = generator.synthesize(shifted.flatten(0, 1), twice).images
            if not pictures.requires_grad:
                raise _no_gradient(generator)
            pictures = self._visible(pictures)
            loss, edge_change, contrast = eq_1(
                term, pictures, edges, before, weights, config.edge_weight, config.prior_weight
            )
            total = loss.sum() / config.batch_size
            if not bool(torch.isfinite(total)):
                raise DivergedError(
                    f"the loss of the directions became {float(total.detach())} at step {step + 1}",
                    "the generator makes non-finite images there: lower extractor.shift",
                )
            total.backward()
            for sum_, part in zip(
                totals, (edge_change.sum(1), contrast.sum(1), term.edge_energy(edges).sum()), strict=True
            ):
                sum_ += part.detach() / config.batch_size
            first += len(seeds)
        return totals[0], totals[1], totals[2].clamp_min(1e-12)

    def _eps(self, shape: tuple[int, ...]) -> Tensor:
        """Length of the shift: one number, or in the released code one for each number of each latent."""
        config = self.config
        scale = self.space.length(config.shift_unit)
        if not config.jitter:
            return torch.tensor(config.shift * scale)
        return (config.shift + config.jitter * torch.randn(shape)).clamp_min(JITTER_LEAST) * scale

    def _learning_rate(self, step: int, loop: Steps) -> float:
        # differs from the paper: its constant rate keeps the direction shaking about the optimum
        if self.config.schedule == "constant":
            return self.config.lr
        return self.config.lr * 0.5 * (1 + math.cos(math.pi * step / loop.planned))

    def _visible(self, images: Tensor) -> Tensor:
        # differs from the paper: outputs without a tanh could earn contrast that nobody sees
        return images.clamp(-1, 1) if self.config.clamp else images

    # ---- what is measured before and after ------------------------------------------------------------------------

    def _measure_space(self, generator: Generator, ctx: RunContext) -> None:
        shape = generator.info.latent_shape
        shared = self.config.layers == "shared" and len(shape) > 1
        spread = spread_of(measure_latents(generator, ctx))
        self.space = EditSpace(shape, spread, shared, self.config.unit_over == "first")

    def _measure_edges(self, generator: Generator, ctx: RunContext) -> Terms:
        """The terms of the loss; refuses generators whose images are broken."""
        term = terms(self.config.reading, generator.info.height, generator.info.width, ctx.device)
        energy, saturated = 0.0, 0.0
        batches = list(ctx.batches("fit", MEASURED))
        for seeds in batches:
            with torch.no_grad():
                pictures = generator.synthesize(generator.latents(seeds), generator.labels(seeds)).images
            if not bool(torch.isfinite(pictures).all()):
                raise DataError("the generator makes images with NaN or infinity", "its weights are damaged")
            energy += float(term.edge_energy(term.edges(self._visible(pictures))).mean()) / len(batches)
            saturated += float((pictures.abs() >= 1).float().mean()) / len(batches)
        if saturated >= BROKEN_SATURATED:
            raise DataError(
                f"{saturated:.1%} of the generator's values lie at or beyond -1 and 1: its images are saturated",
                "images must lie in [-1, 1]; its weights are damaged, or its output has another scale",
            )
        # differs from the paper: L_s grows with the square of the images' contrast and L_c with the contrast, so one
        # lambda fits one data set; relative to the edges' energy it fits all that were tried
        return term._replace(energy=max(energy, 1e-12)) if self.config.reading == "relative" else term

    def _measure_masks(self, generator: Generator, search: Search, ctx: RunContext) -> None:
        """Look at fresh samples: note cosine, coverage and contrast, and tell the user what will go wrong."""
        coverage, contrast, saturated = [], [], 0.0
        batches = list(ctx.batches("validation", MEASURED))
        for seeds in batches:
            batch = generator.sample(seeds)
            scores = self.extract(batch, generator).scores
            coverage.append(scores["coverage"])
            contrast.append(scores["contrast"])
            before = (batch.images.abs() >= 1).float().mean()
            after = [(self.shifted(batch, generator, i).abs() >= 1).float().mean() for i in self._used()]
            saturated += float(max(after) - before) / len(batches)
        areas = torch.cat(coverage)
        self.found = {
            "cosine": round(float(_cosine(self.directions)), 4),
            "coverage": round(float(areas.mean()), 4),
            "contrast": round(float(torch.cat(contrast).mean()), 4),
            "saturated": round(saturated, 4),
            "stopped_after": {name: int(s) for name, s in zip(NAMES, search.stopped, strict=True) if s >= 0},
        }
        if saturated > self.config.max_saturated:
            raise DataError(
                f"the shift drives {saturated:.0%} of the values to black or white (at most "
                f"{self.config.max_saturated:.0%} may be)",
                "lower extractor.mask_shift, or raise extractor.edge_weight",
            )
        if not ctx.smoke:
            self._advise(areas, search, ctx)

    def _advise(self, areas: Tensor, search: Search, ctx: RunContext) -> None:
        ctx.info(
            f"directions: cosine {self.found['cosine']:.2f}, masks cover {self.found['coverage']:.0%} of the images, "
            f"contrast {self.found['contrast']:.2f}"
        )
        for name, step in self.found["stopped_after"].items():
            ctx.warn(f"the {name} direction was stopped after step {step}: it changed the edges too much; lower shift")
        if self.found["cosine"] > 0:
            ctx.warn(
                "the two directions are not opposed: they do not separate the brightness of object and background here"
            )
        large = float((areas > PUBLISHED_AREA).float().mean())
        if large > 0.9:
            ctx.warn(
                f"{large:.0%} of the masks cover more than half of the image: the published area limit of 0.5 "
                "would drop them; keep area.max above that, or raise voynov.max_area"
            )

    # ---- Section 3.2: masks --------------------------------------------------------------------------------------

    def shifted(self, batch: GeneratedBatch, generator: Generator, index: int) -> Tensor:
        """G(z + eps v) for v_l (0) or v_d (1): [N, 3, H, W] float32."""
        if self.directions.numel() == 0:
            raise ArtifactError("the extractor 'directions' was not fitted", "fit() it, or load a fitted one")
        check_shape(batch.latents, self.space.shape)
        eps = self.config.mask_shift * self.space.length(self.config.shift_unit)
        latents = batch.latents + eps * self.directions[index]
        return self._visible(generator.synthesize(latents, batch.labels).images)

    def unshifted(self, batch: GeneratedBatch, generator: Generator) -> Tensor:
        """G(z) with the noise that the shifted images have: [N, 3, H, W] float32."""
        images = generator.synthesize(batch.latents, batch.labels).images if self.redraw else batch.images
        return self._visible(images)

    def _used(self) -> tuple[int, ...]:
        return {"both": (0, 1), "light": (0,), "dark": (1,)}[self.config.mask]

    @torch.no_grad()
    def extract(self, batch: GeneratedBatch, generator: Generator) -> MaskBatch:
        """Probability of the foreground from the difference of luma.

        Scores: `coverage` (share of foreground), `contrast` (mean absolute difference of luma), `histogram_peaks` (the
        fewer of the shifted images'); with both directions also `coverage_light` and `coverage_dark`, the area of
        each direction's own mask without small pieces, which is what the released code filters by.
        """
        pictures = {index: self.shifted(batch, generator, index) for index in self._used()}
        grey = {index: luma(picture)[:, 0] for index, picture in pictures.items()}
        original = luma(self.unshifted(batch, generator))[:, 0]
        difference = grey.get(0, original) - grey.get(1, original)  # Eq. 2; Eq. 3 for one direction
        level = self._level(difference)
        foreground = torch.sigmoid(self.config.sharpness * (difference - level))
        scores = {
            "coverage": (difference > level).float().mean(dim=(1, 2)),
            "contrast": difference.abs().mean(dim=(1, 2)),
            "histogram_peaks": torch.stack([histogram_peaks(picture) for picture in pictures.values()]).amin(dim=0),
        }
        if len(grey) == 2:
            scores["coverage_light"] = cleaned_coverage(grey[0] - original > 0)
            scores["coverage_dark"] = cleaned_coverage(original - grey[1] > 0)
        return MaskBatch(torch.stack([1 - foreground, foreground], dim=1), scores)

    def _level(self, difference: Tensor) -> Tensor:
        """The difference above which a pixel is foreground, [N, 1, 1]; 0 in the paper."""
        if self.config.level == "zero":
            return torch.zeros_like(difference[:, :1, :1])
        # differs from the paper: parts of the object that stay the same while the background changes belong to it, too
        return otsu_levels(difference).clamp_max(self.config.max_level)

    # ---- storing -------------------------------------------------------------------------------------------------

    def facts(self) -> dict[str, Any]:
        """The edit space, and what the search found."""
        return {
            "latent_shape": list(self.space.shape),
            "spread": self.space.spread,
            "redraw": self.redraw,
            **self.found,
        }

    def restore(self, facts: Mapping[str, Any]) -> None:
        """Take back what `facts()` gave."""
        known = ("latent_shape", "spread", "redraw")
        shape = tuple(int(n) for n in facts["latent_shape"])
        shared = self.config.layers == "shared" and len(shape) > 1
        self.space = EditSpace(shape, float(facts["spread"]), shared, self.config.unit_over == "first")
        self.redraw = bool(facts["redraw"])
        self.found = {name: value for name, value in facts.items() if name not in known}
        self.directions = torch.zeros(2, *shape, device=self.directions.device)


class Search(nn.Module):
    """All that changes during the search.

    Attributes:
        free: [2, *free_shape]: the numbers that are optimised; normed when they are used.
        kept: the same as they were when the edges' change was last within its limit.
        running: [2] running mean of the share of the edges' energy that changes.
        active: [2] bool: directions that were not stopped.
        stopped: [2] int64: the step after which a direction was stopped, -1 = never.
    """

    running: Tensor
    kept: Tensor
    active: Tensor
    stopped: Tensor

    def __init__(self, shape: tuple[int, ...], ctx: RunContext) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(ctx.seed)
        self.free = nn.Parameter(0.1 * torch.randn(2, *shape, generator=random))
        self.register_buffer("kept", self.free.detach().clone())
        self.register_buffer("running", torch.zeros(2))
        self.register_buffer("active", torch.ones(2, dtype=torch.bool))
        self.register_buffer("stopped", torch.full((2,), -1))

    @torch.no_grad()
    def watch(self, change: Tensor, step: int, limit: float | None) -> None:
        """Take the new numbers over while the edges hold; stop a direction for good when they no longer do."""
        self.running = RUNNING * self.running + (1 - RUNNING) * change
        mean = self.running / (1 - RUNNING ** (step + 1))
        if limit is not None and step >= GRACE:
            over = self.active & (mean > limit)
            self.stopped[over] = step + 1
            self.active &= ~over
        rows = self.active.view(2, *[1] * (self.free.ndim - 1))
        self.kept.copy_(torch.where(rows, self.free, self.kept))


def _cosine(directions: Tensor) -> Tensor:
    light, dark = directions.flatten(1)
    return torch.cosine_similarity(light, dark, dim=0)


def _check_gradient(gradient: Tensor | None, generator: Generator) -> None:
    if gradient is None or not bool(gradient.any()):
        raise _no_gradient(generator)


def _no_gradient(generator: Generator) -> CapabilityError:
    return CapabilityError(
        f"no gradient flows from the images of {type(generator).__name__} to its latents",
        "it detaches them, ignores its latents, or saturates; the extractor colour-maps needs no gradients",
    )


@torch.no_grad()
def _samples_differ(generator: Generator, ctx: RunContext) -> bool:
    """Whether sample() makes other images than synthesize() from the same latents: noise of its own."""
    batch = generator.sample(ctx.seeds("preview", 2))
    again = generator.synthesize(batch.latents, batch.labels).images
    return bool((again - batch.images).abs().max() > 1e-3)
