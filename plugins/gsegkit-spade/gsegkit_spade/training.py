"""Training of a painter: one loop for all networks and objectives."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gsegkit.context import RunContext, Stateful
from gsegkit.dataset import LabelledDataset, MemoryDataset
from gsegkit.errors import DataError
from gsegkit.images import to_images
from gsegkit.seeds import normals
from gsegkit.training import (
    MEMORY_LIMIT,
    EpochOrder,
    WeightAverage,
    flip_where,
    rising_decay,
    tuned_convolutions,
    upload,
)
from gsegkit.types import IGNORE
from gsegkit_spade.config import PainterConfig
from gsegkit_spade.encoder import Encoder
from gsegkit_spade.layers import baked
from gsegkit_spade.masks import as_channels, simplified
from gsegkit_spade.objectives import Comparison, Objective
from gsegkit_spade.styles import colour_styles
from gsegkit_spade.watch import EVERY, Watch, diversity

LARGEST_RADIUS = 2  # of the neighbourhoods by which masks are smoothed
CHUNK = 256  # pairs that are read at once


class Training:
    """One training: the loop and what it keeps.

    Args:
        network: what is trained.
        config: options.
        dataset: pairs of one size.
        objective: discriminators and losses.
        comparison: what pictures are compared through; None = not at all.
        ctx: device, seeds, folder.
        encoder: makes latents of true pictures; None = latents are drawn.
    """

    def __init__(
        self,
        network: nn.Module,
        config: PainterConfig,
        dataset: LabelledDataset,
        objective: Objective,
        comparison: Comparison | None,
        ctx: RunContext,
        encoder: Encoder | None = None,
    ) -> None:
        self.network, self.config, self.comparison, self.ctx = network, config, comparison, ctx
        self.objective, self.encoder = objective, encoder
        self.num_classes = len(dataset.classes)
        self.pairs = in_memory(dataset, ctx)
        self.order = EpochOrder(len(self.pairs), config.batch_size, ctx.seed)
        self.styles = colour_styles(self.pairs, config.latent_dim) if config.colour_styles else None
        self.average = WeightAverage(network, copy_buffers=True)
        trained = [*network.parameters(), *(encoder.parameters() if encoder is not None else ())]
        self.optimizer = torch.optim.Adam(trained, config.lr, objective.betas)
        self.judging = torch.optim.Adam(objective.parameters(), config.lr_discriminator, objective.betas)
        self.watch = Watch()

    def run(self) -> nn.Module:
        """Train; returns the averaged weights without spectral normalisation, their batch statistics measured anew."""
        state: dict[str, Stateful] = {
            "network": self.network,
            "objective": self.objective,
            "average": self.average,
            "optimizer": self.optimizer,
            "judging": self.judging,
            "watch": self.watch,
        }
        if self.encoder is not None:
            state["encoder"] = self.encoder
        with tuned_convolutions():
            for step in (loop := self.ctx.steps(self.config.steps, state=state)):
                losses = self.step(step)
                seen = {"diversity": self.watch.diversity, "variety": self.watch.variety} if step >= EVERY else {}
                loop.log(**losses, **seen)
        result = baked(self.average.module)
        self.measure_statistics(result)
        self.tell(result)
        return result

    def step(self, step: int) -> dict[str, Tensor]:
        """One update of the painter, then one of the discriminators on the same pictures; returns the losses."""
        labels, true = self.batch(step)
        z = torch.randn(2, len(true), self.config.latent_dim).to(true.device)  # the second is for the watch
        self.network.train()
        own, encoded = (self.own_style(step, z[0]), {}) if self.encoder is None else self.encoder(true, z[0])
        painted = self.network(labels, own)
        seen = painted.detach().requires_grad_()
        losses, judged = self.objective.losses(labels, seen, true)
        if self.comparison is not None:
            losses["perceptual"] = self.config.perceptual * self.comparison.distance(seen, true)
        (slope,) = torch.autograd.grad(_total(losses), seen, retain_graph=True)  # what the judges saw serves both
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward([painted, *encoded.values()], [slope, *[None] * len(encoded)])
        self.optimizer.step()
        self.average.update(rising_decay(self.config.ema_decay, self.average.updates + 1))
        self.judging.zero_grad(set_to_none=True)
        _total(judged).backward(inputs=list(self.objective.parameters()))
        self.judging.step()
        if step and step % EVERY == 0:
            for text in self.watch.look(step, self.average.module, labels, z, true):
                self.ctx.warn(f"painter: after step {step + 1}, {text}")
        return {name: loss.detach() for name, loss in (*judged.items(), *losses.items(), *encoded.items())}

    def batch(self, step: int, augmented: bool = True) -> tuple[Tensor, Tensor]:
        """Labels [N, K + 1, H, W] and true pictures [N, 3, H, W] of a step, on the device."""
        pixels, masks = self.pairs.batch(self.order.rows(step))
        check_masks(masks, self.num_classes)
        if augmented:
            coins = torch.rand(2, len(masks))
            radius = int(torch.randint(1, LARGEST_RADIUS + 1, ()))
            smooth = simplified(masks, self.num_classes, radius) if self.config.simplify else masks
            masks = torch.where((coins[0] < self.config.simplify)[:, None, None], smooth, masks)
            if self.config.flip:
                across = coins[1] < 0.5
                pixels, masks = flip_where(pixels, across), flip_where(masks[:, None], across)[:, 0]
        device = self.ctx.device
        return as_channels(upload(masks, device), self.num_classes), to_images(upload(pixels, device))

    def own_style(self, step: int, drawn: Tensor) -> Tensor:
        """The latents of a step's true pictures: what is known of their style, and drawn numbers for the rest."""
        if self.styles is None:
            return drawn
        known = self.styles[self.order.rows(step)].to(drawn)
        return torch.cat([known, drawn[:, known.shape[1] :]], dim=1)

    @torch.no_grad()
    def measure_statistics(self, network: nn.Module) -> None:
        """Batch statistics of the averaged weights, as means over some batches of pairs; eval mode afterwards."""
        norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
        usual = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the plain mean of all batches
        network.train()
        for index in range(self.ctx.limit(self.config.statistics_batches)):
            labels, _ = self.batch(index, augmented=False)
            network(labels, self.latents(index, len(labels)))
        for norm, momentum in zip(norms, usual, strict=True):
            norm.momentum = momentum
        network.eval()

    def tell(self, network: nn.Module) -> None:
        """Say how much the latent does."""
        labels, _ = self.batch(0, augmented=False)
        z = torch.stack([self.latents(index, len(labels)) for index in (0, 1)])
        self.ctx.info(
            f"painter: another latent changes a picture by {diversity(network, labels, z)[0] * 127.5:.1f} of 255"
        )

    def latents(self, index: int, count: int) -> Tensor:
        """[count, latent_dim] float32, of the validation identities from batch `index` on."""
        seeds = self.ctx.seeds("validation", count, index * count)
        return normals(seeds, (self.config.latent_dim,)).to(self.ctx.device)


def _total(losses: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(losses.values())).sum()


def in_memory(dataset: LabelledDataset, ctx: RunContext, limit: int = MEMORY_LIMIT) -> LabelledDataset:
    """The pairs read at once and checked, where they take at most `limit` bytes; else the data set itself.

    Raises:
        DataError: fewer than two pairs, several sizes, or a mask with an unknown class.
    """
    if len(dataset) < 2:
        raise DataError(f"{len(dataset)} pairs are too few to learn painting from", "some thousands are usual")
    height, width = dataset[0].mask.shape
    if len(dataset) * 4 * height * width > limit:
        return dataset
    chunks = []
    # a stop waits for the first step, so that a stopped training always has a checkpoint
    for start in range(0, len(dataset), CHUNK):
        pixels, masks = dataset.batch(range(start, min(start + CHUNK, len(dataset))))
        check_masks(masks, len(dataset.classes))
        chunks.append((pixels, masks))
    pixels, masks = (torch.cat(parts) for parts in zip(*chunks, strict=True))
    return MemoryDataset(pixels, masks, dataset.classes, fit_rule=dataset.fit_rule)


def check_masks(masks: Tensor, num_classes: int) -> None:
    """Raise DataError when a mask has a class that is none of K; 255 is unknown."""
    wrong = masks[(masks >= num_classes) & (masks != IGNORE)]
    if len(wrong):
        raise DataError(
            f"a mask has the class {int(wrong[0])}, but there are {num_classes} classes (0 .. {num_classes - 1})",
            f"name all classes, or mark unknown pixels with {IGNORE}",
        )
