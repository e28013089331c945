"""The kit catches what is wrong with painters; what is right passes every check."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from kit_defects import Defects

from gsegkit.config import Config
from gsegkit.painting import PageNetwork, Painter, check_canvas
from gsegkit.seeds import child_seed, isolated_rng
from gsegkit.testing import check_painter

defects = Defects("painter")


class Tiny(Painter):
    """A good one: a colour for each class and latent."""

    region_styles = True

    def __init__(self, config) -> None:
        super().__init__(config)
        self.net: torch.nn.Module = torch.nn.Identity()

    def build(self, classes, size) -> None:
        self.classes, self.train_size, self.latent_dim = tuple(classes), tuple(size), 3
        self.net = torch.nn.Conv2d(len(classes) + 1 + self.latent_dim, 3, 1)

    def facts(self):
        return {"classes": list(self.classes), "size": list(self.train_size)}

    def restore(self, facts):
        with isolated_rng(0):
            self.build(facts["classes"], facts["size"])

    def state(self, optimiser):
        return {"net": self.net, "optimiser": optimiser}

    def loss(self, pictures, pixels, masks):
        return (pictures - (pixels.float() / 127.5 - 1)).abs().mean()

    def fit(self, dataset, ctx, *, segmenter=None):
        with isolated_rng(child_seed(ctx.seed, "weights")):
            self.build(dataset.classes, dataset[0].mask.shape)
        optimiser = torch.optim.Adam(self.parameters(), 0.01)
        for _ in (loop := ctx.steps(100, state=self.state(optimiser))):
            pixels, masks = dataset.batch(torch.randint(0, len(dataset), (4,)).tolist())
            loss = self.loss(self.pictures(masks, torch.randn(4, self.latent_dim)), pixels, masks)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            loop.log(loss=loss)

    def pictures(self, masks, z):
        channels = F.one_hot(masks.long().clamp(max=len(self.classes)), len(self.classes) + 1).permute(0, 3, 1, 2)
        each = z if z.ndim == 3 else z[:, None].expand(-1, channels.shape[1], -1)
        styles = torch.einsum("nkd,nkhw->ndhw", each.roll(-1, dims=1), channels.float())
        return self.net(torch.cat([channels.float(), styles], dim=1)).tanh()

    def paint(self, masks, z):
        check_canvas(self, masks, z)
        with torch.no_grad():
            return self.pictures(masks, z)


@defects("facts-after-fit", "fit", "train_size is None")
class NoTrainSize(Tiny):
    def fit(self, dataset, ctx, *, segmenter=None):
        super().fit(dataset, ctx)
        self.train_size = None


@defects("latents-of-seeds", "latents", "depends on the other seeds")
class CountedLatents(Tiny):
    def latents(self, seeds):
        return super().latents(torch.arange(len(seeds)))


@defects("pictures", "paint", r"is outside of \[-1, 1\]")
class TooBright(Tiny):
    def paint(self, masks, z):
        return super().paint(masks, z) * 2 + 3


@defects("rows-are-independent", "paint", "depends on the others in its batch")
class BatchStatistics(Tiny):
    def paint(self, masks, z):
        pictures = super().paint(masks, z)
        return (pictures - 5 * pictures.mean()).tanh()


@defects("mask-and-latent-count", "paint", "the latent has no effect")
class OneStyle(Tiny):
    def pictures(self, masks, z):
        return super().pictures(masks, z * 0)


@defects("region-styles", "paint", "the latent of a class has no effect")
class OneStyleForAll(Tiny):
    def pictures(self, masks, z):
        return super().pictures(masks, z[:, 0] if z.ndim == 3 else z)


@defects("refused-masks", "paint", "an unknown class must raise ContractError or DataError")
class TakesAnyClass(Tiny):
    def paint(self, masks, z):
        with torch.no_grad():
            return self.pictures(masks, z)


@defects("save-and-load", "restore", "paints something else")
class ForgetsColours(Tiny):
    shift = 0.0

    def fit(self, dataset, ctx, *, segmenter=None):
        super().fit(dataset, ctx)
        self.shift = 0.25

    def pictures(self, masks, z):
        return super().pictures(masks, z) * (1 - self.shift)


@defects("same-seed", "fit", "two trainings with the same seed")
class GlobalInit(Tiny):
    def fit(self, dataset, ctx, *, segmenter=None):
        super().fit(dataset, ctx)
        with torch.no_grad():
            self.net.bias += torch.rand(3)


@defects("resume", "fit", "a stopped and resumed training differs in net")
class NoOptimiserState(Tiny):
    def state(self, optimiser):
        return {"net": self.net}


@defects("unknown-pixels", "fit", "(is not finite|DivergedError)")
class DividesByNothing(Tiny):
    def loss(self, pictures, pixels, masks):
        known = (masks != 255)[:, None]
        return ((pictures - (pixels.float() / 127.5 - 1)).abs() * known).sum() / known.sum()


@defects("given-unchanged", "fit", "left the segmenter it was given in another mode")
class FreezesSegmenter(Tiny):
    def fit(self, dataset, ctx, *, segmenter=None):
        super().fit(dataset, ctx)
        if segmenter is not None:
            segmenter.eval().requires_grad_(False)


@defects("global-state", "fit", "torch's number of threads")
class ChangesThreads(Tiny):
    def fit(self, dataset, ctx, *, segmenter=None):
        super().fit(dataset, ctx)
        torch.set_num_threads(torch.get_num_threads() + 1)


@defects("in-page", "in_page", "net.weight is not finite float32")
class HalfInPage(Tiny):
    def in_page(self):
        weight = self.net.weight.detach().half()
        return PageNetwork("function makeNetwork(tensors, facts) {}", {"net.weight": weight}, {})


@pytest.mark.parametrize("defect", defects.found, ids=str)
def test_a_defect_is_caught_and_named(defect) -> None:
    defects.verify(defect)


def test_every_check_catches_something() -> None:
    assert defects.unproven(lambda: Tiny(Config())) == []


def test_a_good_one_passes_every_check() -> None:
    results = check_painter(lambda: Tiny(Config()))
    assert sum(result.status == "passed" for result in results) >= 12
