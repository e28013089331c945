"""The segmenter: an smp network, trained on pairs, used on images of any size."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gsegkit.context import RunContext, Stateful, Steps
from gsegkit.dataset import LabelledDataset
from gsegkit.distributed.team import ALONE
from gsegkit.errors import ArtifactError, ConfigError, ContractError, DataError
from gsegkit.images import fit_pixels, scaled_size, to_images, unfit_logits
from gsegkit.interfaces import Segmenter
from gsegkit.refining import Refine, check_photographs
from gsegkit.seeds import child_seed, isolated_rng
from gsegkit.training import WeightAverage, common_statistics, rising_decay, tuned_convolutions, whole_batches
from gsegkit_smp.augment import augment
from gsegkit_smp.config import SmpConfig
from gsegkit_smp.loader import Loader, Pairs, class_counts, split
from gsegkit_smp.losses import inverse_sqrt_frequency, segmentation_loss
from gsegkit_smp.networks import (
    answer_small,
    build_network,
    check_config,
    crop_logits,
    encoder_weights,
    enlarge_images,
    network_sizes,
    normalisation,
    pad_images,
    shrink_logits,
)
from gsegkit_smp.training import Best, Precision, build_optimizer, learning_rate
from gsegkit_smp.validation import confusion, equal_sizes

ALARM_FROM = 0.25  # share of the training after which one predicted class is no longer just the start


class SmpSegmenter(Segmenter):
    """Any architecture of segmentation-models-pytorch; which one is said by the class of its options.

    Example:
        >>> from gsegkit_smp.config import UnetConfig
        >>> segmenter = SmpSegmenter(UnetConfig(steps=100))
        >>> segmenter.fit(dataset, ctx)  # doctest: +SKIP
        >>> segmenter.predict(pixels)  # doctest: +SKIP
    """

    divided = True
    config: SmpConfig
    mean: Tensor
    std: Tensor

    def __init__(self, config: SmpConfig) -> None:
        super().__init__(config)
        check_config(config)
        self.network: nn.Module | None = None
        self._compiled: Callable[[Tensor], Tensor] | None = None
        self._channels_last = False
        self._team = ALONE  # while it trains: the processes whose rows make a batch
        mean, std = normalisation(config)
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    # ---- prediction ----------------------------------------------------------------------------------------------

    def logits(self, images: Tensor) -> Tensor:
        """See `Segmenter.logits`; enlarges, pads right and bottom to the network's stride, and undoes both again."""
        if self.network is None:
            raise ArtifactError(f"{self.config.architecture} is not trained", "fit() it, or load a trained one")
        if self.training and images.shape[0] < 2 and self._team.alone:
            raise ContractError("training with batch normalisation needs at least 2 images", "or call eval() first")
        size = images.shape[-2:]
        images = enlarge_images(images, self.config.enlarge)
        height, width = size if self._small_answer else images.shape[-2:]
        padded = pad_images(images, self._sizes)
        if self.training and self._channels_last:
            padded = padded.contiguous(memory_format=torch.channels_last)
        network = self._compiled or self.network
        logits: Tensor = network((padded - self.mean) / self.std)
        logits = crop_logits(logits, height, width).float()
        return logits if self._small_answer or self.config.enlarge == 1 else shrink_logits(logits, size)

    def probs(self, pixels: Tensor, refine: Refine = ()) -> Tensor:
        """See `Segmenter.probs`; the mean over `predict_scales` and, with `predict_flip`, over mirror images."""
        if refine or self._one_scale:
            return super().probs(pixels, refine)
        check_photographs(pixels)
        training = self.training
        self.eval()
        with torch.no_grad():
            found = [self._probs_at(pixels.to(self.device), scale) for scale in self.config.predict_scales]
        self.train(training)
        return torch.stack(found).mean(0)

    @property
    def one_view(self) -> bool:
        """See `Segmenter.one_view`."""
        return self._one_scale and self.fit_rule != "native"

    @property
    def _one_scale(self) -> bool:
        return self.config.predict_scales == [1.0] and not self.config.predict_flip

    def _probs_at(self, pixels: Tensor, scale: float) -> Tensor:
        """Probabilities of photographs that are fitted to `scale` times the training size: [N, K, H, W]."""
        size = (int(pixels.shape[-2]), int(pixels.shape[-1]))
        aim = scaled_size(*(size if self.fit_rule == "native" else self.train_size), scale)
        images = to_images(fit_pixels(pixels, aim, self.batch_rule))
        views = [self.logits(images)]
        if self.config.predict_flip:
            views.append(self.logits(images.flip(-1)).flip(-1))
        return torch.stack([unfit_logits(view, size, aim, self.batch_rule).softmax(dim=1) for view in views]).mean(0)

    def facts(self) -> dict[str, Any]:
        """See `ModulePart.facts`."""
        if self.network is None:
            return {}
        facts: dict[str, Any] = {
            "classes": list(self.classes),
            "train_size": list(self.train_size),
            "fit_rule": self.fit_rule,
        }
        if self.config.encoder_weights is not None:
            facts["encoder_weights"] = encoder_weights(self.config)._asdict()
        return facts

    def restore(self, facts: Mapping[str, Any]) -> None:
        """See `ModulePart.restore`; never downloads pretrained weights, the stored tensors replace them."""
        if "classes" not in facts:
            return
        height, width = facts["train_size"]
        self._build(tuple(facts["classes"]), (int(height), int(width)), str(facts["fit_rule"]), pretrained=False)

    def _build(self, classes: tuple[str, ...], size: tuple[int, int], fit_rule: str, *, pretrained: bool) -> None:
        self.classes, self.train_size, self.fit_rule = classes, size, fit_rule
        device = self.device
        self.network = build_network(self.config, len(classes), pretrained=pretrained).to(device)
        self._sizes = network_sizes(self.network, self.config.architecture)
        self._small_answer = answer_small(self.network, self.config.enlarge)

    # ---- training ------------------------------------------------------------------------------------------------

    def fit(self, dataset: LabelledDataset, ctx: RunContext, *, val: LabelledDataset | None = None) -> None:
        """See `Segmenter.fit`. Afterwards the weights are the average ones with the best validation mIoU."""
        if val is not None and val.classes != dataset.classes:
            raise DataError(
                f"validation has the classes {', '.join(val.classes)}, training {', '.join(dataset.classes)}",
                "give both the same classes",
            )
        train: LabelledDataset = dataset
        if val is None:
            train, val = split(dataset, self.config.val_fraction, self.config.val_max, ctx.seed)
        whole = whole_batches(ctx, min(self.config.batch_size, len(train)), "segmenter")
        if whole is None:
            return
        with Loader(train, self.config.batch_size, ctx.seed, whole.team) as loader:
            self._prepare(train, whole)
            training = Training(self, loader, val, whole)  # which copies the segmenter
            self._team = whole.team
            try:
                training.run()
            finally:
                self._team = ALONE
        self.eval()

    def _prepare(self, dataset: LabelledDataset, ctx: RunContext) -> None:
        height, width = dataset[0].mask.shape
        self.to(ctx.device)
        layout = self.config.channels_last
        self._channels_last = layout == "on" or (layout == "auto" and ctx.device.type in ("cpu", "cuda"))
        with isolated_rng(child_seed(ctx.seed, "weights")):
            self._build(dataset.classes, (int(height), int(width)), dataset.fit_rule, pretrained=True)
        self._check_size()
        if self.config.encoder_weights is not None:
            source, licence = encoder_weights(self.config)
            ctx.info(f"encoder weights: {source}; licence: {licence}; most such weights were learned from labels")
        if self.config.encoder.startswith("mit_"):
            ctx.warn(f"encoder {self.config.encoder} carries NVIDIA's Source Code License: non-commercial use only")

    @torch.no_grad()
    def _check_size(self) -> None:
        try:
            self.eval().logits(torch.zeros(2, 3, *self.train_size, device=self.device))
        except Exception as error:
            size = f"{self.train_size[1]} x {self.train_size[0]}"
            raise ConfigError(
                f"encoder '{self.config.encoder}' cannot take images of {size}: {error}",
                "choose another, or for a timm encoder model_options such as "
                f'{{"img_size": {list(self.train_size)}}} or {{"dynamic_img_size": true}}',
            ) from error


class Training:
    """One training of a segmenter: the loop and what it keeps."""

    def __init__(self, segmenter: SmpSegmenter, loader: Loader, val: LabelledDataset | None, ctx: RunContext) -> None:
        assert segmenter.network is not None
        self.segmenter, self.loader, self.val, self.ctx = segmenter, loader, val, ctx
        self.config, self.network = segmenter.config, segmenter.network
        self.class_weights: Tensor | None = None
        if self.config.class_weights != "none":
            self.class_weights = inverse_sqrt_frequency(class_counts(loader.dataset, ctx.team)).to(ctx.device)
        self.precision = Precision(self.config.dtype, ctx.device)
        self.optimizer = build_optimizer(self.network, self.config, ctx.device)
        self.average = WeightAverage(segmenter)
        self.best = Best()
        self.warned = False

    def run(self) -> None:
        """Train, then put the best weights into the segmenter."""
        state: dict[str, Stateful] = {
            "segmenter": self.segmenter,
            "optimizer": self.optimizer,
            "average": self.average,
            "best": self.best,
            "precision": self.precision,
        }
        if self.config.compile and self.ctx.team.alone:  # what processes say to each other cannot be compiled
            self.segmenter._compiled = torch.compile(self.network.forward)
        with tuned_convolutions():
            for step in (loop := self.ctx.steps(self.config.steps, state=state)):
                loss = self.step(step, loop.total)
                if self.val is not None and ((step + 1) % self.config.val_every == 0 or step + 1 == loop.total):
                    self.validate(self.val, loop)
                curve = {"val_miou": self.best.latest} if self.best.weights else {}
                loop.log(loss=loss, lr=self.optimizer.param_groups[0]["lr"], **curve)
        self.segmenter._compiled = None
        self.segmenter.load_state_dict(self.best.weights or self.average.module.state_dict())
        if self.best.weights:
            self.ctx.info(f"segmenter: best validation mIoU {self.best.miou:.4f} after step {self.best.step}")

    def step(self, step: int, total: int) -> Tensor:
        """One update; returns the loss, of the rows of all processes."""
        team, seed = self.ctx.team, self.ctx.seed
        pairs = self.loader.batch(step).to(self.ctx.device)
        images, masks, weights = augment(
            to_images(pairs.pixels), pairs.masks, pairs.weights, self.config, child_seed(seed, "augment", step),
            self.loader.part, self.loader.batch_size,
        )  # fmt: skip
        if not team.alone:  # dropout must not draw the same for the rows of each
            torch.manual_seed(child_seed(seed, "dropout", step, team.rank))
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.config, step, total)
        self.segmenter.train()
        with common_statistics(team), self.precision.autocast():
            logits = self.segmenter.logits(images)
        loss = self.loss(logits, Pairs(pairs.pixels, masks, weights))
        self.precision.step(loss, self.optimizer, self.config.grad_clip, team)
        self.average.update(rising_decay(self.config.ema_decay, self.average.updates + 1))
        return loss.detach()

    def loss(self, logits: Tensor, pairs: Pairs) -> Tensor:
        """The training loss of a batch."""
        return segmentation_loss(
            logits,
            pairs.masks,
            pairs.weights,
            class_weights=self.class_weights,
            label_smoothing=self.config.label_smoothing,
            dice_weight=self.config.dice_weight,
            team=self.ctx.team,
        )

    def validate(self, val: LabelledDataset, loop: Steps) -> None:
        """Score the average weights, keep them when they are the best, and warn when they see one class only."""
        count, team = min(len(val), self.config.val_max), self.ctx.team
        indices = torch.linspace(0, len(val) - 1, count).round().int()
        mine = [i for part in team.share(indices.split(self.config.batch_size)) for i in part.tolist()]
        samples = (row for i in mine for row in self.loader.rows(val, [i]))
        result = confusion(self.average.module, equal_sizes(samples, self.config.batch_size), team)
        self.best.offer(result.miou, loop.step + 1, self.average.module)
        collapsed = result.collapsed()
        if collapsed is not None and not self.warned and loop.step + 1 >= ALARM_FROM * loop.total:
            self.warned = True
            name = self.segmenter.classes[collapsed]
            self.ctx.warn(
                f"segmenter: after step {loop.step + 1} it predicts almost nothing but '{name}' on the validation "
                "images; check the masks it learns from, or lower the learning rate"
            )
