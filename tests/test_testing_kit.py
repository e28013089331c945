"""The conformance kit catches what it is there to catch: small components with one defect each.

Every defect is checked to be found by the check that is meant for it, with a message that names the component and the
method; and the same components without a defect pass every check.
"""

from __future__ import annotations

import os
import random
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ConfigDict, Field

from gsegkit.artifacts import save_part
from gsegkit.config import Config
from gsegkit.dataset import UnlabelledImages
from gsegkit.errors import CapabilityError, DataError
from gsegkit.images import list_images, to_images
from gsegkit.interfaces import (
    DatasetReader,
    Evaluator,
    KMeans,
    MaskExtractor,
    Refiner,
    Segmenter,
    TrainableGenerator,
    Weights,
)
from gsegkit.kmeans import TorchKMeans
from gsegkit.kmeans_config import KMeansConfig
from gsegkit.native import Native
from gsegkit.plugins import Component, Entry, Registry, hookimpl, installed
from gsegkit.seeds import child_seed, isolated_rng
from gsegkit.testing import (
    CheckFailedError,
    KitSettings,
    Subject,
    check_generator,
    check_kmeans,
    check_segmenter,
    checks_for,
    run_checks,
)
from gsegkit.toy import Toy, ToyConfig
from gsegkit.types import GeneratedBatch, MaskBatch, Report

TOY = ("latent-grad", "features", "feature-edit", "masks", "classes", "truth")


@dataclass(frozen=True)
class Defect:
    """A component with one defect, the check that must find it, and the method and words of its message."""

    kind: str
    make: object
    check: str
    method: str
    words: str
    requires: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.kind}-{self.make().__class__.__name__}"

    def subject(self) -> Subject:
        provides = (*TOY, "trainable") if self.kind == "generator" else ()
        return Subject.of_part(self.kind, self.make, provides=provides, requires=self.requires)


DEFECTS: list[Defect] = []


def defect(kind: str, check: str, method: str, words: str, config=None, requires=()):
    """Note a defective class; it is constructed with a small config of its kind."""

    def note(cls):
        small = config or {"generator": ToyConfig(size=20)}.get(kind, Config())
        DEFECTS.append(Defect(kind, lambda: cls(small), check, method, words, requires))
        return cls

    return note


# ---- generators ----------------------------------------------------------------------------------------------------


@defect("generator", "images", "sample", "must be float32")
class WrongDtype(Toy):
    def synthesize(self, latents, labels=None, **options):
        batch = super().synthesize(latents, labels, **options)
        return replace(batch, images=batch.images.double())


@defect("generator", "images", "sample", r"float32\[7, 3, 21, 20\]")
class WrongShape(Toy):
    def __init__(self, config):
        super().__init__(config)
        self.info = replace(self.info, height=self.info.height + 1)


@defect("generator", "images", "sample", "NaN")
class NotFinite(Toy):
    def synthesize(self, latents, labels=None, **options):
        batch = super().synthesize(latents, labels, **options)
        return replace(batch, images=batch.images / 0)


@defect("generator", "images", "sample", r"nominally in \[-1, 1\]")
class WrongRange(Toy):
    def synthesize(self, latents, labels=None, **options):
        batch = super().synthesize(latents, labels, **options)
        return replace(batch, images=batch.images * 127.5 + 128)


@defect("generator", "images", "sample", "does not carry its seeds")
class LosesSeeds(Toy):
    def sample(self, seeds, *, features=()):
        with torch.no_grad():
            return self.synthesize(self.latents(seeds), self.labels(seeds), features=features)


@defect("generator", "batch-independence", "synthesize", "made alone")
class BatchDependent(Toy):
    def synthesize(self, latents, labels=None, **options):
        batch = super().synthesize(latents, labels, **options)
        return replace(batch, images=batch.images - batch.images.mean())


@defect("generator", "determinism", "synthesize", "the second time")
class FreshNoise(Toy):
    def synthesize(self, latents, labels=None, **options):
        batch = super().synthesize(latents, labels, **options)
        return replace(batch, images=batch.images + 0.01 * torch.randn_like(batch.images))


@defect("generator", "global-state", "sample", "torch's global random state")
class GlobalNoise(FreshNoise):
    def synthesize(self, latents, labels=None, **options):
        torch.manual_seed(0)
        return super().synthesize(latents, labels, **options)


@defect("generator", "global-state", "__init__", "NumPy's global random state")
class SeedsNumpy(Toy):
    def __init__(self, config):
        super().__init__(config)
        np.random.seed(0)


@defect("generator", "determinism", "__init__", "two parts of the same options")
class RandomWeights(Toy):
    def __init__(self, config):
        super().__init__(config)
        self.grain = torch.randn_like(self.grain)


@defect("generator", "latents", "latents", "a row depends on other rows")
class OneGenerator(Toy):
    def latents(self, seeds):
        return torch.randn(len(seeds), 10, generator=torch.Generator().manual_seed(int(seeds[0]) % 1000))


@defect("generator", "inputs-unchanged", "synthesize", "wrote into its latents")
class Truncates(Toy):
    def synthesize(self, latents, labels=None, **options):
        with torch.no_grad():
            latents.mul_(0.7)
        return super().synthesize(latents, labels, **options)


@defect("generator", "masks", "sample", "must sum to 1")
class LooseProbs(Toy):
    def synthesize(self, latents, labels=None, **options):
        batch = super().synthesize(latents, labels, **options)
        return replace(batch, probs=batch.probs * 0.9)


@defect("generator", "latent-gradients", "synthesize", "no gradient flows back")
class Detached(Toy):
    def synthesize(self, latents, labels=None, **options):
        return super().synthesize(latents.detach(), labels, **options)


@defect("generator", "features", "sample", r"features\['half'\] must be float32")
class FewerChannels(Toy):
    def synthesize(self, latents, labels=None, **options):
        batch = super().synthesize(latents, labels, **options)
        return replace(batch, features={k: v[:, :8] if k == "half" else v for k, v in batch.features.items()})


@defect("generator", "unknown-names", "synthesize", "an unknown feature must raise ContractError, got KeyError")
class ForeignError(Toy):
    def synthesize(self, latents, labels=None, *, features=(), edits=None):
        _ = [{"full": 1, "half": 1, "quarter": 1}[name] for name in features]
        return super().synthesize(latents, labels, features=features, edits=edits)


@defect("generator", "edits", "synthesize", "'object' stays in the next call")
class EditStays(Toy):
    def synthesize(self, latents, labels=None, *, features=(), edits=None):
        for name, edit in (edits or {}).items():
            getattr(self, name).register_forward_hook(lambda module, args, output, edit=edit: edit(output))
        return super().synthesize(latents, labels, features=features)


@defect("generator", "info", "info", "capability 'masks' is True, but info has none")
class NoMaskClasses(Toy):
    def __init__(self, config):
        super().__init__(config)
        self.info = replace(self.info, mask_classes=())


@defect("generator", "truth", "truth", "holds the classes")
class InventsClasses(Toy):
    def truth(self, batch: GeneratedBatch):
        return super().truth(batch) + 1


class Trained(Toy, TrainableGenerator):
    """A good one: learns the mean colour of photographs."""

    def __init__(self, config):
        super().__init__(config)
        self.tint = torch.nn.Parameter(torch.zeros(3, 1, 1))

    def synthesize(self, latents, labels=None, **options):
        batch = super().synthesize(latents, labels, **options)
        return replace(batch, images=batch.images + self.tint)

    def state(self, optimiser):
        return {"net": self, "optimiser": optimiser}

    def fit(self, images, ctx, *, segmenter=None):
        optimiser = torch.optim.Adam([self.tint], 0.05)
        for _ in ctx.steps(50, state=self.state(optimiser)):
            pixels = images.batch(torch.randint(0, len(images), (2,)).tolist())
            loss = (self.tint - to_images(pixels)).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()


@defect("generator", "save-and-load", "restore", "other images after save and load")
class NotStored(Trained):
    def __init__(self, config):
        super().__init__(config)
        with torch.no_grad():
            self.tint += 0.1

    def state_dict(self, *args, **kwargs):
        return {}

    def load_state_dict(self, state, **kwargs):
        with torch.no_grad():
            self.tint.zero_()


@defect("generator", "training", "fit", "two trainings with the same seed differ")
class UnseededTraining(Trained):
    def fit(self, images, ctx, *, segmenter=None):
        super().fit(images, ctx)
        with torch.no_grad():
            self.tint += int.from_bytes(os.urandom(2)) / 2**16


@defect("generator", "training-resumes", "fit", "a stopped and resumed training ends differently")
class ForgetsOptimiser(Trained):
    def state(self, optimiser):
        return {"net": self}


# ---- extractors ----------------------------------------------------------------------------------------------------


class Learned(MaskExtractor):
    """A good one: a pixel-wise linear classifier of the features `full`, fitted to the generator's own masks."""

    def __init__(self, config) -> None:
        super().__init__(config)
        self.classes = ()
        with isolated_rng(0):
            self.classifier = torch.nn.Conv2d(12, 2, 1)

    def facts(self):
        return {"classes": list(self.classes)}

    def restore(self, facts):
        self.classes = tuple(facts["classes"])

    def features(self, info):
        return ("full",)

    def fit(self, generator, ctx, *, images=None):
        self.classes = ("background", "object")
        optimiser = torch.optim.Adam(self.classifier.parameters(), 0.05)
        for step in (loop := ctx.steps(60, state={"net": self.classifier, "optimiser": optimiser})):
            batch = generator.sample(ctx.seeds("fit", 4, step * 4), features=("full",))
            if batch.probs is None:
                raise CapabilityError("the generator has no masks")
            loss = F.cross_entropy(self.classifier(batch.features["full"]), (batch.probs[:, 0] < 0.5).long())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            loop.log(loss=loss)

    def extract(self, batch, generator):
        with torch.no_grad():
            probs = self.classifier(batch.features["full"]).softmax(1)
        return MaskBatch(probs, {"coverage": probs[:, 1].mean((1, 2))})


@defect("extractor", "masks-of-odd-size", "fit", "classes must be a tuple of two or more names")
class NoClasses(Learned):
    def fit(self, generator, ctx, *, images=None):
        super().fit(generator, ctx)
        self.classes = ()


@defect("extractor", "generator-unchanged", "fit", "changed the generator's training mode")
class SwitchesMode(Learned):
    def fit(self, generator, ctx, *, images=None):
        generator.train(not generator.training)
        super().fit(generator, ctx)


@defect("extractor", "save-and-load", "restore", "other masks after save and load")
class ForgetsWeights(Learned):
    def state_dict(self, *args, **kwargs):
        return {}

    def load_state_dict(self, state, **kwargs):
        return None


@defect("extractor", "missing-need", "fit", "without 'masks' must raise .* got TypeError", requires=("masks",))
class AssumesMasks(Native):
    def fit(self, generator, ctx, *, images=None):
        _ = generator.sample(ctx.seeds("fit", 1)).probs[:, 0]


@defect("extractor", "finds-the-object", "fit", "below its floor of 0.5")
class FindsNothing(Learned):
    def extract(self, batch, generator):
        found = super().extract(batch, generator)
        return MaskBatch(found.probs.roll(16, dims=3))


@defect("extractor", "rows-are-independent", "extract", "differs from that of the same sample alone")
class NormalisesBatch(Learned):
    def extract(self, batch, generator):
        probs = super().extract(batch, generator).probs[:, 1]
        share = (probs / probs.mean()).clamp(0, 1)
        return MaskBatch(torch.stack([1 - share, share], 1))


@defect("extractor", "same-seed", "fit", "two fits with the same seed")
class Unseeded(Learned):
    def fit(self, generator, ctx, *, images=None):
        super().fit(generator, ctx)
        with torch.no_grad():
            self.classifier.bias += torch.rand(2)


@defect("extractor", "resume", "fit", "a stopped and resumed fit ends differently")
class LosesOptimiser(Learned):
    def fit(self, generator, ctx, *, images=None):
        self.classes = ("background", "object")
        optimiser = torch.optim.Adam(self.classifier.parameters(), 0.05)
        for _ in ctx.steps(60, state={"net": self.classifier}):
            batch = generator.sample(ctx.seeds("fit", 4), features=("full",))
            optimiser.zero_grad()
            self.classifier(batch.features["full"]).square().mean().backward()
            optimiser.step()


@defect("extractor", "unconditional-generator", "fit", "raised AttributeError")
class AssumesLabels(Learned):
    def fit(self, generator, ctx, *, images=None):
        generator.labels(ctx.seeds("fit", 1)).float()
        super().fit(generator, ctx)


@defect("extractor", "features-by-shape", "features", r"wants \['b64'\]")
class WantsTooMuch(Learned):
    def features(self, info):
        return ("b64",) if self.classes else ("full",)


@defect("extractor", "batch-unchanged", "extract", "wrote into batch.features")
class InPlaceFeatures(Learned):
    def extract(self, batch, generator):
        batch.features["full"].mul_(0.5)
        return super().extract(batch, generator)


@defect("extractor", "global-state", "fit", "torch's gradient mode")
class SwitchesGradientsOff(Learned):
    def fit(self, generator, ctx, *, images=None):
        super().fit(generator, ctx)
        torch.set_grad_enabled(False)


# ---- refiners ------------------------------------------------------------------------------------------------------


class Keep(Refiner):
    """A good one: keeps what is covered enough."""

    def refine(self, batch):
        return batch.keep((batch.masks != 0).float().mean((1, 2)) > 0.1)


@defect("refiner", "pixels", "refine", "touched pixels")
class TouchesPixels(Refiner):
    def refine(self, batch):
        return replace(batch, pixels=batch.pixels.flip(3))


@defect("refiner", "input-unchanged", "refine", "wrote into batch.masks")
class InPlace(Refiner):
    def refine(self, batch):
        batch.masks[:, 0] = 0
        return batch


@defect("refiner", "rows-are-independent", "refine", "depends on the other rows")
class DropsBelowMedian(Refiner):
    def refine(self, batch):
        share = (batch.masks != 0).float().mean((1, 2))
        return batch.keep(share >= share.median()) if len(batch) else batch


@defect("refiner", "rows", "refine", r"masks hold \[0, 1, 2\] with 2 classes")
class InventsClass(Refiner):
    def refine(self, batch):
        masks = batch.masks.clone()
        masks[:, 4:6] = 2
        return batch.with_masks(masks)


@defect("refiner", "rows", "refine", "reordered")
class Sorts(Refiner):
    def refine(self, batch):
        order = (batch.masks != 0).float().mean((1, 2)).argsort()
        return replace(
            batch,
            seeds=batch.seeds[order],
            pixels=batch.pixels[order],
            masks=batch.masks[order],
            probs=batch.probs[order],
            scores={name: score[order] for name, score in batch.scores.items()},
        )


@defect("refiner", "extreme-batches", "refine", "raised")
class NeedsRows(Refiner):
    def refine(self, batch):
        return batch.with_scores(share=torch.stack([(mask != 0).float().mean() for mask in batch.masks]))


@defect("refiner", "no-state", "refine", "the second call gave another")
class Counts(Refiner):
    calls = 0

    def refine(self, batch):
        self.calls += 1
        return batch.with_scores(call=torch.full((len(batch),), float(self.calls)))


@defect("refiner", "global-state", "refine", "Python's global random state")
class DropsAtRandom(Refiner):
    def refine(self, batch):
        random.seed(3)
        return batch.keep(torch.tensor([random.random() < 0.9 for _ in range(len(batch))], dtype=torch.bool))


# ---- segmenters ----------------------------------------------------------------------------------------------------


class Tiny(Segmenter):
    """A good one: a single convolution."""

    dropout = 0.0

    def __init__(self, config) -> None:
        super().__init__(config)
        self.net: torch.nn.Module = torch.nn.Identity()

    def build(self, classes, size) -> None:
        self.classes, self.train_size, self.fit_rule = tuple(classes), tuple(size), "native"
        self.net = torch.nn.Conv2d(3, len(classes), 3, padding=1)

    def facts(self):
        return {"classes": list(self.classes), "size": list(self.train_size)}

    def restore(self, facts):
        with isolated_rng(0):
            self.build(facts["classes"], facts["size"])

    def loss(self, logits, masks):
        total = F.cross_entropy(logits, masks.long(), ignore_index=255, reduction="sum")
        return total / (masks != 255).sum().clamp(min=1)

    def state(self, optimiser):
        return {"net": self.net, "optimiser": optimiser}

    def fit(self, dataset, ctx, *, val=None):
        with isolated_rng(child_seed(ctx.seed, "weights")):
            self.build(dataset.classes, dataset[0].mask.shape)
        optimiser = torch.optim.Adam(self.parameters(), 0.01)
        for _ in (loop := ctx.steps(100, state=self.state(optimiser))):
            pixels, masks = dataset.batch(torch.randint(0, len(dataset), (4,)).tolist())
            loss = self.loss(self.logits(pixels.float() / 127.5 - 1), masks)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            loop.log(loss=loss)

    def logits(self, images):
        return self.net(images)


@defect("segmenter", "logits-of-any-size", "logits", r"must be float32\[2, 4, 33, 47\], got float32\[2, 4, 32, 46\]")
class HalvesOddSizes(Tiny):
    def logits(self, images):
        return F.interpolate(F.avg_pool2d(self.net(images), 2), scale_factor=2)

    def loss(self, logits, masks):
        return super().loss(logits, masks[:, : logits.shape[2], : logits.shape[3]])


@defect("segmenter", "same-seed", "fit", "two trainings with the same seed")
class GlobalInit(Tiny):
    def fit(self, dataset, ctx, *, val=None):
        super().fit(dataset, ctx)
        with torch.no_grad():
            self.net.bias += torch.rand(4)


@defect("segmenter", "resume", "fit", "a stopped and resumed training differs in net")
class NoOptimiserState(Tiny):
    def state(self, optimiser):
        return {"net": self.net}


@defect("segmenter", "ignored-pixels", "fit", "(is not finite|DivergedError)")
class DividesByNothing(Tiny):
    def loss(self, logits, masks):
        return F.cross_entropy(logits, masks.long(), ignore_index=255)


@defect("segmenter", "logits-are-differentiable", "logits", "no gradient flows back")
class InferenceOnly(Tiny):
    def logits(self, images):
        return self.net(images) if self.training else self.net(images).detach()


@defect("segmenter", "rows-are-independent", "probs", "depends on its batch")
class BatchStatistics(Tiny):
    def logits(self, images):
        return 100 * self.net(images - images.mean())


@defect("segmenter", "facts-after-fit", "fit", "train_size is None")
class NoTrainSize(Tiny):
    def fit(self, dataset, ctx, *, val=None):
        super().fit(dataset, ctx)
        self.train_size = None


@defect("segmenter", "predictions", "probs", r"\[1, 4, 17, 19\], got float32\[1, 4, 33, 47\]")
class LeavesTrainSize(Tiny):
    def probs(self, pixels):
        with torch.no_grad():
            return self.net(F.interpolate(pixels.float(), self.train_size)).softmax(1)


@defect("segmenter", "save-and-load", "restore", "fit_rule is 'squash' after loading")
class ForgetsFitRule(Tiny):
    def restore(self, facts):
        super().restore(facts)
        self.fit_rule = "squash"


@defect("segmenter", "data-unchanged", "fit", "wrote into the images or masks")
class InPlaceMasks(Tiny):
    def fit(self, dataset, ctx, *, val=None):
        dataset.masks[dataset.masks == 255] = 0
        super().fit(dataset, ctx)


@defect("segmenter", "global-state", "fit", "torch's number of threads")
class ChangesThreads(Tiny):
    def fit(self, dataset, ctx, *, val=None):
        super().fit(dataset, ctx)
        torch.set_num_threads(torch.get_num_threads() + 1)


# ---- evaluators, k-means, readers ----------------------------------------------------------------------------------


class Accuracy(Evaluator):
    """A good one: pixel accuracy."""

    definition = "share of the pixels, 255 left out, that are right"

    def evaluate(self, predict, dataset, ctx):
        right = total = 0
        for sample in dataset:
            found = predict(self.seen(sample.pixels[None])).argmax(1)[0]
            scored = sample.mask != 255
            right += int((found == sample.mask)[scored].sum())
            total += int(scored.sum())
        return self.report(right, total)

    def seen(self, pixels):
        return pixels

    def report(self, right, total):
        return Report({"accuracy": right / total if total else None}, definitions={"accuracy": self.definition})


@defect("evaluator", "report", "evaluate", "metric 'accuracy' is nan")
class NotANumber(Accuracy):
    def report(self, right, total):
        return Report({"accuracy": float("nan")}, definitions={"accuracy": self.definition})


@defect("evaluator", "report", "evaluate", "metric 'accuracy' has no definition")
class Undefined(Accuracy):
    def report(self, right, total):
        return Report({"accuracy": right / total})


@defect("evaluator", "right-and-wrong", "evaluate", "scores a perfect and a wrong predictor the same")
class Blind(Accuracy):
    def report(self, right, total):
        return super().report(total, total)


@defect("evaluator", "report", "evaluate", "changed the photographs")
class Resizes(Accuracy):
    def seen(self, pixels):
        return pixels.flip(3)


@defect("evaluator", "same-again", "evaluate", "the second evaluation gave other numbers")
class Samples(Accuracy):
    def report(self, right, total):
        return super().report(float(torch.rand(())), 1)


@defect("evaluator", "global-state", "evaluate", "torch's global random state")
class Shuffles(Accuracy):
    def report(self, right, total):
        torch.manual_seed(0)
        return super().report(right, total)


@defect("kmeans", "blobs", "fit", "did not find three blobs", KMeansConfig())
class OneBlob(TorchKMeans):
    def fit(self, points, k, seed):
        centres = points[:1].repeat(k, 1) + torch.arange(k).view(-1, 1) * 1e-3
        return centres, torch.cdist(points, centres).argmin(1)


@defect("kmeans", "cluster-globals", "fit", "torch's global random state", KMeansConfig())
class SeedsTorch(TorchKMeans):
    def fit(self, points, k, seed):
        torch.manual_seed(seed)
        return super().fit(points, k, seed)


@defect("kmeans", "cluster-seed", "fit", "the same seed differs", KMeansConfig())
class UnseededKMeans(TorchKMeans):
    def fit(self, points, k, seed):
        return super().fit(points, k, int(torch.randint(0, 10_000, ())))


@defect("kmeans", "bad-points", "fit", "must raise DataError, got ValueError", KMeansConfig())
class WrongError(TorchKMeans):
    def fit(self, points, k, seed):
        if len(points) < k:
            raise ValueError("too few")
        return super().fit(points, k, seed)


class Pictures(DatasetReader):
    """A good one: every picture below the folder."""

    def images(self, folder: Path):
        return UnlabelledImages(tuple(list_images(folder)))

    def labelled(self, folder: Path):
        raise DataError(f"'{folder}' holds no masks")


@defect("dataset", "bad-folders", "images", "a folder that is 'missing' must raise DataError, but nothing")
class Silent(Pictures):
    def images(self, folder: Path):
        return UnlabelledImages(tuple(sorted(folder.glob("*.png"))))


@defect("dataset", "image-folder", "images", "not the folder's pictures in sorted order")
class Unsorted(Pictures):
    def images(self, folder: Path):
        return UnlabelledImages(tuple(reversed(list_images(folder))))


STORE = tempfile.TemporaryDirectory()  # gone with the process


class Stored(Weights):
    """A good one: the toy, stored as weights are."""

    def folder(self):
        folder = Path(STORE.name) / type(self).__name__
        save_part(Toy(ToyConfig(size=20)), folder, "generator", "toy")
        (folder / "card.json").write_text('{"licence": "Apache-2.0"}')
        return folder


@defect("weights", "weights-files", "folder", "card.json names no licence")
class NoLicence(Stored):
    def folder(self):
        folder = super().folder()
        (folder / "card.json").write_text("{}")
        return folder


@defect("weights", "weights-load", "folder", "ArtifactError")
class WrongWeights(Stored):
    def folder(self):
        folder = super().folder()
        (folder / "state.safetensors").write_bytes(b"nothing")
        return folder


# ---- options -------------------------------------------------------------------------------------------------------


class Bare(Config):
    size: int = 3


class Lax(Config):
    model_config = ConfigDict(extra="ignore")


class OneWay(Config):
    size: int = Field(3, ge=3, description="size", exclude=True)


class Nested(Config):
    one: OneWay = Field(OneWay(size=4), description="lost by JSON")


@defect("refiner", "default-options", "config", "option 'size' has no description", Bare())
class Undescribed(Keep): ...


@defect("refiner", "unknown-option", "config", "an unknown option must raise ConfigError, but nothing", Lax())
class TakesAnything(Keep): ...


@defect("refiner", "options-through-json", "config", "comes back from JSON as", Nested())
class NotReplayable(Keep): ...


@defect("refiner", "default-construction", "__init__", "did not keep its options", Bare())
class LosesOptions(Keep):
    def __init__(self, config):
        super().__init__(Bare(size=config.size + 1))


# ---- the tests -----------------------------------------------------------------------------------------------------

GOOD = {
    "generator": (lambda: Toy(ToyConfig(size=20)), {"provides": TOY}),
    "extractor": (lambda: Learned(Config()), {"requires": ("features", "masks")}),
    "refiner": (lambda: Keep(Config()), {}),
    "segmenter": (lambda: Tiny(Config()), {}),
    "evaluator": (lambda: Accuracy(Config()), {}),
    "kmeans": (lambda: TorchKMeans(KMeansConfig()), {}),
    "dataset": (lambda: Pictures(Config()), {}),
    "weights": (lambda: Stored(Config()), {}),
}


@pytest.mark.parametrize("kind", GOOD)
def test_a_good_component_passes_every_check(kind: str) -> None:
    make, record = GOOD[kind]
    results = run_checks(Subject.of_part(kind, make, **record))
    assert [result for result in results if result.status not in ("passed", "skipped")] == []
    assert sum(result.status == "passed" for result in results) >= 5


@pytest.mark.parametrize("defect", DEFECTS, ids=str)
def test_a_defect_is_caught_and_named(defect: Defect) -> None:
    subject = defect.subject()
    check = dict(checks_for(subject))[defect.check]
    with pytest.raises(CheckFailedError, match=defect.words) as caught:
        check()
    assert str(caught.value).startswith(f"{defect.kind} '{subject.name}'")
    assert f"{defect.method}(): " in str(caught.value)


def test_a_good_trainable_generator_passes_every_check() -> None:
    make, provides = (lambda: Trained(ToyConfig(size=20))), (*TOY, "trainable")
    assert "training-resumes" in dict(checks_for(Subject.of_part("generator", make, provides=provides)))
    check_generator(make, provides=provides)


def test_every_check_catches_something() -> None:
    """No check is there that cannot fail; `record` and `light-import` need a registered component, see below."""
    seen = {(defect.kind, defect.check) for defect in DEFECTS}
    for kind, (make, _) in GOOD.items():
        subject = Subject.of_part(kind, make, provides=(*TOY, "trainable"))
        for name, _ in checks_for(subject):
            known = (kind, name) in seen or name in {d.check for d in DEFECTS if d.check in EVERY}
            assert known or name in ("record", "light-import", "settings"), (kind, name)


EVERY = ("default-options", "options-through-json", "unknown-option", "default-construction")


def test_one_function_a_kind() -> None:
    results = check_generator(lambda: Toy(ToyConfig(size=20)), provides=TOY)
    assert {result.check for result in results if result.status != "passed"} == {"record", "light-import"}
    with pytest.raises(CheckFailedError, match=r"images: generator 'NotFinite', sample\(\): images hold NaN"):
        check_generator(lambda: NotFinite(ToyConfig(size=20)), provides=TOY)
    with pytest.raises(CheckFailedError, match="NoTrainSize"):
        check_segmenter(lambda: NoTrainSize(Config()))
    check_kmeans(installed().find("kmeans", "torch@gsegkit"))


def test_capabilities_select_the_checks() -> None:
    toy = Subject.of_part("generator", lambda: Toy(ToyConfig(size=20)))
    assert not {"latent-gradients", "features", "edits", "masks", "training"} & dict(checks_for(toy)).keys()
    full = Subject.of_part("generator", lambda: Toy(ToyConfig(size=20)), provides=TOY)
    assert {"latent-gradients", "features", "edits", "masks"} <= dict(checks_for(full)).keys()


def test_settings_give_options_and_expected_failures() -> None:
    entry = installed().find("generator", "toy@gsegkit")
    settings = KitSettings(options={"size": 17}, expected_failures={"truth": "no reason", "images": "a reason"})
    results = {result.check: result for result in run_checks(entry, settings)}
    assert results["images"].status == results["truth"].status == "unexpected"
    assert "a reason" in results["images"].message
    subject = Subject.of_entry(entry, settings)
    assert subject.make().info.height == 17

    broken = Subject.of_part("generator", lambda: NotFinite(ToyConfig(size=20)), settings=settings, provides=TOY)
    results = {result.check: result for result in run_checks(broken)}
    assert results["images"].status == "expected"
    assert results["images"].message.startswith("a reason: generator 'NotFinite'")


def test_settings_that_name_no_check_are_caught() -> None:
    settings = KitSettings(expected_failures={"smell": "it does"}, slow=("images", "taste"))
    check = dict(checks_for(installed().find("generator", "toy@gsegkit"), settings))["settings"]
    with pytest.raises(CheckFailedError, match=r"no check \['smell', 'taste'\]"):
        check()


def test_a_plugin_that_cannot_be_imported_is_a_result_not_a_crash() -> None:
    class Plugin:
        @hookimpl
        def gsegkit_components(self):
            return [Component("extractor", "lost", "no_such_module:X", config="no_such_module.config:Y")]

    registry = Registry()
    registry.add(Plugin(), "gsegkit-lost", "1.0")
    (result,) = run_checks(registry.find("extractor", "lost"))
    assert (result.check, result.status) == ("import", "failed")
    assert "no_such_module" in result.message


def test_a_missing_package_skips_what_needs_it() -> None:
    component = Component("extractor", "faraway", "x:Y", summary="needs much", modules=("no_such_module",))
    results = {result.check: result.status for result in run_checks(Entry(component, "gsegkit-faraway", "1"))}
    assert results["default-construction"] == "skipped"
    assert results["record"] == "skipped"
    assert "failed" not in results.values()


def test_a_heavy_config_module_is_caught(tmp_path, monkeypatch) -> None:
    text = 'import scipy\nfrom gsegkit.config import Config\nclass Heavy(Config):\n    """Options."""\n'
    (tmp_path / "gsegkit_heavy_options.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    component = Component("extractor", "heavy", "gsegkit.native:Native", "gsegkit_heavy_options:Heavy", summary="x")
    check = dict(checks_for(Entry(component, "gsegkit-heavy", "1")))["light-import"]
    with pytest.raises(CheckFailedError, match="importing gsegkit_heavy_options imports scipy"):
        check()


def test_a_wrong_record_is_caught() -> None:
    component = Component("refiner", "Not_Good", "gsegkit.native:Native", summary="x")
    results = {result.check: result.message for result in run_checks(Entry(component, "d", "1"))}
    assert "name 'Not_Good' is not like-this" in results["record"]
    component = Component("refiner", "native", "gsegkit.native:Native", summary="x")
    results = {result.check: result.message for result in run_checks(Entry(component, "d", "1"))}
    assert "not a subclass of gsegkit.interfaces.Refiner" in results["record"]


def test_abstract_parts_name_what_is_missing() -> None:
    class Half(Native):
        extract = MaskExtractor.extract

    class HalfKMeans(KMeans):
        def fit(self, points, k, seed):
            return points[:k], torch.zeros(len(points), dtype=torch.int64)

    Half.__abstractmethods__ = frozenset({"extract"})
    for cls, name in ((Half, "extract"), (HalfKMeans, "used_device")):
        with pytest.raises(TypeError, match=name):
            cls(Config())
