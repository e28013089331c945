"""One iteration of Labels4Free (Section 3.3), one look at its masks, and the best of them.

Symbols as in `labels4free.py`.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gsegkit.context import RunContext
from gsegkit.interfaces import Generator
from gsegkit.training import WeightAverage, descend, r1_penalty, rising_decay
from gsegkit.types import GeneratedBatch
from gsegkit_labels4free.background import MEASURED, Background, difference, separation
from gsegkit_labels4free.banks import Bank
from gsegkit_labels4free.config import Labels4FreeConfig
from gsegkit_labels4free.networks import AlphaNetwork, Discriminator, Level

BETAS = (0.0, 0.99)  # of Adam, for A and D
MEAN_LATENTS = 4096  # latents that the centre of truncation is the mean of
UNSEEN = -2.0  # below every separation
COLLAPSED = (0.02, 0.98)  # mean area beyond which a mask says nothing
INVERTED = -0.1  # separation below which the masks show the background instead of the object


@dataclass(frozen=True)
class Setting:
    """What is fixed during a training.

    Attributes:
        background: G_bg.
        foreground_area, background_area: phi_1 and phi_2.
        mean: latent that truncation pulls to, [*latent_shape]; None = no truncation.
        reals: images that D takes for real.
        backgrounds: images in place of G_bg's; None = G_bg's.
    """

    background: Background
    foreground_area: float
    background_area: float
    mean: Tensor | None
    reals: Bank
    backgrounds: Bank | None


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
        config: Labels4FreeConfig,
        levels: tuple[Level, ...],
        generator: Generator,
        setting: Setting,
        ctx: RunContext,
        alpha: AlphaNetwork,
        discriminator: Discriminator,
        best: Best,
    ) -> None:
        self.config, self.generator, self.setting, self.ctx = config, generator, setting, ctx
        self.A, self.D, self.best = alpha, discriminator, best
        self.average = WeightAverage(alpha)
        self.A_ema = self.average.module
        self.adam_A = torch.optim.Adam(alpha.parameters(), lr=config.lr, betas=BETAS)
        lr_D = config.lr_discriminator or config.lr
        self.adam_D = torch.optim.Adam(discriminator.parameters(), lr=lr_D, betas=BETAS)
        self.names = tuple(name for level in levels for name in level.names)

    def step(self, step: int) -> dict[str, Tensor]:
        """Update D, then A, on the same composites; numbers to log."""
        foregrounds, backgrounds = self.layers(step)
        M = self.A(foregrounds.features)  # [N,1,H,W]
        composites = M * foregrounds.images + (1 - M) * backgrounds  # Eq. 1
        # The generators are frozen and D's update does not move A: one set of features serves both updates.
        loss_D = self._discriminator_step(step, composites.detach())
        loss_A, area = self._alpha_step(composites, M)
        # the released code keeps the running mean of A, too, but never uses it
        self.average.update(rising_decay(self.config.ema_decay, step))
        return {"loss_D": loss_D, "loss_A": loss_A, "area": area}

    @torch.no_grad()
    def layers(self, step: int) -> tuple[GeneratedBatch, Tensor]:
        """Foregrounds G(w) with features, and backgrounds G_bg(w') [N, 3, H, W]."""
        config, G = self.config, self.generator
        n = config.batch_size
        seeds = self.ctx.seeds("fit", 2 * n, MEAN_LATENTS + 2 * step * n)
        w, labels = G.latents(seeds[:n]), G.labels(seeds[:n])
        truncated = w if self.setting.mean is None else torch.lerp(self.setting.mean, w, config.psi)
        foregrounds = G.synthesize(truncated, labels, features=self.names)
        if self.setting.backgrounds is not None:
            return foregrounds, self.setting.backgrounds.draw(n)
        # differs from the released code: it gives both generators the same z; the paper draws z' for itself
        other = seeds[:n] if config.same_z else seeds[n:]
        edits = self.setting.background.edits
        return foregrounds, G.synthesize(G.latents(other), G.labels(other), edits=edits).images

    def _discriminator_step(self, step: int, composites: Tensor) -> Tensor:
        """softplus(D(composite)) + softplus(-D(real)), and R1 every `r1_interval` iterations, that much stronger."""
        config = self.config
        reals = self.setting.reals.draw(config.batch_size)
        with self._half():
            loss = F.softplus(self.D(composites)).mean() + F.softplus(-self.D(reals)).mean()
        total = loss
        if config.r1_gamma and step % config.r1_interval == 0:
            total = loss + config.r1_gamma / 2 * config.r1_interval * r1_penalty(self.D, reals)
        descend(self.adam_D, total)
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
        descend(self.adam_A, loss)
        return loss.detach(), area.detach().mean()

    @torch.no_grad()
    def look(self, step: int) -> None:
        """Score the averaged network on images that training never sees, and keep it if it is the best.

        An alpha network that started the wrong way round, and has made up its mind, is inverted.
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
        if self.config.invert and score < INVERTED:
            self.ctx.info(
                f"labels4free: masks of iteration {step} showed the background (separation {score:.2f}): inverted"
            )
            for network in (self.A, self.A_ema):
                network.invert()
            for parameter in self.A.alpha.parameters():
                self.adam_A.state[parameter]["exp_avg"].neg_()

    def _half(self) -> torch.autocast:
        """bfloat16 where it pays: on a GPU."""
        return torch.autocast(self.ctx.device.type, torch.bfloat16, enabled=self.ctx.device.type == "cuda")
