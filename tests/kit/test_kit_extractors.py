"""The kit catches what is wrong with extractors; what is right passes every check."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from kit_defects import Defects

from gsegkit.builtin.native import Native
from gsegkit.config import Config
from gsegkit.errors import CapabilityError
from gsegkit.interfaces import MaskExtractor
from gsegkit.seeds import isolated_rng
from gsegkit.testing import check_extractor
from gsegkit.types import MaskBatch

defects = Defects("extractor")


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


@defects("masks-of-odd-size", "fit", "classes must be a tuple of two or more names")
class NoClasses(Learned):
    def fit(self, generator, ctx, *, images=None):
        super().fit(generator, ctx)
        self.classes = ()


@defects("levels", "levels", "must be a tuple of numbers of clusters")
class LevelsAreText(Learned):
    levels = ("two",)


@defects("levels-are-stored", "restore", "changed the fingerprint")
class OtherFingerprint(Learned):
    def fingerprint(self):
        return f"{id(self) % 16**16:016x}"


@defects("generator-unchanged", "fit", "changed the generator's training mode")
class SwitchesMode(Learned):
    def fit(self, generator, ctx, *, images=None):
        generator.train(not generator.training)
        super().fit(generator, ctx)


@defects("save-and-load", "restore", "other masks after save and load")
class ForgetsWeights(Learned):
    def state_dict(self, *args, **kwargs):
        return {}

    def load_state_dict(self, state, **kwargs):
        return None


@defects("missing-need", "fit", "without 'masks' must raise .* got TypeError", requires=("masks",))
class AssumesMasks(Native):
    def fit(self, generator, ctx, *, images=None):
        _ = generator.sample(ctx.seeds("fit", 1)).probs[:, 0]


@defects("finds-the-object", "fit", "below its floor of 0.5")
class FindsNothing(Learned):
    def extract(self, batch, generator):
        found = super().extract(batch, generator)
        return MaskBatch(found.probs.roll(16, dims=3))


@defects("rows-are-independent", "extract", "differs from that of the same sample alone")
class NormalisesBatch(Learned):
    def extract(self, batch, generator):
        probs = super().extract(batch, generator).probs[:, 1]
        share = (probs / probs.mean()).clamp(0, 1)
        return MaskBatch(torch.stack([1 - share, share], 1))


@defects("same-seed", "fit", "two fits with the same seed")
class Unseeded(Learned):
    def fit(self, generator, ctx, *, images=None):
        super().fit(generator, ctx)
        with torch.no_grad():
            self.classifier.bias += torch.rand(2)


@defects("resume", "fit", "a stopped and resumed fit ends differently")
class LosesOptimiser(Learned):
    def fit(self, generator, ctx, *, images=None):
        self.classes = ("background", "object")
        optimiser = torch.optim.Adam(self.classifier.parameters(), 0.05)
        for _ in ctx.steps(60, state={"net": self.classifier}):
            batch = generator.sample(ctx.seeds("fit", 4), features=("full",))
            optimiser.zero_grad()
            self.classifier(batch.features["full"]).square().mean().backward()
            optimiser.step()


@defects("unconditional-generator", "fit", "raised AttributeError")
class AssumesLabels(Learned):
    def fit(self, generator, ctx, *, images=None):
        generator.labels(ctx.seeds("fit", 1)).float()
        super().fit(generator, ctx)


@defects("features-by-shape", "features", r"wants \['b64'\]")
class WantsTooMuch(Learned):
    def features(self, info):
        return ("b64",) if self.classes else ("full",)


@defects("batch-unchanged", "extract", "wrote into batch.features")
class InPlaceFeatures(Learned):
    def extract(self, batch, generator):
        batch.features["full"].mul_(0.5)
        return super().extract(batch, generator)


@defects("global-state", "fit", "torch's gradient mode")
class SwitchesGradientsOff(Learned):
    def fit(self, generator, ctx, *, images=None):
        super().fit(generator, ctx)
        torch.set_grad_enabled(False)


@pytest.mark.parametrize("defect", defects.found, ids=str)
def test_a_defect_is_caught_and_named(defect) -> None:
    defects.verify(defect)


def test_every_check_catches_something() -> None:
    assert defects.unproven(lambda: Learned(Config())) == []


def test_a_good_one_passes_every_check() -> None:
    results = check_extractor(lambda: Learned(Config()), requires=("features", "masks"))
    assert sum(result.status == "passed" for result in results) >= 15
