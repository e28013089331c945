"""Extractor `labels4free`: an alpha network on the features of a frozen generator.

Abdal, Zhu, Mitra, Wonka, Labels4Free: Unsupervised Segmentation Using StyleGAN, ICCV 2021. The alpha network cuts the
object out of a generated picture, the cut is put on the ground of another picture, and a discriminator that starts
from nothing must not be able to tell the result from real pictures. Only what belongs to the object can stay.

Symbols as in the paper: G generator, G_bg background generator, A alpha network, M = A(z) mask, D discriminator,
w and w' latents of foreground and background, B, C, E regularisers, lambda_1, lambda_2 their weights, phi_1, phi_2
least areas, psi truncation.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gsegkit.context import RunContext
from gsegkit.dataset import UnlabelledImages
from gsegkit.errors import ArtifactError, ContractError, DataError, DivergedError
from gsegkit.images import to_pixels
from gsegkit.interfaces import Generator, MaskExtractor
from gsegkit.seeds import isolated_rng
from gsegkit.taps import frozen
from gsegkit.types import GeneratedBatch, GeneratorInfo, MaskBatch
from gsegkit_labels4free.background import MEASURED, Background, area_of, choose, difference, separation
from gsegkit_labels4free.config import Labels4FreeConfig
from gsegkit_labels4free.figures import ROWS, SHOWN, composite_rows
from gsegkit_labels4free.grounds import Bank, load_bank, sample_bank
from gsegkit_labels4free.networks import AlphaNetwork, Discriminator, Level
from gsegkit_labels4free.taps import levels_of, select_levels

CLASSES = ("background", "foreground")
BETAS = (0.0, 0.99)  # of Adam, for A and D
MEAN_LATENTS = 4096  # latents that the centre of truncation is the mean of
UNSEEN = -2.0  # below every separation
COLLAPSED = (0.02, 0.98)  # mean area beyond which a mask says nothing
PATIENCE = 4  # snapshots in a row with collapsed masks that end the training
LEAST_BASE = 512  # of the discriminator's width, when none is given
WARM_UP = 10  # iterations in which the averaged network follows faster
WEAK = 0.1  # separation below which the result is doubtful
INVERTED = -0.1  # separation below which the masks show the ground instead of the object


class Labels4Free(MaskExtractor):
    """A, the alpha network, and how its masks are read.

    Attributes:
        levels: the resolutions that A reads.
        found: JSON-ready facts of the training: background generator, area window, chosen snapshot, real pictures.
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
        """Train A against D; `images` are the real pictures, without them generated ones are.

        Raises:
            CapabilityError: the generator has no features, no edit point, or is smaller than 32 px.
            DataError: the real pictures are of another size, or too few.
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
        source = "generated pictures" if reals is None else f"{len(images or ())} given pictures"
        self.found = {
            "levels": [list(level.names) for level in levels],
            "background": f"{background.point}:{background.edit}",
            "background_scores": scores,
            "area_window": [round(foreground_area, 4), round(1 - background_area, 4)],
            "reals": source,
        }
        ctx.info(
            f"labels4free: background generator {background.point} ({background.edit}), "
            f"real pictures: {source}, mask area {foreground_area:.0%} to {1 - background_area:.0%}"
        )
        return Setting(
            background=background,
            foreground_area=foreground_area,
            background_area=background_area,
            mean=_mean_latent(generator, ctx) if config.psi < 1 else None,
            reals=sample_bank(generator, ctx) if reals is None else reals,
            grounds=None if config.grounds is None else Bank.of_folder(config.grounds, info, ctx),
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
            judge = Discriminator(*self.size, base, config.disc_max).to(ctx.device)
        judge.to(memory_format=torch.channels_last)
        best = Best(alpha)
        state: dict[str, Any] = {
            "alpha": alpha,
            "average": copy.deepcopy(alpha).requires_grad_(False),
            "judge": judge,
            "adam_alpha": torch.optim.Adam(alpha.parameters(), lr=config.lr, betas=BETAS),
            "adam_judge": torch.optim.Adam(judge.parameters(), lr=config.lr_discriminator or config.lr, betas=BETAS),
            "best": best,
        }
        training = Training(self, generator, setting, ctx, **state)
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
                f"in no snapshot did the masks cover between {low:.0%} and {high:.0%} of the pictures "
                f"(the last: {float(best.area):.1%})",
                f"look at {ctx.folder / 'figures' / 'labels4free.png'}; choose another "
                "extractor.background, raise foreground_weight or background_weight, or lower area_cost",
            )
        ctx.info(
            f"labels4free: iteration {self.found['snapshot']}, masks cover {self.found['coverage']:.0%} of the "
            f"pictures, separation {self.found['separation']:.2f}"
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
        """The batch's pictures by the background generator, [N, 3, H, W] float32: grounds without objects."""
        if "background" not in self.found:
            raise _unfitted()
        background = Background(*self.found["background"].split(":"))
        return generator.synthesize(batch.latents, batch.labels, edits=background.edits).images

    @torch.no_grad()
    def rows(self, generator: Generator, seeds: Tensor) -> dict[str, Tensor]:
        """The method in pictures of these seeds; see `figures.composite_rows`."""
        batch = generator.sample(seeds, features=self.features(generator.info))
        soft = self.soft(batch.features)
        return composite_rows(batch.images, soft, self.emptied(batch, generator), self.config.threshold)

    def _draw(self, generator: Generator, ctx: RunContext) -> None:
        rows = self.rows(generator, ctx.seeds("preview", SHOWN))
        found = self.found
        caption = (
            f"Rows: {', '.join(ROWS)}. Background generator: edit point {found['background']}. "
            f"Real pictures: {found['reals']}. Iteration {found['snapshot']}, separation {found['separation']:.2f}."
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


@dataclass(frozen=True)
class Setting:
    """What is fixed during a training.

    Attributes:
        background: G_bg.
        foreground_area, background_area: phi_1 and phi_2.
        mean: latent that truncation pulls to, [*latent_shape]; None = no truncation.
        reals: pictures that D takes for real.
        grounds: pictures in place of G_bg's; None = G_bg's.
    """

    background: Background
    foreground_area: float
    background_area: float
    mean: Tensor | None
    reals: Bank
    grounds: Bank | None


class Best(nn.Module):
    """The averaged alpha network of the best snapshot so far.

    Attributes:
        score: its separation; UNSEEN = none yet.
        step, area: its iteration and mean area.
        collapsed: snapshots in a row whose masks are all or nothing.
    """

    score: Tensor
    step: Tensor
    area: Tensor
    collapsed: Tensor

    def __init__(self, network: AlphaNetwork) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).requires_grad_(False)
        self.register_buffer("score", torch.tensor(UNSEEN))
        self.register_buffer("area", torch.tensor(0.0))
        self.register_buffer("step", torch.tensor(0))
        self.register_buffer("collapsed", torch.tensor(0))

    def see(self, network: AlphaNetwork, score: float, area: float, step: int, take: bool) -> None:
        """Note a snapshot; `take` it whatever its score, or if it is the best."""
        low, high = COLLAPSED
        good = low <= area <= high
        self.collapsed.fill_(0 if good else int(self.collapsed) + 1)
        if (good and (take or score > float(self.score))) or float(self.score) == UNSEEN:
            self.network.load_state_dict(network.state_dict())
            self.score.fill_(score if good else UNSEEN)
            self.area.fill_(area)
            self.step.fill_(step)


class Training:
    """One iteration, and one look at the masks."""

    def __init__(
        self,
        extractor: Labels4Free,
        generator: Generator,
        setting: Setting,
        ctx: RunContext,
        *,
        alpha: AlphaNetwork,
        average: AlphaNetwork,
        judge: Discriminator,
        adam_alpha: torch.optim.Adam,
        adam_judge: torch.optim.Adam,
        best: Best,
    ) -> None:
        self.config, self.generator, self.setting, self.ctx = extractor.config, generator, setting, ctx
        self.A, self.A_ema, self.D = alpha, average, judge
        self.adam_A, self.adam_D, self.best = adam_alpha, adam_judge, best
        self.names = tuple(name for level in extractor.alpha_levels for name in level.names)

    def step(self, step: int) -> dict[str, Tensor]:
        """Update D, then A, on the same composites; numbers to log."""
        foregrounds, grounds = self.layers(step)
        M = self.A(foregrounds.features)  # [N,1,H,W]
        composites = M * foregrounds.images + (1 - M) * grounds  # Eq. 1
        # The generators are frozen and D's update does not move A: one set of features serves both updates.
        loss_D = self._judge_step(step, composites.detach())
        loss_A, area = self._alpha_step(composites, M)
        self._average(step)
        return {"loss_D": loss_D, "loss_A": loss_A, "area": area}

    @torch.no_grad()
    def layers(self, step: int) -> tuple[GeneratedBatch, Tensor]:
        """Foregrounds G(w) with features, and grounds G_bg(w') [N, 3, H, W]."""
        config, G = self.config, self.generator
        n = config.batch
        seeds = self.ctx.seeds("fit", 2 * n, MEAN_LATENTS + 2 * step * n)
        w, labels = G.latents(seeds[:n]), G.labels(seeds[:n])
        truncated = w if self.setting.mean is None else torch.lerp(self.setting.mean, w, config.psi)
        foregrounds = G.synthesize(truncated, labels, features=self.names)
        if self.setting.grounds is not None:
            return foregrounds, self.setting.grounds.draw(n, self.ctx.device)
        # differs from the released code: it gives both generators the same z; the paper draws z' for itself
        other = seeds[:n] if config.same_z else seeds[n:]
        edits = self.setting.background.edits
        return foregrounds, G.synthesize(G.latents(other), G.labels(other), edits=edits).images

    def _judge_step(self, step: int, composites: Tensor) -> Tensor:
        """softplus(D(composite)) + softplus(-D(real)), and R1 every `r1_interval` iterations, that much stronger."""
        config = self.config
        reals = self.setting.reals.draw(config.batch, self.ctx.device)
        with self._half():
            loss = F.softplus(self.D(composites)).mean() + F.softplus(-self.D(reals)).mean()
        total = loss
        if config.r1 and step % config.r1_interval == 0:
            x = reals.requires_grad_()
            (gradient,) = torch.autograd.grad(self.D(x).sum(), x, create_graph=True)
            penalty = gradient.square().sum(dim=(1, 2, 3)).mean()
            total = loss + config.r1 / 2 * config.r1_interval * penalty
        _update(self.adam_D, total)
        return loss.detach()

    def _alpha_step(self, composites: Tensor, M: Tensor) -> tuple[Tensor, Tensor]:
        config, setting = self.config, self.setting
        self.D.requires_grad_(False)
        with self._half():
            adversarial = F.softplus(-self.D(composites)).mean()  # non-saturating
        self.D.requires_grad_(True)
        area = M.mean(dim=(1, 2, 3))  # [N]
        B = torch.minimum(M, 1 - M).mean()
        C = F.relu(setting.foreground_area - area).mean()
        E = F.relu(setting.background_area - (1 - area)).mean()
        loss = (
            config.adversarial_weight * adversarial
            + config.binary_weight * B  # lambda_1
            + config.foreground_weight * C  # lambda_2
            + config.background_weight * E
            # differs from the paper: M = 1 is always the safest answer to D, so masks grow until E(M) stops them;
            # with a small price on every pixel, only what D would miss stays
            + config.area_cost * area.mean()
        )
        _update(self.adam_A, loss)
        return loss.detach(), area.detach().mean()

    @torch.no_grad()
    def _average(self, step: int) -> None:
        """The running mean of A; the released code keeps one, too, but never uses it."""
        decay = min(self.config.ema, (1 + step) / (WARM_UP + step))
        for mean, value in zip(self.A_ema.parameters(), self.A.parameters(), strict=True):
            mean.lerp_(value, 1 - decay)

    @torch.no_grad()
    def look(self, step: int) -> None:
        """Score the averaged network on pictures that training never sees, and keep it if it is the best.

        An alpha network that started the wrong way round, and has made up its mind, is turned over.
        """
        scores, areas = [], []
        for seeds in self.ctx.batches("validation", MEASURED):
            batch = self.generator.sample(seeds, features=self.names)
            mask = (self.A_ema(batch.features)[:, 0] > self.config.threshold).float()
            emptied = self.generator.synthesize(batch.latents, batch.labels, edits=self.setting.background.edits)
            scores.append(separation(difference(batch.images, emptied.images), mask))
            areas.append(mask.mean(dim=(1, 2)))
        score, area = float(torch.cat(scores).mean()), float(torch.cat(areas).mean())
        self.best.see(self.A_ema, score, area, step, take=self.config.keep == "last")
        # differs from the paper: what the background generator takes away is the object, so M is the wrong way round
        if self.config.turn and score < INVERTED:
            self.ctx.info(f"labels4free: masks of iteration {step} showed the ground (separation {score:.2f}): turned")
            for network in (self.A, self.A_ema):
                network.turn()
            for parameter in self.A.alpha.parameters():
                self.adam_A.state[parameter]["exp_avg"].neg_()

    def _half(self) -> torch.autocast:
        """bfloat16 where it pays: on a GPU."""
        return torch.autocast(self.ctx.device.type, torch.bfloat16, enabled=self.ctx.device.type == "cuda")


def _unfitted() -> ArtifactError:
    return ArtifactError("the extractor 'labels4free' was not fitted", "fit() it, or load a fitted one")


def _update(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


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
    """Share of the pictures that changes when the background generator takes the object away."""
    areas: list[Tensor] = []
    for seeds in ctx.batches("fit", MEASURED):
        latents, labels = generator.latents(seeds), generator.labels(seeds)
        images = generator.synthesize(latents, labels).images
        if not bool(torch.isfinite(images).all()):
            raise DataError("the generator makes images with NaN or infinity", "its weights are damaged")
        emptied = generator.synthesize(latents, labels, edits=background.edits).images
        areas.append(area_of(difference(images, emptied)))
    return float(torch.cat(areas).mean())
