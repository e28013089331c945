"""Segmenter `unet-paper`: the U-Net that both papers train, written from its description, and their training.

Ronneberger et al.'s encoder and decoder with four halvings, two 3 x 3 convolutions with batch normalisation and ReLU a
stage, max pooling down, bilinear interpolation up.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gsegkit.context import RunContext
from gsegkit.dataset import LabelledDataset
from gsegkit.errors import ArtifactError, ContractError, DataError
from gsegkit.images import to_images
from gsegkit.interfaces import Segmenter
from gsegkit.seeds import child_seed, isolated_rng
from gsegkit.training import EpochOrder
from gsegkit.types import IGNORE
from gsegkit_directions.config_unet import UnetPaperConfig

STRIDE = 16  # four halvings


class UnetPaper(Segmenter):
    """The papers' U-Net; with `channels=64` it has their 13.4 million weights."""

    config: UnetPaperConfig

    def __init__(self, config: UnetPaperConfig) -> None:
        super().__init__(config)
        self.network: Unet | None = None

    # ---- prediction ----------------------------------------------------------------------------------------------

    def logits(self, images: Tensor) -> Tensor:
        """See `Segmenter.logits`."""
        if self.network is None:
            raise ArtifactError("the segmenter 'unet-paper' is not trained", "fit() it, or load a trained one")
        if self.training and images.shape[0] < 2:
            raise ContractError("training with batch normalisation needs at least 2 images", "or call eval() first")
        height, width = images.shape[-2:]
        # differs from the paper: it pads the decoder's features with zeros; the same for multiples of 16
        padded = F.pad(images, (0, -width % STRIDE, 0, -height % STRIDE), mode="replicate")
        logits: Tensor = self.network(padded)
        rows, columns = (torch.arange(side, device=images.device) for side in (height, width))
        return logits.index_select(2, rows).index_select(3, columns).float()  # not sliced: so it exports for any size

    def facts(self) -> dict[str, Any]:
        """Classes, training size and fit rule."""
        if self.network is None:
            return {}
        return {"classes": list(self.classes), "train_size": list(self.train_size), "fit_rule": self.fit_rule}

    def restore(self, facts: Mapping[str, Any]) -> None:
        """Build the network that `facts()` belong to."""
        if "classes" in facts:
            height, width = facts["train_size"]
            self._build(tuple(facts["classes"]), (int(height), int(width)), str(facts["fit_rule"]))

    def _build(self, classes: tuple[str, ...], size: tuple[int, int], fit_rule: str) -> None:
        self.classes, self.train_size, self.fit_rule = classes, size, fit_rule
        self.network = Unet(len(classes), self.config.channels).to(self.device)

    # ---- training ------------------------------------------------------------------------------------------------

    def fit(self, dataset: LabelledDataset, ctx: RunContext, *, val: LabelledDataset | None = None) -> None:
        """Adam on the cross-entropy; the last weights are kept, as in the papers, so `val` is not looked at.

        Raises:
            DataError: fewer than 2 images, or a mask with a class that nobody named.
        """
        if len(dataset) < 2:
            raise DataError(f"{len(dataset)} images are too few to train on", "make more, or relax the refiners")
        config = self.config
        height, width = dataset[0].mask.shape
        with isolated_rng(child_seed(ctx.seed, "weights")):
            self._build(dataset.classes, (int(height), int(width)), dataset.fit_rule)
        self.to(ctx.device)
        optimizer = torch.optim.Adam(self.parameters(), lr=config.lr)
        self.train()
        order = EpochOrder(len(dataset), min(config.batch_size, len(dataset)), ctx.seed)
        for step in (loop := ctx.steps(config.steps, state={"segmenter": self, "optimizer": optimizer})):
            images, masks, weights = self._batch(dataset, order.rows(step), ctx)
            drop = step >= round(config.decay_at * loop.planned)
            for group in optimizer.param_groups:
                group["lr"] = config.lr * (config.decay_factor if drop else 1.0)
            optimizer.zero_grad()
            with torch.autocast(ctx.device.type, torch.bfloat16, enabled=config.dtype == "bfloat16"):
                logits = self.logits(images)
            loss = cross_entropy(logits, masks, weights)
            loss.backward()
            optimizer.step()
            loop.log(loss=loss, lr=float(optimizer.param_groups[0]["lr"]))
        self.eval()

    def _batch(
        self, dataset: LabelledDataset, rows: list[int], ctx: RunContext
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Images, masks and weights of these rows, some of them flipped."""
        pixels, masks = dataset.batch(rows)
        unknown = masks[(masks >= len(self.classes)) & (masks != IGNORE)]
        if unknown.numel():
            raise DataError(
                f"a mask holds class {int(unknown[0])}, but there are {len(self.classes)} classes",
                "name all classes, or mark the pixels to ignore with 255",
            )
        weights = dataset.batch_weights(rows)
        flipped = (torch.rand(len(rows)) < self.config.flip).view(-1, 1, 1)
        masks = torch.where(flipped, masks.flip(-1), masks)
        pixels = torch.where(flipped.unsqueeze(1), pixels.flip(-1), pixels)
        if weights is not None:
            weights = torch.where(flipped, weights.flip(-1), weights).to(ctx.device)
        return to_images(pixels.to(ctx.device)), masks.to(ctx.device), weights


def cross_entropy(logits: Tensor, masks: Tensor, weights: Tensor | None) -> Tensor:
    """Mean over the pixels that are not 255, each as much as its weight says; 0 when there is none.

    Args:
        logits: [N, K, H, W] float32.
        masks: [N, H, W] uint8.
        weights: [N, H, W] float32 >= 0, or None.
    """
    counts = (masks != IGNORE).float()
    each = counts if weights is None else counts * weights
    loss = F.cross_entropy(logits, masks.long().masked_fill(masks == IGNORE, 0), reduction="none")
    return (loss * each).sum() / each.sum().clamp_min(1e-6)


# ---- the network -------------------------------------------------------------------------------------------------


class Unet(nn.Module):
    """Encoder 1-2-4-8-8, decoder 4-2-1-1 times `channels`; images whose sides are multiples of 16."""

    def __init__(self, num_classes: int, channels: int) -> None:
        super().__init__()
        c = channels
        self.down = nn.ModuleList([_stage(3, c), _stage(c, 2 * c), _stage(2 * c, 4 * c), _stage(4 * c, 8 * c)])
        self.bottom = _stage(8 * c, 8 * c)
        self.up = nn.ModuleList([_stage(16 * c, 4 * c), _stage(8 * c, 2 * c), _stage(4 * c, c), _stage(2 * c, c)])
        self.head = nn.Conv2d(c, num_classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        """[N, 3, H, W] -> logits [N, K, H, W]."""
        skips, features = [], images
        for stage in self.down:
            skips.append(stage(features))
            features = F.max_pool2d(skips[-1], 2)
        features = self.bottom(features)
        for stage, skip in zip(self.up, reversed(skips), strict=True):
            features = F.interpolate(features, scale_factor=2, mode="bilinear", align_corners=True)
            features = stage(torch.cat([skip, features], dim=1))
        logits: Tensor = self.head(features)
        return logits


def _stage(inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        layers += [nn.Conv2d(channels, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)
