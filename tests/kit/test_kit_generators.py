"""The kit catches what is wrong with generators; what is right passes every check."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from kit_defects import TOY, Defects

from gsegkit.builtin.toy import Toy, ToyConfig
from gsegkit.images import to_images
from gsegkit.interfaces import TrainableGenerator
from gsegkit.testing import check_generator
from gsegkit.types import GeneratedBatch

defects = Defects("generator", ToyConfig(size=20), (*TOY, "trainable"))


@defects("images", "sample", "must be float32")
class WrongDtype(Toy):
    def synthesize(self, latents, labels=None, **options):
        batch = super().synthesize(latents, labels, **options)
        return replace(batch, images=batch.images.double())


@defects("images", "sample", r"float32\[7, 3, 21, 20\]")
class WrongShape(Toy):
    def __init__(self, config):
        super().__init__(config)
        self.info = replace(self.info, height=self.info.height + 1)


@defects("images", "sample", "NaN")
class NotFinite(Toy):
    def synthesize(self, latents, labels=None, **options):
        batch = super().synthesize(latents, labels, **options)
        return replace(batch, images=batch.images / 0)


@defects("images", "sample", r"nominally in \[-1, 1\]")
class WrongRange(Toy):
    def synthesize(self, latents, labels=None, **options):
        batch = super().synthesize(latents, labels, **options)
        return replace(batch, images=batch.images * 127.5 + 128)


@defects("images", "sample", "does not carry its seeds")
class LosesSeeds(Toy):
    def sample(self, seeds, *, features=()):
        with torch.no_grad():
            return self.synthesize(self.latents(seeds), self.labels(seeds), features=features)


@defects("batch-independence", "synthesize", "made alone")
class BatchDependent(Toy):
    def synthesize(self, latents, labels=None, **options):
        batch = super().synthesize(latents, labels, **options)
        return replace(batch, images=batch.images - batch.images.mean())


@defects("determinism", "synthesize", "the second time")
class FreshNoise(Toy):
    def synthesize(self, latents, labels=None, **options):
        batch = super().synthesize(latents, labels, **options)
        return replace(batch, images=batch.images + 0.01 * torch.randn_like(batch.images))


@defects("global-state", "sample", "torch's global random state")
class GlobalNoise(FreshNoise):
    def synthesize(self, latents, labels=None, **options):
        torch.manual_seed(0)
        return super().synthesize(latents, labels, **options)


@defects("global-state", "__init__", "NumPy's global random state")
class SeedsNumpy(Toy):
    def __init__(self, config):
        super().__init__(config)
        np.random.seed(0)


@defects("determinism", "__init__", "two parts of the same options")
class RandomWeights(Toy):
    def __init__(self, config):
        super().__init__(config)
        self.grain = torch.randn_like(self.grain)


@defects("latents", "latents", "a row depends on other rows")
class OneGenerator(Toy):
    def latents(self, seeds):
        return torch.randn(len(seeds), 10, generator=torch.Generator().manual_seed(int(seeds[0]) % 1000))


@defects("inputs-unchanged", "synthesize", "wrote into its latents")
class Truncates(Toy):
    def synthesize(self, latents, labels=None, **options):
        with torch.no_grad():
            latents.mul_(0.7)
        return super().synthesize(latents, labels, **options)


@defects("masks", "sample", "must sum to 1")
class LooseProbs(Toy):
    def synthesize(self, latents, labels=None, **options):
        batch = super().synthesize(latents, labels, **options)
        return replace(batch, probs=batch.probs * 0.9)


@defects("latent-gradients", "synthesize", "no gradient flows back")
class Detached(Toy):
    def synthesize(self, latents, labels=None, **options):
        return super().synthesize(latents.detach(), labels, **options)


@defects("features", "sample", r"features\['half'\] must be float32")
class FewerChannels(Toy):
    def synthesize(self, latents, labels=None, **options):
        batch = super().synthesize(latents, labels, **options)
        return replace(batch, features={k: v[:, :8] if k == "half" else v for k, v in batch.features.items()})


@defects("unknown-names", "synthesize", "an unknown feature must raise ContractError, got KeyError")
class ForeignError(Toy):
    def synthesize(self, latents, labels=None, *, features=(), edits=None):
        _ = [{"full": 1, "half": 1, "quarter": 1}[name] for name in features]
        return super().synthesize(latents, labels, features=features, edits=edits)


@defects("edits", "synthesize", "'object' stays in the next call")
class EditStays(Toy):
    def synthesize(self, latents, labels=None, *, features=(), edits=None):
        for name, edit in (edits or {}).items():
            getattr(self, name).register_forward_hook(lambda module, args, output, edit=edit: edit(output))
        return super().synthesize(latents, labels, features=features)


@defects("info", "info", "capability 'masks' is True, but info has none")
class NoMaskClasses(Toy):
    def __init__(self, config):
        super().__init__(config)
        self.info = replace(self.info, mask_classes=())


@defects("truth", "truth", "holds the classes")
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


@defects("save-and-load", "restore", "other images after save and load")
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


@defects("training", "fit", "two trainings with the same seed differ")
class UnseededTraining(Trained):
    def fit(self, images, ctx, *, segmenter=None):
        super().fit(images, ctx)
        with torch.no_grad():
            self.tint += int.from_bytes(os.urandom(2)) / 2**16


@defects("training-resumes", "fit", "a stopped and resumed training ends differently")
class ForgetsOptimiser(Trained):
    def state(self, optimiser):
        return {"net": self}


@pytest.mark.parametrize("defect", defects.found, ids=str)
def test_a_defect_is_caught_and_named(defect) -> None:
    defects.verify(defect)


def test_every_check_catches_something() -> None:
    assert defects.unproven(lambda: Toy(ToyConfig(size=20))) == []


def test_good_ones_pass_every_check() -> None:
    results = check_generator(lambda: Toy(ToyConfig(size=20)), provides=TOY)
    assert {result.check for result in results if result.status != "passed"} == {"record", "light-import"}
    results = check_generator(lambda: Trained(ToyConfig(size=20)), provides=(*TOY, "trainable"))
    assert "training-resumes" in {result.check for result in results if result.status == "passed"}
