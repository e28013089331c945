"""Small real parts for core tests: a convolutional segmenter, an evaluator, a refiner, a trainable generator."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from gsegkit.config import Config
from gsegkit.context import RunContext
from gsegkit.dataset import LabelledDataset, UnlabelledImages
from gsegkit.errors import DataError
from gsegkit.images import list_images, to_images
from gsegkit.interfaces import DatasetReader, Evaluator, Predict, Refiner, Segmenter, TrainableGenerator
from gsegkit.plugins import Component, hookimpl
from gsegkit.seeds import normals
from gsegkit.types import GeneratedBatch, GeneratorInfo, LabelledBatch, Report


class TinyConfig(Config):
    steps: int = Field(40, ge=1, description="training steps")
    lr: float = Field(1e-2, gt=0, description="learning rate")
    width: int = Field(12, ge=1, description="channels")


class TinySegmenter(Segmenter):
    config: TinyConfig

    def __init__(self, config: TinyConfig) -> None:
        super().__init__(config)
        self.classes = ()

    def _make(self, num_classes: int) -> None:
        width = self.config.width
        self.net = nn.Sequential(
            nn.Conv2d(3, width, 5, padding=2), nn.ReLU(), nn.Dropout(0.1), nn.Conv2d(width, num_classes, 5, padding=2)
        )

    def facts(self) -> dict[str, Any]:
        return {"classes": list(self.classes), "train_size": list(self.train_size), "fit_rule": self.fit_rule}

    def restore(self, facts: Mapping[str, Any]) -> None:
        self.classes = tuple(facts["classes"])
        self.train_size = tuple(facts["train_size"])
        self.fit_rule = facts["fit_rule"]
        self._make(len(self.classes))

    def fit(self, dataset: LabelledDataset, ctx: RunContext, *, val: LabelledDataset | None = None) -> None:
        self.classes = dataset.classes
        self.fit_rule = dataset.fit_rule
        self.train_size = tuple(dataset[0].mask.shape)
        torch.manual_seed(ctx.seed % 2**31)
        self._make(len(self.classes))
        self.to(ctx.device).train()
        optimizer = torch.optim.Adam(self.parameters(), self.config.lr)
        loop = ctx.steps(self.config.steps, state={"net": self.net, "optimizer": optimizer})
        for _ in loop:
            pixels, masks = dataset.batch(torch.randint(len(dataset), (8,)).tolist())
            loss = F.cross_entropy(self.logits(to_images(pixels)), masks.long(), ignore_index=255)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loop.log(loss=loss)

    def logits(self, images: Tensor) -> Tensor:
        return self.net(images)


class CountingEvaluator(Evaluator):
    def evaluate(self, predict: Predict, dataset: LabelledDataset, ctx: RunContext) -> Report:
        hits = pixels = 0
        for sample in dataset:
            mask = predict(sample.pixels[None]).argmax(1)[0].cpu()
            hits += int((mask == sample.mask).sum())
            pixels += mask.numel()
        return Report({"accuracy": hits / pixels}, definitions={"accuracy": "share of pixels with the right class"})


class WindowConfig(Config):
    max: float = Field(0.9, ge=0, le=1, description="largest foreground share")


class WindowRefiner(Refiner):
    config: WindowConfig

    def refine(self, batch: LabelledBatch) -> LabelledBatch:
        return batch.keep((batch.masks != 0).float().mean((1, 2)) <= self.config.max)


class PlainReader(DatasetReader):
    """Images of a folder; no masks."""

    def images(self, folder: Path) -> UnlabelledImages:
        return UnlabelledImages(tuple(list_images(folder)))

    def labelled(self, folder: Path) -> LabelledDataset:
        raise DataError("no masks")


class MeanConfig(Config):
    steps: int = Field(3, ge=1, description="training steps")


class MeanGenerator(TrainableGenerator):
    """Learns the mean colour of a folder: a square of that colour at a place that the latent gives."""

    config: MeanConfig

    def __init__(self, config: MeanConfig) -> None:
        super().__init__(config)
        self.info = GeneratorInfo(16, 16, (5,), mask_classes=("background", "square"))
        self.colour = nn.Parameter(torch.zeros(3))

    def latents(self, seeds: Tensor) -> Tensor:
        return normals(seeds, (5,)).to(self.device)

    def synthesize(self, latents, labels=None, *, features=(), edits=None) -> GeneratedBatch:
        inside = torch.zeros(len(latents), 1, 16, 16)
        inside[:, :, 4:12, 4:12] = 1
        noise = latents[:, :1, None, None].tanh() * 0.2
        images = inside * self.colour[:, None, None] + (1 - inside) * noise
        return GeneratedBatch(images, latents, probs=torch.cat([1 - inside, inside], 1))

    def fit(self, images: UnlabelledImages, ctx: RunContext, *, segmenter: Segmenter | None = None) -> None:
        optimizer = torch.optim.SGD(self.parameters(), 0.5)
        for _ in ctx.steps(self.config.steps, state={"net": self, "optimizer": optimizer}):
            target = to_images(images.batch(range(len(images)))).mean((0, 2, 3))
            loss = (self.colour - target).square().sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


class PartsPlugin:
    @hookimpl
    def gsegkit_components(self) -> Iterable[Component]:
        def made(kind: str, name: str, target: str, config: str = "", **more: Any) -> Component:
            paths = {"target": f"{__name__}:{target}"} | ({"config": f"{__name__}:{config}"} if config else {})
            return Component(kind=kind, name=name, **paths, **more)

        return [
            made("segmenter", "tiny", "TinySegmenter", "TinyConfig"),
            made("evaluator", "count", "CountingEvaluator"),
            made("dataset", "plain", "PlainReader"),
            made("refiner", "window", "WindowRefiner", "WindowConfig"),
            made("generator", "mean", "MeanGenerator", "MeanConfig", provides=("trainable", "masks")),
        ]
