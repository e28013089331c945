"""Training of a layered GAN, readable next to the paper: Section 3, Eq. 3 to 8, its symbols.

This is the GAN of one round. The rounds (Algorithm 1) are the pipeline's, which hands in the segmenter S of the round
before. The generator's loss (`_step_G`) has seven terms: 1 to 3 are the paper's (the adversarial one, the information
of Eq. 5, the background of Eq. 8), 4 is the paper's with a weight that rises, 5 to 7 are ours (PerturbGAN has 7 too).

All randomness derives from the context's seed and the step's number, so a training that was stopped and run again ends,
on the CPU, in the same bits.

Several processes have some rows of each batch. Every loss is a mean over the batch: each process has its share of it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gsegkit.context import RunContext, Stateful
from gsegkit.errors import DivergedError
from gsegkit.interfaces import Segmenter
from gsegkit.taps import frozen
from gsegkit.training import WeightAverage, common_statistics, descend, rising_decay, rows_of, whole_rows
from gsegkit_layered.codes import Prior
from gsegkit_layered.composition import Perturbation, perturbed
from gsegkit_layered.config import TrainConfig
from gsegkit_layered.networks import Codes, Discriminator, Head, LayeredNet, Layers, MaskHead
from gsegkit_layered.photos import Photos
from gsegkit_layered.watch import REMEDIES, LastGood, Watch

WATCH_EVERY = 20  # steps between two looks at the masks; reading a number stalls a GPU
DISTANCE_EVERY = 200  # steps between two looks at the backgrounds


@dataclass(frozen=True)
class Networks:
    """All that is trained. `average` holds the averaged generators; a round starts from them."""

    average: LayeredNet
    discriminator: Discriminator
    q_image: Head | None  # Q_x
    q_mask: MaskHead | None  # Q_m

    def named(self) -> dict[str, nn.Module]:
        """Name -> network, without those that a method lacks."""
        named: dict[str, nn.Module | None] = {
            "average": self.average,
            "discriminator": self.discriminator,
            "q_image": self.q_image,
            "q_mask": self.q_mask,
        }
        return {name: network for name, network in named.items() if network is not None}


class Trainer:
    """One round: G against D for so many images.

    Args:
        networks: what is trained, on its device; `networks.average` is the result.
        config: all options.
        prior: of the codes.
        gammas: weights of the information in the image and in the mask.
        photos: real images.
        ctx: seed, folder, progress.
        seen: real images shown in the rounds before.
        segmenter: S of the round before, or None.
    """

    def __init__(
        self,
        networks: Networks,
        config: TrainConfig,
        prior: Prior,
        gammas: tuple[float, float],
        photos: Photos,
        ctx: RunContext,
        *,
        seen: int = 0,
        segmenter: Segmenter | None = None,
    ) -> None:
        self.networks, self.config, self.prior, self.gammas = networks, config, prior, gammas
        self.photos, self.ctx, self.seen, self.segmenter = photos, ctx, seen, segmenter
        self.team, n = ctx.team, config.batch_size
        self.rows = rows_of(self.team, n)  # of this process; every process draws the whole batch
        self.share = (self.rows.stop - self.rows.start) / n
        self.D, self.average = networks.discriminator, networks.average
        self.G = copy.deepcopy(networks.average).train().requires_grad_(True)
        self.averaging = WeightAverage(self.G, into=networks.average)
        self.device = next(self.G.parameters()).device
        heads = [q for q in (networks.q_image, networks.q_mask) if q is not None]
        for module in (self.D, *heads):
            module.train().requires_grad_(True)
        # FineGAN [code]: the heads learn with G; D's backbone, which Q_x shares, from the adversarial loss alone
        trained = [p for module in (self.G, *heads) for p in module.parameters()]
        self.adam_G = _adam(trained, config.lr_generator, config)
        self.adam_D = _adam(self.D.parameters(), config.lr_discriminator, config)
        self.watch = Watch(config.patience)
        self.good = LastGood(networks.named())
        self.half = _half(config.dtype, self.device)

    def run(self) -> int:
        """Train to the end, from the last checkpoint if there is one; the number of real images shown in this round.

        Raises:
            DivergedError: a number became non-finite; the networks hold the last good state.
        """
        images = self.config.round_images if self.seen else self.config.num_images
        state: dict[str, Stateful] = {
            "generator": self.G,
            **self.networks.named(),
            "adam_G": self.adam_G,
            "adam_D": self.adam_D,
            "watch": self.watch,
            "good": self.good,
        }
        loop = self.ctx.steps(-(-images // self.config.batch_size), state=state, name="training the layered GAN")
        shown = loop.total * self.config.batch_size
        try:
            with nullcontext() if self.segmenter is None else frozen(self.segmenter):
                for step in loop:
                    loop.log(**self.step(step))
                    if self.config.stop_early and self.watch.verdict:
                        break
        except DivergedError as error:
            self.good.recall()
            raise DivergedError(
                f"{error.message}; the generator keeps its state after {self.good.images} images",
                "lower gen.lr_generator and gen.lr_discriminator, or gen.gamma",
            ) from error
        if self.config.stop_early and self.watch.verdict:
            shown = self._give_up(self.watch.verdict, (loop.step + 1) * self.config.batch_size)
        for module in self.networks.named().values():
            module.eval().requires_grad_(False)
        return shown

    def step(self, step: int) -> dict[str, float | Tensor]:
        """Eq. 6: one step of D, one of G; numbers to log."""
        n, rows = self.config.batch_size, self.rows
        reals = self.photos.batch(n)[rows]
        latents, labels = self.prior.draw(n)
        codes = self.prior.codes(
            latents[rows].to(self.device), None if labels is None else labels[rows].to(self.device)
        )
        t = self._perturbation(n).of(rows)
        with self._precision():
            layers = self.G(codes)
        x, m = perturbed(layers, t)  # Eq. 3
        values = self._step_D(reals, x.detach())
        values |= self._step_G(self.seen + step * n, codes, layers, x, m)
        # weights as FineGAN [code]; rising, so that the random start is forgotten
        self.averaging.update(rising_decay(self.config.ema_decay, step))
        self._look(step, reals, layers, x)
        return {**self._whole(values), **self.watch.values}

    # ---- Eq. 6, D ----------------------------------------------------------------------------------------------

    def _step_D(self, reals: Tensor, x: Tensor) -> dict[str, float | Tensor]:
        with self._precision():
            scores, _ = self.D(torch.cat([reals, x]))
        real, fake = scores.chunk(2)
        loss = F.relu(1 - real).mean() + F.relu(1 + fake).mean()  # hinge
        descend(self.adam_D, loss * self.share, self.team)
        return {"loss_D": loss.detach(), "D_real": real.detach().mean(), "D_fake": fake.detach().mean()}

    # ---- Eq. 6, G ----------------------------------------------------------------------------------------------

    def _step_G(self, seen: int, codes: Codes, layers: Layers, x: Tensor, m: Tensor) -> dict[str, float | Tensor]:
        config, values = self.config, {}
        self.D.requires_grad_(False)
        with self._precision():
            scores, maps = self.D(x)
        loss = -scores.mean()  # 1, Eq. 6: adversarial
        if self.networks.q_image is not None and self.networks.q_mask is not None:
            with self._precision():
                in_image, in_mask = self.networks.q_image(maps), self.networks.q_mask(m)
            values["mi_image"], values["mi_mask"] = self.prior.information(codes, in_image, in_mask)  # 2, Eq. 5
            loss = loss + self.gammas[0] * values["mi_image"] + self.gammas[1] * values["mi_mask"]
        # differs from the paper: it weighs the binarisation alike from the start, which freezes masks before an
        # object has formed; and it has no term for masks that cover too much, or that are full of holes
        rise = ramp(seen, config.binary_start, config.binary_end)
        loss = loss + config.binary_weight * rise * binarisation(m)  # 4
        loss = loss + config.coverage_weight * ramp(seen, 0, config.num_images) * excess(m, config.max_coverage)  # 5
        if config.smooth_weight:
            loss = loss + config.smooth_weight * outline(m)  # 6
        if config.min_area:
            loss = loss + config.area_weight * missing_area(m, config.min_area)  # 7
        if self.segmenter is not None and config.background_weight:
            values["background"] = background_loss(self.segmenter, layers.b)  # 3, Eq. 8
            loss = loss + config.background_weight * values["background"]
        descend(self.adam_G, loss * self.share, self.team)
        self.D.requires_grad_(True)
        return {"loss_G": loss.detach(), **{name: value.detach() for name, value in values.items()}}

    def _perturbation(self, count: int) -> Perturbation:
        config = self.config
        return Perturbation.draw(
            count,
            config.resolution,
            scale=config.scale,
            rotation=config.rotation,
            shift=config.shift,
            contrast=config.contrast,
            whole_pixels=config.whole_pixels,
        ).to(self.device)

    @contextmanager
    def _precision(self) -> Iterator[None]:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half), common_statistics(self.team):
            yield

    def _whole(self, values: dict[str, float | Tensor]) -> dict[str, float | Tensor]:
        """Means over this process's rows -> over the batch."""
        if self.team.alone:
            return values
        means = torch.stack(
            [torch.as_tensor(value, dtype=torch.float32, device=self.device) for value in values.values()]
        )
        return dict(zip(values, self.team.sum(means * self.share).tolist(), strict=True))

    def _all(self, values: Tensor) -> Tensor:
        """[n, ...] of this process's rows -> of the batch, without gradients."""
        if self.team.alone:
            return values.detach()
        rows = torch.arange(self.rows.start, self.rows.stop, device=values.device)
        return whole_rows(self.team, values.float(), rows, self.config.batch_size)

    # ---- diagnosis ---------------------------------------------------------------------------------------------

    def _look(self, step: int, reals: Tensor, layers: Layers, x: Tensor) -> None:
        if step % WATCH_EVERY:
            return
        seen = self.seen + step * self.config.batch_size
        binary = self.config.binary_weight > 0 and seen >= self.config.binary_end
        self.watch.see(self._all(layers.m), WATCH_EVERY * self.config.batch_size, binary=binary)
        if step % DISTANCE_EVERY == 0:
            with torch.no_grad(), self._precision():
                looked = [self.D(images) for images in (reals, x, layers.b)]
            self.watch.compare(*((self._all(scores), self._all(maps.float().mean((2, 3)))) for scores, maps in looked))
        if self.watch.sound:
            self.good.keep((step + 1) * self.config.batch_size)

    def _give_up(self, kind: str, images: int) -> int:
        self.good.recall()
        if self.good.images < self.config.patience and not self.seen:  # no object has formed yet
            since = f"after {self.good.images} images" if self.good.images else "from the start"
            raise DivergedError(f"every pixel was {kind} {since}, and still was after {images} images", REMEDIES[kind])
        self.ctx.warn(
            f"stopped after {images} images: every pixel is {kind}; the state after {self.good.images} images is kept "
            f"(gen.stop_early=false continues). {REMEDIES[kind]}"
        )
        return self.good.images


# ---- loss terms ----------------------------------------------------------------------------------------------------


def binarisation(m: Tensor) -> Tensor:
    """Mean over pixels of min(m, 1 - m), of [N, 1, H, W]; PerturbGAN's [code]."""
    return torch.minimum(m, 1 - m).mean()


def outline(m: Tensor) -> Tensor:
    """Total variation of [N, 1, H, W]: mean change from pixel to pixel; of a binary mask, its outline."""
    return (m[:, :, 1:] - m[:, :, :-1]).abs().mean() + (m[:, :, :, 1:] - m[:, :, :, :-1]).abs().mean()


def missing_area(m: Tensor, least: float) -> Tensor:
    """PerturbGAN's mask size: what each image's mask lacks of a share `least`, mean over the batch."""
    return F.relu(least - m.mean(dim=(1, 2, 3))).mean()


def excess(m: Tensor, most: float) -> Tensor:
    """What each image's mask covers beyond a share `most`, mean over the batch.

    In each image, not in the mean over them: half of the codes empty and half of them full is a trivial solution too,
    and one in which the mask tells the code.
    """
    return F.relu(m.mean(dim=(1, 2, 3)) - most).mean()


def background_loss(segmenter: Segmenter, b: Tensor) -> Tensor:
    """Eq. 8: cross-entropy of S(b) against class 0 everywhere, mean over pixels; S is frozen."""
    logits = segmenter.logits(b)
    return F.cross_entropy(logits, logits.new_zeros(len(logits), *logits.shape[2:], dtype=torch.long))


def ramp(seen: int, start: int, end: int) -> float:
    """0 until `start` images, 1 from `end` on, straight between."""
    return 1.0 if seen >= end else max(0.0, (seen - start) / (end - start))


# ---- helpers -------------------------------------------------------------------------------------------------------


@torch.no_grad()
def settle(network: LayeredNet, prior: Prior, batches: int, batch: int) -> None:
    """Set the normalisation's statistics from fresh samples: averaged weights have no statistics of their own.

    Draws from torch's global generator.
    """
    device = next(network.parameters()).device
    norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d)]
    for layer in norms:
        layer.reset_running_stats()
        layer.momentum = None  # the plain mean over the batches
    network.train()
    for _ in range(batches):
        latents, labels = prior.draw(batch)
        network(prior.codes(latents.to(device), None if labels is None else labels.to(device)))
    network.eval()
    for layer in norms:
        layer.momentum = 0.1  # torch's own value


def _half(dtype: str, device: torch.device) -> bool:
    if dtype != "auto":
        return dtype == "bfloat16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return device.type == "cpu" and bool(torch.cpu._is_avx512_bf16_supported())


def _adam(parameters: Iterable[nn.Parameter], lr: float, config: TrainConfig) -> torch.optim.Adam:
    return torch.optim.Adam(parameters, lr=lr, betas=(config.beta1, config.beta2))
