"""The generators `layered` and `perturbgan`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from gsegkit.context import RunContext
from gsegkit.dataset import UnlabelledImages
from gsegkit.errors import ConfigError, ContractError, DivergedError
from gsegkit.interfaces import Edit, Segmenter, TrainableGenerator
from gsegkit.parts import save_part
from gsegkit.seeds import child_seed, integers, isolated_rng, normals
from gsegkit.taps import Taps
from gsegkit.training import check_divides
from gsegkit.types import FeatureSpec, GeneratedBatch, GeneratorInfo
from gsegkit.weights import NONE, load_weights
from gsegkit_layered.codes import Prior
from gsegkit_layered.composition import compose
from gsegkit_layered.config import LayeredConfig, PerturbGANConfig, TrainConfig
from gsegkit_layered.networks import Discriminator, Head, LayeredNet, MaskHead
from gsegkit_layered.orientation import exchange, exchanged
from gsegkit_layered.photos import Photos
from gsegkit_layered.training import Networks, Trainer, settle
from gsegkit_layered.watch import EMPTY, FULL

RANDOM_SEED = 0  # of networks without weights: the same options, the same network
CLASSES = ("background", "foreground")
LAST_GOOD = "last-good"  # folder in the stage's own, after a training that diverged
CODE_SAMPLES = 64  # from which a code's coverage is measured


class _LayeredGenerator(TrainableGenerator):
    """What both share: networks, samples, training."""

    divided = True
    name: ClassVar[str]
    config: TrainConfig
    healthy: Tensor
    seen: Tensor
    turned: Tensor

    def __init__(self, config: TrainConfig) -> None:
        super().__init__(config)
        self.prior = self._prior()
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))  # real images shown in all rounds
        self.register_buffer("healthy", torch.ones(max(1, self.prior.num_classes), dtype=torch.bool))
        # of each code, whether its layers change places; in facts(), since older weights do not have it
        self.register_buffer("turned", torch.zeros_like(self.healthy), persistent=False)
        self._set_networks(RANDOM_SEED)
        self.info = self._info()
        if config.weights != NONE:
            load_weights(self, self.name, config.weights)

    def _prior(self) -> Prior:
        return Prior(self.config.z_dim)

    @property
    def gammas(self) -> tuple[float, float]:
        """Weights of the information in the image and in the mask."""
        return 0.0, 0.0

    # ---- networks ------------------------------------------------------------------------------------------------

    def _set_networks(self, seed: int) -> None:
        """Random networks, the same for the same seed and options."""
        device, widths, prior = self.device, self.config.widths, self.prior
        with isolated_rng(seed):
            start = (self.config.mask_bias, self.config.centre)
            net = LayeredNet(prior.z_dim, prior.mask_dim, prior.colour_dim, widths, *start)
            discriminator = Discriminator(widths)
            q_image = Head(widths.top, prior.colour_dim) if prior.colour_dim else None
            q_mask = MaskHead(widths, prior.mask_dim) if prior.mask_dim else None
        self.average, self.discriminator = net.to(device), discriminator.to(device)
        self.q_image = None if q_image is None else q_image.to(device)
        self.q_mask = None if q_mask is None else q_mask.to(device)
        self.taps = Taps(net.taps())
        self.to(memory_format=torch.channels_last)  # a tenth faster on a CPU
        self.eval().requires_grad_(False)

    def _info(self) -> GeneratorInfo:
        widths, side = self.config.widths, self.config.resolution
        specs = []
        for name in self.taps.names:
            layer, _, at = name.partition(".")
            if at:
                specs.append(FeatureSpec(name, widths.channels[(int(at) // 4).bit_length() - 1], int(at), int(at)))
            else:
                specs.append(FeatureSpec(name, widths.parent if layer == "mask" else widths.child, side, side))
        return GeneratorInfo(
            height=side,
            width=side,
            latent_shape=(self.prior.latent_dim,),
            num_classes=self.prior.num_classes,
            features=tuple(specs),
            edit_points=self.taps.names,
            mask_classes=CLASSES,
            fit_rule=self.config.fit,
        )

    def facts(self) -> dict[str, Any]:
        """See `ModulePart.facts`."""
        return {"turned": self.turned.nonzero().flatten().tolist()} if bool(self.turned.any()) else {}

    def restore(self, facts: Mapping[str, Any]) -> None:
        """See `ModulePart.restore`."""
        codes = [int(code) for code in facts.get("turned", ())]
        if codes and not 0 <= min(codes) <= max(codes) < len(self.turned):
            raise ValueError(f"codes {codes} of {len(self.turned)} are turned")
        self.turned.fill_(False)
        self.turned[codes] = True

    # ---- samples -------------------------------------------------------------------------------------------------

    def latents(self, seeds: Tensor) -> Tensor:
        """The public code z, followed by a normal private code where there is one."""
        return normals(seeds, self.info.latent_shape).to(self.device)

    def labels(self, seeds: Tensor) -> Tensor | None:
        """The private code c, uniform among those whose masks are neither empty nor full; None where c is no class."""
        if not self.prior.num_classes:
            return None
        codes = self.healthy.nonzero().flatten()
        return codes[integers(seeds, len(codes)).to(codes.device)]

    def synthesize(
        self,
        latents: Tensor,
        labels: Tensor | None = None,
        *,
        features: tuple[str, ...] = (),
        edits: Mapping[str, Edit] | None = None,
    ) -> GeneratedBatch:
        """Paint the layers and put them together, without perturbation; see `Generator.synthesize`."""
        for name in features:
            self.info.feature(name)
        self._check(latents, labels)
        with self.taps.open(features, edits) as captured:
            layers = self.average(self.prior.codes(latents, labels))
        images = compose(layers)
        if bool(self.turned.any()):
            which = self.turned.expand(len(images)) if labels is None else self.turned[labels]
            layers = exchange(layers, which)
        return GeneratedBatch(
            images=images,
            latents=latents,
            labels=labels,
            features={name: captured[name] for name in features},
            probs=torch.cat([1 - layers.m, layers.m], dim=1),
            layers={"background": layers.b, "foreground": layers.f, "mask": layers.m},
        )

    def _check(self, latents: Tensor, labels: Tensor | None) -> None:
        hint = "make them with the generator's own latents() and labels()"
        if tuple(latents.shape[1:]) != self.info.latent_shape or latents.dtype != torch.float32:
            raise ContractError(
                f"{self.name}: latents must be float32 [N, {self.prior.latent_dim}], "
                f"got {latents.dtype} {list(latents.shape)}",
                hint,
            )
        count = self.prior.num_classes
        if count and (labels is None or bool(((labels < 0) | (labels >= count)).any())):
            raise ContractError(f"{self.name} needs labels from 0 to {count - 1}", hint)

    # ---- training ------------------------------------------------------------------------------------------------

    def fit(self, images: UnlabelledImages, ctx: RunContext, *, segmenter: Segmenter | None = None) -> None:
        """Train from random weights; with a segmenter, continue from the present ones (Algorithm 1, a later round)."""
        check_divides(ctx.team, self.config.batch_size)
        photos = Photos(images, self.config, ctx, self.device)
        if segmenter is None or not int(self.seen):
            self._set_networks(child_seed(ctx.seed, "weights"))
            self.seen.zero_()
        networks = Networks(self.average, self.discriminator, self.q_image, self.q_mask)
        trainer = Trainer(
            networks, self.config, self.prior, self.gammas, photos, ctx, seen=int(self.seen), segmenter=segmenter
        )
        try:
            shown = trainer.run()
        except DivergedError as error:
            if trainer.good.images:
                self._finish(trainer.good.images, ctx)
                if ctx.team.first:
                    save_part(self, ctx.folder / LAST_GOOD, "generator", self.name)
                hint = f"{error.hint}; or use what there is: gen.weights={ctx.folder / LAST_GOOD}"
                raise DivergedError(error.message, hint) from error
            raise
        self._finish(shown, ctx)

    def _finish(self, shown: int, ctx: RunContext) -> None:
        self.seen += shown
        with isolated_rng(child_seed(ctx.seed, "settle")):
            settle(self.average, self.prior, ctx.limit(self.config.settle_batches), self.config.batch_size)
        self.eval()
        self._after(ctx)

    def _after(self, ctx: RunContext) -> None:
        """Note the codes whose object lies in the background layer: their layers change places."""
        self.turned.fill_(False)
        if not self.config.orient:
            return
        self.turned.copy_(exchanged(self.mean_masks()))
        if bool(self.turned.any()):
            share = f"of {int(self.turned.sum())} of {len(self.turned)} codes" if self.prior.num_classes else "of all"
            ctx.info(f"the masks {share} lie around the middle: foreground and background change places there")

    @torch.no_grad()
    def mean_masks(self, samples: int = CODE_SAMPLES) -> Tensor:
        """Mean mask of each category (one mask where c is no category), [C or 1, H, W] float32 in [0, 1]."""
        z, means = self.latents(torch.arange(samples)), []
        for c in range(max(1, self.prior.num_classes)):
            labels = torch.full((samples,), c, device=self.device) if self.prior.num_classes else None
            means.append(self.synthesize(z, labels).layers["mask"].mean(dim=(0, 1)))
        return torch.stack(means)


class Layered(_LayeredGenerator):
    """Improved layered GAN: a private code that must show in image and mask keeps the object from vanishing.

    Example:
        >>> generator = Layered(LayeredConfig(resolution=32))
        >>> batch = generator.sample(torch.arange(4))
        >>> batch.images.shape, batch.probs.shape, sorted(batch.layers)
        (torch.Size([4, 3, 32, 32]), torch.Size([4, 2, 32, 32]), ['background', 'foreground', 'mask'])
    """

    name = "layered"
    config: LayeredConfig

    def _prior(self) -> Prior:
        config = self.config
        return Prior(config.z_dim, config.prior, config.num_codes, config.group_size)

    @property
    def gammas(self) -> tuple[float, float]:
        """See `_LayeredGenerator.gammas`."""
        config = self.config
        return config.gamma, config.gamma if config.gamma_mask is None else config.gamma_mask

    def _after(self, ctx: RunContext) -> None:
        """Note the codes whose masks are empty, full, or of another size: one dead parent spoils a group of pairs."""
        super()._after(ctx)
        if not self.prior.num_classes:
            return
        self.healthy.fill_(True)
        if not self.config.drop_codes:
            return
        coverage = self.code_coverage()
        healthy = (coverage >= EMPTY) & (coverage <= FULL)
        if not bool(healthy.any()):
            ctx.warn("the masks of all codes are empty or full: the training has collapsed")
            return
        middle = coverage[healthy].median()
        healthy &= (coverage >= middle / self.config.code_spread) & (coverage <= middle * self.config.code_spread)
        self.healthy.copy_(healthy)
        dropped = int((~healthy).sum())
        if dropped:
            ctx.info(f"{dropped} of {len(healthy)} codes have empty, full or unusual masks and are not sampled")

    def code_coverage(self) -> Tensor:
        """Mean coverage of the masks of each category, [C] float32."""
        return self.mean_masks().mean(dim=(1, 2))

    # ---- clustering of photographs -------------------------------------------------------------------------------

    @torch.no_grad()
    def clusters(self, images: Tensor) -> Tensor:
        """Q_x as a clustering of real images (Section 3.2): log-probabilities of the categories, [N, C] float32.

        Args:
            images: [N, 3, H, W] float32 in [-1, 1], at the generator's size.
        """
        if self.q_image is None or not self.prior.num_classes:
            raise ConfigError("a normal private code has no categories", "train with gen.prior=categorical")
        _, maps = self.discriminator(images.to(self.device))
        logs: Tensor = self.q_image(maps).log_softmax(dim=1)
        return logs


class PerturbGAN(_LayeredGenerator):
    """Layered GAN of Bielski and Favaro: no private code; masks must have a smallest size.

    Example:
        >>> PerturbGAN(PerturbGANConfig()).sample(torch.arange(2)).labels is None
        True
    """

    name = "perturbgan"
    config: PerturbGANConfig


__all__ = ["Layered", "PerturbGAN"]
