"""Training of a painter: hinge loss of patches, feature matching, and the distance as the run's segmenter sees it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gsegkit.context import RunContext, Stateful
from gsegkit.dataset import LabelledDataset, MemoryDataset
from gsegkit.errors import DataError
from gsegkit.images import to_images
from gsegkit.seeds import child_seed, isolated_rng, normals
from gsegkit.training import (
    MEMORY_LIMIT,
    EpochOrder,
    WeightAverage,
    descend,
    flip_where,
    rising_decay,
    tuned_convolutions,
    upload,
)
from gsegkit.types import IGNORE
from gsegkit_spade.config import ClassAdaptiveConfig
from gsegkit_spade.eye import Eye
from gsegkit_spade.masks import as_channels, simplified
from gsegkit_spade.networks import Discriminators, PaintingNetwork, baked
from gsegkit_spade.watch import EVERY, Watch, diversity

BETAS = (0.0, 0.9)  # of Adam, as in SPADE
LARGEST_RADIUS = 2  # of the neighbourhoods by which masks are smoothed
CHUNK = 256  # pairs that are read at once


class Training:
    """One training: the loop and what it keeps.

    Args:
        network: what is trained.
        config: options.
        dataset: pairs of one size.
        eye: what pictures are compared through; None = not at all.
        ctx: device, seeds, folder.
    """

    def __init__(
        self,
        network: PaintingNetwork,
        config: ClassAdaptiveConfig,
        dataset: LabelledDataset,
        eye: Eye | None,
        ctx: RunContext,
    ) -> None:
        self.network, self.config, self.eye, self.ctx = network, config, eye, ctx
        self.num_classes = len(dataset.classes)
        self.pairs = in_memory(dataset, ctx)
        self.order = EpochOrder(len(self.pairs), config.batch_size, ctx.seed)
        with isolated_rng(child_seed(ctx.seed, "discriminators")):
            judges = Discriminators(self.num_classes, config.discriminator_width, config.discriminator_layers)
        self.judges = judges.to(ctx.device)
        self.average = WeightAverage(network, copy_buffers=True)
        self.optimizer = torch.optim.Adam(network.parameters(), config.lr, BETAS)
        self.judging = torch.optim.Adam(self.judges.parameters(), config.lr_discriminator, BETAS)
        self.watch = Watch()

    def run(self) -> PaintingNetwork:
        """Train; returns the averaged weights without spectral normalisation, their batch statistics measured anew."""
        state: dict[str, Stateful] = {
            "network": self.network,
            "judges": self.judges,
            "average": self.average,
            "optimizer": self.optimizer,
            "judging": self.judging,
            "watch": self.watch,
        }
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
        painted = self.network(labels, z[0])
        losses = self.painter_losses(labels, painted, true)
        descend(self.optimizer, torch.stack(list(losses.values())).sum())
        self.average.update(rising_decay(self.config.ema_decay, self.average.updates + 1))
        found = self.judges(labels.repeat(2, 1, 1, 1), torch.cat([painted.detach(), true]))
        judged = torch.stack([hinge(maps[-1]) for maps in found]).mean()
        descend(self.judging, judged)
        if step and step % EVERY == 0:
            for text in self.watch.look(step, self.average.module, labels, z, true):
                self.ctx.warn(f"painter: after step {step + 1}, {text}")
        return {"judged": judged.detach(), **{name: loss.detach() for name, loss in losses.items()}}

    def painter_losses(self, labels: Tensor, painted: Tensor, true: Tensor) -> dict[str, Tensor]:
        """The weighted terms of the painter's loss; labels [N, K + 1, H, W], pictures [N, 3, H, W]."""
        self.judges.requires_grad_(False)
        found = self.judges(labels.repeat(2, 1, 1, 1), torch.cat([painted, true]))
        self.judges.requires_grad_(True)
        losses = {"gan": -torch.stack([_halves(maps[-1])[0].mean() for maps in found]).mean()}
        if self.config.feature_matching:
            losses["matching"] = self.config.feature_matching * matching(found)
        if self.eye is not None:
            losses["perceptual"] = self.config.perceptual * self.eye.distance(painted, true)
        return losses

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

    @torch.no_grad()
    def measure_statistics(self, network: PaintingNetwork) -> None:
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

    def tell(self, network: PaintingNetwork) -> None:
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


def hinge(scores: Tensor) -> Tensor:
    """The discriminators' loss; the first half of [2 N, 1, h, w] are scores of painted pictures."""
    painted, true = _halves(scores)
    return (1 + painted).relu().mean() + (1 - true).relu().mean()


def matching(found: list[list[Tensor]]) -> Tensor:
    """Mean absolute difference of painted and true maps: summed over layers, averaged over discriminators."""
    return torch.stack(
        [
            (painted - true.detach()).abs().mean()
            for maps in found
            for painted, true in [_halves(one) for one in maps[:-1]]
        ]
    ).sum() / len(found)


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


def _halves(value: Tensor) -> tuple[Tensor, Tensor]:
    one, two = value.chunk(2)
    return one, two
