"""The kit catches what is wrong with evaluators, k-means backends, readers and weights; what is right passes every check."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
import torch
from kit_defects import Defects

from gsegkit.builtin.toy import Toy, ToyConfig
from gsegkit.clustering.config import KMeansConfig
from gsegkit.clustering.kmeans import TorchKMeans
from gsegkit.config import Config
from gsegkit.dataset import UnlabelledImages
from gsegkit.errors import DataError
from gsegkit.images import list_images
from gsegkit.interfaces import DatasetReader, Evaluator, GeneratorEvaluator, Weights
from gsegkit.parts import save_part
from gsegkit.testing import check_component
from gsegkit.types import Report

evaluators = Defects("evaluator")
comparisons = Defects("generator-evaluator")
kmeans = Defects("kmeans", KMeansConfig())
datasets = Defects("dataset")
weights = Defects("weights")


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


class Brightness(GeneratorEvaluator):
    """A good one: difference of the mean brightness."""

    definition = "difference of the mean brightness, -1 to 1"

    def evaluate(self, generator, images, ctx):
        real = torch.stack([images[i].float().mean() for i in range(len(images))]).mean() / 127.5 - 1
        return self.report(float(self.painted(generator, ctx) - real))

    def painted(self, generator, ctx):
        return torch.cat([generator.sample(seeds).images for seeds in ctx.batches("test", 100)]).mean()

    def report(self, value):
        return Report({"brightness": value}, definitions={"brightness": self.definition})


@comparisons("comparison", "evaluate", "metric 'brightness' is nan")
class Unbounded(Brightness):
    def report(self, value):
        return super().report(float("nan"))


@comparisons("comparison", "evaluate", "metric 'brightness' has no definition")
class Unexplained(Brightness):
    def report(self, value):
        return Report({"brightness": value})


@comparisons("comparison", "evaluate", "another mode")
class Freezes(Brightness):
    def painted(self, generator, ctx):
        return super().painted(generator.eval(), ctx)


@comparisons("near-and-far", "evaluate", "and noise the same")
class LooksAway(Brightness):
    def report(self, value):
        return super().report(0.0)


@comparisons("comparison-again", "evaluate", "the second comparison gave other numbers")
class Guesses(Brightness):
    def report(self, value):
        return super().report(float(torch.rand(())))


@comparisons("comparison-globals", "evaluate", "torch's global random state")
class Reseeds(Brightness):
    def report(self, value):
        torch.manual_seed(0)
        return super().report(value)


@evaluators("report", "evaluate", "metric 'accuracy' is nan")
class NotANumber(Accuracy):
    def report(self, right, total):
        return Report({"accuracy": float("nan")}, definitions={"accuracy": self.definition})


@evaluators("report", "evaluate", "metric 'accuracy' has no definition")
class Undefined(Accuracy):
    def report(self, right, total):
        return Report({"accuracy": right / total})


@evaluators("right-and-wrong", "evaluate", "scores a perfect and a wrong predictor the same")
class Blind(Accuracy):
    def report(self, right, total):
        return super().report(total, total)


@evaluators("report", "evaluate", "changed the photographs")
class Resizes(Accuracy):
    def seen(self, pixels):
        return pixels.flip(3)


@evaluators("same-again", "evaluate", "the second evaluation gave other numbers")
class Samples(Accuracy):
    def report(self, right, total):
        return super().report(float(torch.rand(())), 1)


@evaluators("global-state", "evaluate", "torch's global random state")
class Shuffles(Accuracy):
    def report(self, right, total):
        torch.manual_seed(0)
        return super().report(right, total)


@kmeans("blobs", "fit", "did not find three blobs")
class OneBlob(TorchKMeans):
    def fit(self, points, k, seed):
        centres = points[:1].repeat(k, 1) + torch.arange(k).view(-1, 1) * 1e-3
        return centres, torch.cdist(points, centres).argmin(1)


@kmeans("cluster-globals", "fit", "torch's global random state")
class SeedsTorch(TorchKMeans):
    def fit(self, points, k, seed):
        torch.manual_seed(seed)
        return super().fit(points, k, seed)


@kmeans("cluster-seed", "fit", "the same seed differs")
class UnseededKMeans(TorchKMeans):
    def fit(self, points, k, seed):
        return super().fit(points, k, int(torch.randint(0, 10_000, ())))


@kmeans("bad-points", "fit", "must raise DataError, got ValueError")
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


@datasets("bad-folders", "images", "a folder that is 'missing' must raise DataError, but nothing")
class Silent(Pictures):
    def images(self, folder: Path):
        return UnlabelledImages(tuple(sorted(folder.glob("*.png"))))


@datasets("image-folder", "images", "not the folder's pictures in sorted order")
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


@weights("weights-files", "folder", "card.json names no licence")
class NoLicence(Stored):
    def folder(self):
        folder = super().folder()
        (folder / "card.json").write_text("{}")
        return folder


@weights("weights-load", "folder", "ArtifactError")
class WrongWeights(Stored):
    def folder(self):
        folder = super().folder()
        (folder / "state.safetensors").write_bytes(b"nothing")
        return folder


@weights("weights-names", "names", "'words' in .* are damaged")
class LostNames(Stored):
    names = "words"


GOOD = {
    "evaluator": (evaluators, lambda: Accuracy(Config())),
    "generator-evaluator": (comparisons, lambda: Brightness(Config())),
    "kmeans": (kmeans, lambda: TorchKMeans(KMeansConfig())),
    "dataset": (datasets, lambda: Pictures(Config())),
    "weights": (weights, lambda: Stored(Config())),
}


@pytest.mark.parametrize(
    ("defects", "defect"), [pytest.param(ds, d, id=str(d)) for ds, _ in GOOD.values() for d in ds.found]
)
def test_a_defect_is_caught_and_named(defects, defect) -> None:
    defects.verify(defect)


@pytest.mark.parametrize("kind", GOOD)
def test_every_check_catches_something(kind: str) -> None:
    defects, make = GOOD[kind]
    assert defects.unproven(make) == []


@pytest.mark.parametrize("kind", GOOD)
def test_a_good_one_passes_every_check(kind: str) -> None:
    results = check_component(kind, GOOD[kind][1])
    assert sum(result.status == "passed" for result in results) >= 6
