"""Extractor `labels4free`: an alpha network on the features of a frozen generator.

Abdal, Zhu, Mitra, Wonka, Labels4Free: Unsupervised Segmentation Using StyleGAN, ICCV 2021. The alpha network cuts the
object out of a generated image, the cut is put on the background of another image, and a discriminator that starts
from nothing must not be able to tell the result from real images. Only what belongs to the object can stay.

Symbols as in the paper: G generator, G_bg background generator, A alpha network, M = A(z) mask, D discriminator,
w and w' latents of foreground and background, B, C, E regularisers, lambda_1, lambda_2 their weights, phi_1, phi_2
least areas, psi truncation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from gsegkit.context import RunContext
from gsegkit.dataset import UnlabelledImages
from gsegkit.errors import ArtifactError, ContractError, DataError, DivergedError
from gsegkit.images import to_pixels
from gsegkit.interfaces import Generator, MaskExtractor
from gsegkit.seeds import isolated_rng
from gsegkit.taps import frozen
from gsegkit.types import GeneratedBatch, GeneratorInfo, MaskBatch
from gsegkit_labels4free.background import MEASURED, Background, area_of, choose, difference
from gsegkit_labels4free.banks import Bank, load_bank, sample_bank
from gsegkit_labels4free.config import Labels4FreeConfig
from gsegkit_labels4free.figures import ROWS, SHOWN, composite_rows
from gsegkit_labels4free.networks import AlphaNetwork, Discriminator, Level
from gsegkit_labels4free.taps import levels_of, select_levels
from gsegkit_labels4free.training import COLLAPSED, MEAN_LATENTS, UNSEEN, Best, Setting, Training

CLASSES = ("background", "foreground")
PATIENCE = 4  # snapshots in a row with collapsed masks that end the training
LEAST_BASE = 512  # of the discriminator's width, when none is given
WEAK = 0.1  # separation below which the result is doubtful


class Labels4Free(MaskExtractor):
    """A, the alpha network, and how its masks are read.

    Attributes:
        levels: the resolutions that A reads.
        found: JSON-ready facts of the training: background generator, area window, chosen snapshot, real images.
    """

    config: Labels4FreeConfig

    def __init__(self, config: Labels4FreeConfig) -> None:
        super().__init__(config)
        self.classes = CLASSES
        self.alpha_levels: tuple[Level, ...] = ()
        self.size = (0, 0)
        self.found: dict[str, Any] = {}
        self.alpha: AlphaNetwork | None = None
        self.register_buffer("anchor", torch.zeros(0), persistent=False)  # knows the device before there are weights

    def features(self, info: GeneratorInfo) -> tuple[str, ...]:
        """Two maps of each of the `levels` highest resolutions; A may read fewer, see the option `select`."""
        return tuple(name for level in levels_of(info, self.config.levels) for name in level.names)

    # ---- Section 3.3: training -----------------------------------------------------------------------------------

    def fit(self, generator: Generator, ctx: RunContext, *, images: UnlabelledImages | None = None) -> None:
        """Train A against D; `images` are the real images, without them generated ones are.

        Raises:
            CapabilityError: the generator has no features, no edit point, or is smaller than 32 px.
            DataError: the real images are of another size, or too few.
            DivergedError: a loss became non-finite, or no snapshot had a mask worth keeping.
        """
        with frozen(generator):
            setting = self._prepare(generator, ctx, images)
            best = self._train(generator, setting, ctx)
            self.alpha = best.network.eval()
            self.found |= {
                "snapshot": int(best.step),
                "separation": round(float(best.score), 4),
                "coverage": round(float(best.area), 4),
            }
            self._draw(generator, ctx)
            if not ctx.smoke:
                self._check_masks(best, ctx)

    def _prepare(self, generator: Generator, ctx: RunContext, images: UnlabelledImages | None) -> Setting:
        """Everything that is fixed before the first iteration; the same again after an interruption."""
        config, info = self.config, generator.info
        levels = levels_of(info, config.levels)
        if config.select == "ssim":
            levels = select_levels(generator, levels, ctx)
        self.alpha_levels, self.size = levels, (info.height, info.width)
        background, scores = choose(generator, config.background, config.background_edit, ctx)
        foreground_area, background_area = self._window(generator, background, ctx)
        reals = load_bank(images, self.size, ctx) if images is not None and config.reals == "auto" else None
        source = "generated images" if reals is None else f"{len(images or ())} given images"
        self.found = {
            "levels": [list(level.names) for level in levels],
            "background": f"{background.point}:{background.edit}",
            "background_scores": scores,
            "area_window": [round(foreground_area, 4), round(1 - background_area, 4)],
            "reals": source,
        }
        ctx.info(
            f"labels4free: background generator {background.point} ({background.edit}), "
            f"real images: {source}, mask area {foreground_area:.0%} to {1 - background_area:.0%}"
        )
        return Setting(
            background=background,
            foreground_area=foreground_area,
            background_area=background_area,
            mean=_mean_latent(generator, ctx) if config.psi < 1 else None,
            reals=sample_bank(generator, ctx) if reals is None else reals,
            backgrounds=None if config.backgrounds is None else Bank.of_folder(config.backgrounds, info, ctx),
        )

    def _window(self, generator: Generator, background: Background, ctx: RunContext) -> tuple[float, float]:
        """phi_1 and phi_2."""
        config = self.config
        area = 0.0
        if config.foreground_area is None or config.background_area is None:
            area = _estimated_area(generator, background, ctx)
        # differs from the paper: it sets both by hand for each data set
        phi_1 = area / 2 if config.foreground_area is None else config.foreground_area
        phi_2 = (1 - area) / 2 if config.background_area is None else config.background_area
        return phi_1, phi_2

    def _train(self, generator: Generator, setting: Setting, ctx: RunContext) -> Best:
        config = self.config
        with isolated_rng(ctx.seed):
            alpha = AlphaNetwork(self.alpha_levels, *self.size).to(ctx.device)
            base = config.disc_base or max(LEAST_BASE, 8 * min(self.size))
            discriminator = Discriminator(*self.size, base, config.disc_max).to(ctx.device)
        discriminator.to(memory_format=torch.channels_last)
        best = Best(alpha)
        training = Training(
            config, self.alpha_levels, generator, setting, ctx, alpha=alpha, discriminator=discriminator, best=best
        )
        state: dict[str, Any] = {
            "alpha": alpha,
            "average": training.A_ema,
            "judge": discriminator,  # the key that stored checkpoints have
            "adam_alpha": training.adam_A,
            "adam_judge": training.adam_D,
            "best": best,
        }
        loop = ctx.steps(config.steps, state=state, name="labels4free")
        for step in loop:
            loop.log(**training.step(step))
            if (step + 1) % config.snapshot == 0 or step + 1 == loop.total:
                training.look(step + 1)
                if config.collapse and int(best.collapsed) >= PATIENCE and float(best.score) > UNSEEN:
                    ctx.warn(
                        f"the masks collapsed after iteration {step + 1}; those of iteration {int(best.step)} are kept"
                    )
                    break
        return best

    def _check_masks(self, best: Best, ctx: RunContext) -> None:
        """Tell the user what was kept, and what will go wrong."""
        if float(best.score) == UNSEEN:
            low, high = COLLAPSED
            raise DivergedError(
                f"in no snapshot did the masks cover between {low:.0%} and {high:.0%} of the images "
                f"(the last: {float(best.area):.1%})",
                f"look at {ctx.folder / 'figures' / 'labels4free.png'}; choose another "
                "extractor.background, raise foreground_weight or background_weight, or lower area_cost",
            )
        ctx.info(
            f"labels4free: iteration {self.found['snapshot']}, masks cover {self.found['coverage']:.0%} of the "
            f"images, separation {self.found['separation']:.2f}"
        )
        if float(best.score) < WEAK:
            ctx.warn(
                f"the masks barely separate what the background generator removes (separation "
                f"{self.found['separation']:.2f}): inspect {ctx.folder / 'figures' / 'labels4free.png'}, and choose "
                "another extractor.background if its row shows objects"
            )

    # ---- masks ---------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def extract(self, batch: GeneratedBatch, generator: Generator) -> MaskBatch:
        """Probability of the foreground: alpha, bent such that `threshold` becomes one half.

        Scores: `coverage` (share of foreground), `binary` (mean of min(M, 1 - M): 0 = every pixel is sure).
        """
        mask = self.soft(batch.features)[:, 0]
        t = self.config.threshold
        if self.config.hard:
            foreground = (mask > t).float()
        else:
            foreground = torch.where(mask < t, mask / (2 * t), 1 - (1 - mask) / (2 * (1 - t)))
        scores = {
            "coverage": (mask > t).float().mean(dim=(1, 2)),
            "binary": torch.minimum(mask, 1 - mask).mean(dim=(1, 2)),
        }
        return MaskBatch(torch.stack([1 - foreground, foreground], dim=1), scores)

    @torch.no_grad()
    def soft(self, features: Mapping[str, Tensor]) -> Tensor:
        """Soft alpha, [N, 1, H, W] float32, of features that the generator gave; for compositing.

        Raises:
            ArtifactError: not fitted.
            ContractError: a map that A reads is missing.
        """
        if self.alpha is None:
            raise _unfitted()
        missing = [name for level in self.alpha_levels for name in level.names if name not in features]
        if missing:
            raise ContractError(
                f"the batch has no feature '{missing[0]}'", "sample with features=extractor.features(generator.info)"
            )
        soft: Tensor = self.alpha(features)
        return soft

    @torch.no_grad()
    def emptied(self, batch: GeneratedBatch, generator: Generator) -> Tensor:
        """The batch's images by the background generator, [N, 3, H, W] float32: backgrounds without objects."""
        if "background" not in self.found:
            raise _unfitted()
        background = Background.parse(self.found["background"])
        return generator.synthesize(batch.latents, batch.labels, edits=background.edits).images

    @torch.no_grad()
    def rows(self, generator: Generator, seeds: Tensor) -> dict[str, Tensor]:
        """The method on these seeds, as rows of images; see `figures.composite_rows`."""
        batch = generator.sample(seeds, features=self.features(generator.info))
        soft = self.soft(batch.features)
        return composite_rows(batch.images, soft, self.emptied(batch, generator), self.config.threshold)

    def _draw(self, generator: Generator, ctx: RunContext) -> None:
        rows = self.rows(generator, ctx.seeds("preview", SHOWN))
        found = self.found
        caption = (
            f"Rows: {', '.join(ROWS)}. Background generator: edit point {found['background']}. "
            f"Real images: {found['reals']}. Iteration {found['snapshot']}, separation {found['separation']:.2f}."
        )
        ctx.figure("labels4free", to_pixels(torch.cat(list(rows.values()))), caption, SHOWN)

    # ---- storing -------------------------------------------------------------------------------------------------

    def facts(self) -> dict[str, Any]:
        """Sizes of A, and what the training found."""
        levels = [[level.height, level.width, list(level.names), list(level.channels)] for level in self.alpha_levels]
        return {"alpha_levels": levels, "size": list(self.size), **self.found}

    def restore(self, facts: Mapping[str, Any]) -> None:
        """Rebuild A."""
        self.alpha_levels = tuple(Level(h, w, tuple(names), tuple(c)) for h, w, names, c in facts["alpha_levels"])
        self.size = (int(facts["size"][0]), int(facts["size"][1]))
        self.found = {name: value for name, value in facts.items() if name not in ("alpha_levels", "size")}
        with isolated_rng(0):
            self.alpha = AlphaNetwork(self.alpha_levels, *self.size).to(self.device)


def _unfitted() -> ArtifactError:
    return ArtifactError("the extractor 'labels4free' was not fitted", "fit() it, or load a fitted one")


@torch.no_grad()
def _mean_latent(generator: Generator, ctx: RunContext) -> Tensor:
    """Where truncation pulls to, [*latent_shape]."""
    seeds = ctx.seeds("fit", ctx.limit(MEAN_LATENTS, 64))
    latents = torch.cat([generator.latents(chunk) for chunk in torch.split(seeds, 256)])
    if not bool(torch.isfinite(latents).all()):
        raise DataError("the generator's latents hold NaN or infinity", "its weights are damaged")
    return latents.mean(dim=0)


@torch.no_grad()
def _estimated_area(generator: Generator, background: Background, ctx: RunContext) -> float:
    """Share of the images that changes when the background generator takes the object away."""
    areas: list[Tensor] = []
    for seeds in ctx.batches("fit", MEASURED):
        latents, labels = generator.latents(seeds), generator.labels(seeds)
        images = generator.synthesize(latents, labels).images
        if not bool(torch.isfinite(images).all()):
            raise DataError("the generator makes images with NaN or infinity", "its weights are damaged")
        emptied = generator.synthesize(latents, labels, edits=background.edits).images
        areas.append(area_of(difference(images, emptied)))
    return float(torch.cat(areas).mean())
