"""The kit catches what is wrong with segmenters; what is right passes every check."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from kit_defects import Defects

from gsegkit.config import Config
from gsegkit.errors import CapabilityError, DataError
from gsegkit.interfaces import PhotographSegmenter, Segmenter
from gsegkit.seeds import child_seed, isolated_rng
from gsegkit.testing import check_segmenter

defects = Defects("segmenter")


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


@defects("logits-of-any-size", "logits", r"must be float32\[2, 4, 33, 47\], got float32\[2, 4, 32, 46\]")
class HalvesOddSizes(Tiny):
    def logits(self, images):
        return F.interpolate(F.avg_pool2d(self.net(images), 2), scale_factor=2)

    def loss(self, logits, masks):
        return super().loss(logits, masks[:, : logits.shape[2], : logits.shape[3]])


@defects("same-seed", "fit", "two trainings with the same seed")
class GlobalInit(Tiny):
    def fit(self, dataset, ctx, *, val=None):
        super().fit(dataset, ctx)
        with torch.no_grad():
            self.net.bias += torch.rand(4)


@defects("resume", "fit", "a stopped and resumed training differs in net")
class NoOptimiserState(Tiny):
    def state(self, optimiser):
        return {"net": self.net}


@defects("ignored-pixels", "fit", "(is not finite|DivergedError)")
class DividesByNothing(Tiny):
    def loss(self, logits, masks):
        return F.cross_entropy(logits, masks.long(), ignore_index=255)


@defects("logits-are-differentiable", "logits", "no gradient flows back")
class InferenceOnly(Tiny):
    def logits(self, images):
        return self.net(images) if self.training else self.net(images).detach()


@defects("rows-are-independent", "probs", "depends on its batch")
class BatchStatistics(Tiny):
    def logits(self, images):
        return 100 * self.net(images - images.mean())


@defects("facts-after-fit", "fit", "train_size is None")
class NoTrainSize(Tiny):
    def fit(self, dataset, ctx, *, val=None):
        super().fit(dataset, ctx)
        self.train_size = None


@defects("predictions", "probs", r"\[1, 4, 17, 19\], got float32\[1, 4, 33, 47\]")
class LeavesTrainSize(Tiny):
    def probs(self, pixels):
        with torch.no_grad():
            return self.net(F.interpolate(pixels.float(), self.train_size)).softmax(1)


@defects("save-and-load", "restore", "fit_rule is 'squash' after loading")
class ForgetsFitRule(Tiny):
    def restore(self, facts):
        super().restore(facts)
        self.fit_rule = "squash"


@defects("data-unchanged", "fit", "wrote into the images or masks")
class InPlaceMasks(Tiny):
    def fit(self, dataset, ctx, *, val=None):
        dataset.masks[dataset.masks == 255] = 0
        super().fit(dataset, ctx)


@defects("global-state", "fit", "torch's number of threads")
class ChangesThreads(Tiny):
    def fit(self, dataset, ctx, *, val=None):
        super().fit(dataset, ctx)
        torch.set_num_threads(torch.get_num_threads() + 1)


class Brighter(PhotographSegmenter):
    """A good one without pairs: what is brighter than the mean of all photographs."""

    exportable = False

    def __init__(self, config) -> None:
        super().__init__(config)
        self.register_buffer("mean", torch.zeros(1))

    def fit_photographs(self, images, ctx):
        self.mean.fill_(torch.stack([images[i].float().mean() for i in range(len(images))]).mean())
        self.restore({})

    def restore(self, facts):
        self.classes, self.train_size, self.fit_rule = ("background", "foreground"), (32, 32), "native"

    def probs(self, pixels, refine=()):
        inside = (pixels.float().mean(dim=1) > self.mean).float()
        return torch.stack([1 - inside, inside], dim=1)

    def logits(self, images):
        raise CapabilityError("it has no logits", "use probs")


@defects("facts-after-fit", "learns_from", "'pairs', but PhotographSegmenter is True")
class SaysPairs(Brighter):
    learns_from = "pairs"


@defects("logits-of-any-size", "logits", "what is not exportable must raise CapabilityError")
class QuietLogits(Brighter):
    def logits(self, images):
        return images


@defects("same-seed", "fit_photographs", "it cannot be read")
class WantsNoPhotographs(Brighter):
    def fit_photographs(self, images, ctx):
        raise DataError("it cannot be read")


@pytest.mark.parametrize("defect", defects.found, ids=str)
def test_a_defect_is_caught_and_named(defect) -> None:
    defects.verify(defect)


def test_every_check_catches_something() -> None:
    assert defects.unproven(lambda: Tiny(Config())) == []


def test_a_good_one_passes_every_check() -> None:
    results = check_segmenter(lambda: Tiny(Config()))
    assert sum(result.status == "passed" for result in results) >= 15


def test_a_good_one_without_pairs_passes_every_check_that_applies() -> None:
    results = check_segmenter(lambda: Brighter(Config()))
    assert not [result for result in results if result.status not in ("passed", "skipped")]
    skipped = {result.check for result in results if result.status == "skipped"}
    assert skipped == {"record", "light-import", "logits-of-any-size", "logits-are-differentiable", "ignored-pixels"}
