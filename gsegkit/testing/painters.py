"""Checks of painters: trained for three steps on pairs of 33 x 47, then given masks that people could draw."""

from __future__ import annotations

import functools
import json

import torch
from torch import Tensor

from gsegkit.config import Config
from gsegkit.dataset import LabelledDataset, MemoryDataset
from gsegkit.errors import ContractError, DataError
from gsegkit.interfaces import Segmenter
from gsegkit.painting import Painter
from gsegkit.records.parts import check_restored
from gsegkit.seeds import isolated_rng, normals
from gsegkit.testing import fixtures
from gsegkit.testing.subject import Subject
from gsegkit.testing.trained import expect_same_state, stored_and_loaded
from gsegkit.types import IGNORE, check_tensor


class Eye(Segmenter):
    """A segmenter for painters to look through: two convolutions."""

    def __init__(self, classes: tuple[str, ...]) -> None:
        super().__init__(Config())
        self.classes, self.train_size = classes, (fixtures.HEIGHT, fixtures.WIDTH)
        with isolated_rng(3):
            first = torch.nn.Conv2d(3, 6, 3, stride=2, padding=1)
            self.net = torch.nn.Sequential(first, torch.nn.ReLU(), torch.nn.Conv2d(6, len(classes), 1))

    def fit(self, dataset: LabelledDataset, ctx: object, *, val: LabelledDataset | None = None) -> None:
        """Nothing to learn."""

    def logits(self, images: Tensor) -> Tensor:
        """[N, K, H, W]."""
        return torch.nn.functional.interpolate(self.net(images), images.shape[2:])


def _fit(subject: Subject, dataset: LabelledDataset, *, stop: bool = False, eye: Segmenter | None = None) -> Painter:
    with fixtures.context() as ctx:
        fitted: Painter = subject.fit(subject.make(), dataset, ctx, stop=stop, segmenter=eye)
    return fitted.eval()


@functools.lru_cache(maxsize=1)
def _fitted(subject: Subject) -> Painter:
    return _fit(subject, fixtures.pairs())


def _paint(subject: Subject, part: Painter, masks: Tensor, z: Tensor) -> Tensor:
    pictures: Tensor = subject.call("paint", part.paint, masks, z)
    subject.call("paint", check_tensor, pictures, "pictures", torch.float32, (len(masks), 3, *masks.shape[1:]))
    return pictures


def _masks(count: int) -> Tensor:
    return fixtures.pairs().masks[:count]


def check_facts_after_fit(subject: Subject) -> None:
    """fit() sets the classes and the size of its pairs, and the size of a latent."""
    part, dataset = _fitted(subject), fixtures.pairs()
    classes, size, numbers = (getattr(part, name, None) for name in ("classes", "train_size", "latent_dim"))
    subject.expect(classes == dataset.classes, "fit", f"classes are {classes!r}, the data set's {dataset.classes!r}")
    expected = (fixtures.HEIGHT, fixtures.WIDTH)
    subject.expect(size == expected, "fit", f"train_size is {size!r}, the data set's images are {expected}")
    subject.expect(isinstance(numbers, int) and numbers > 0, "fit", f"latent_dim is {numbers!r}")
    subject.call("fit", check_restored, part)


def check_latents_of_seeds(subject: Subject) -> None:
    """latents() gives float32 rows that depend on their own seed only."""
    part, seeds = _fitted(subject), fixtures.seeds()
    z = subject.call("latents", part.latents, seeds)
    subject.call("latents", check_tensor, z, "latents", torch.float32, (len(seeds), part.latent_dim))
    again = subject.call("latents", part.latents, seeds[2:4])
    subject.expect(torch.equal(z[2:4], again), "latents", "a row depends on the other seeds")
    subject.expect(not torch.equal(z[0], z[1]), "latents", "two seeds give the same latent")


def check_pictures(subject: Subject) -> None:
    """paint() gives finite pictures in [-1, 1] without gradients, also of masks of one class and of nothing but 255."""
    part = _fitted(subject)
    one = torch.zeros(2, fixtures.HEIGHT, fixtures.WIDTH, dtype=torch.uint8)
    masks = torch.cat([_masks(3), one, torch.full_like(one, len(part.classes) - 1), torch.full_like(one, IGNORE)])
    pictures = _paint(subject, part, masks, part.latents(fixtures.seeds(len(masks))))
    subject.expect(torch.isfinite(pictures).all(), "paint", "NaN or infinity in a picture")
    subject.expect(float(pictures.abs().max()) <= 1, "paint", f"{float(pictures.abs().max())} is outside of [-1, 1]")
    subject.expect(not pictures.requires_grad, "paint", "the pictures carry gradients")
    subject.expect(not part.training, "paint", "left the network in training mode")


def check_rows_are_independent(subject: Subject) -> None:
    """The same mask and latent give the same picture again, bit for bit, and in another batch up to rounding."""
    part, masks = _fitted(subject), _masks(5)
    z = part.latents(fixtures.seeds(5))
    whole = _paint(subject, part, masks, z)
    again = _paint(subject, part, masks, z)
    subject.expect(torch.equal(whole, again), "paint", "the same mask and latent give another picture")
    alone = _paint(subject, part, masks[3:4], z[3:4])
    subject.expect(fixtures.close(whole[3:4], alone), "paint", "a picture depends on the others in its batch")


def check_mask_and_latent_count(subject: Subject) -> None:
    """Another latent changes the picture; another class in a rectangle changes it most inside."""
    part, masks = _fitted(subject), torch.zeros(1, fixtures.HEIGHT, fixtures.WIDTH, dtype=torch.uint8)
    z = part.latents(fixtures.seeds(2))
    first = _paint(subject, part, masks, z[:1])
    subject.expect(not torch.equal(first, _paint(subject, part, masks, z[1:])), "paint", "the latent has no effect")
    other = masks.clone()
    other[:, 8:24, 16:32] = 1
    change = (_paint(subject, part, other, z[:1]) - first).abs().mean(dim=1)
    inside = other == 1
    subject.expect(change.max() > 0, "paint", "the mask has no effect")
    subject.expect(
        change[inside].mean() > change[~inside].mean(), "paint", "a change of the mask shows less inside than outside"
    )


def check_region_styles(subject: Subject) -> None:
    """With `region_styles`, a latent of a class changes that class most, and equal latents are as one."""
    part, masks = _fitted(subject), torch.zeros(1, fixtures.HEIGHT, fixtures.WIDTH, dtype=torch.uint8)
    masks[:, 8:24, 16:32] = 1
    own, other = part.latents(fixtures.seeds(2))
    each = own.repeat(1, 1 + len(part.classes), 1)
    if not part.region_styles:
        subject.refuses(
            "paint", (ContractError, DataError), "a latent for each class", functools.partial(part.paint, masks, each)
        )
        return
    first = _paint(subject, part, masks, each)
    same = fixtures.close(first, _paint(subject, part, masks, own[None]))
    subject.expect(same, "paint", "the same latent for every class paints another picture than the latent alone")
    each[:, 2] = other
    change = (_paint(subject, part, masks, each) - first).abs().mean(dim=1)
    inside = masks == 1
    subject.expect(change.max() > 0, "paint", "the latent of a class has no effect")
    subject.expect(
        change[inside].mean() > change[~inside].mean(), "paint", "the latent of a class shows more outside of it"
    )


def check_refused_masks(subject: Subject) -> None:
    """paint() refuses unknown classes, other sizes, other dtypes, and latents of another length."""
    part, masks = _fitted(subject), _masks(2)
    z = part.latents(fixtures.seeds(2))
    unknown = masks.clone()
    unknown[0, 5, 5] = len(part.classes)
    wrong = {
        "an unknown class": (unknown, z),
        "a mask of another size": (masks[:, :-1], z),
        "a mask of another dtype": (masks.long(), z),
        "latents of another length": (masks, z[:, :-1]),
        "fewer latents than masks": (masks, z[:1]),
    }
    for what, (given, latents) in wrong.items():
        subject.refuses("paint", (ContractError, DataError), what, functools.partial(part.paint, given, latents))


def check_save_and_load(subject: Subject) -> None:
    """A painter that was stored and loaded paints the same."""
    part, masks = _fitted(subject), _masks(2)
    other = stored_and_loaded(subject, part, ("classes", "train_size", "latent_dim"))
    z = part.latents(fixtures.seeds(2))
    same = torch.equal(_paint(subject, part, masks, z), _paint(subject, other, masks, z))
    subject.expect(same, "restore", "paints something else after save and load")


def check_same_seed(subject: Subject) -> None:
    """Two trainings with the same seed end with the same numbers."""
    again = _fit(subject, fixtures.pairs())
    expect_same_state(subject, _fitted(subject), again, "two trainings with the same seed differ")


def check_resume(subject: Subject) -> None:
    """A training that was stopped and run again ends as the uninterrupted one."""
    resumed = _fit(subject, fixtures.pairs(), stop=True)
    expect_same_state(subject, _fitted(subject), resumed, "a stopped and resumed training differs")


def check_unknown_pixels(subject: Subject) -> None:
    """Masks of nothing but 255 train to finite numbers."""
    dataset = fixtures.pairs()
    unknown = MemoryDataset(dataset.pixels, torch.full_like(dataset.masks, IGNORE), dataset.classes)
    for name, value in fixtures.state_of(_fit(subject, unknown)).items():
        finite = not value.is_floating_point() or bool(torch.isfinite(value).all())
        subject.expect(finite, "fit", f"{name} is not finite after training on masks of nothing but 255")


def check_given_unchanged(subject: Subject) -> None:
    """fit() with a segmenter works, and changes neither the segmenter nor the pairs."""
    dataset = fixtures.pairs()
    eye = Eye(dataset.classes)
    before = fixtures.state_of(eye)
    _fit(subject, dataset, eye=eye)
    fresh = fixtures.pairs()
    same = torch.equal(dataset.pixels, fresh.pixels) and torch.equal(dataset.masks, fresh.masks)
    subject.expect(same, "fit", "wrote into the images or masks it was given")
    changed = fixtures.first_difference(before, fixtures.state_of(eye))
    subject.expect(not changed, "fit", f"changed the segmenter it was given, in {changed}")
    free = eye.training and all(value.requires_grad and value.grad is None for value in eye.parameters())
    subject.expect(free, "fit", "left the segmenter it was given in another mode, frozen, or with gradients")


def check_global_state(subject: Subject) -> None:
    """Construction, fit and painting leave the global random states and torch's settings alone."""
    with subject.untouched_globals("__init__"):
        subject.make()
    with subject.untouched_globals("fit"):
        part = _fit(subject, fixtures.pairs())
    with subject.untouched_globals("paint"):
        _paint(subject, part, _masks(2), part.latents(fixtures.seeds(2)))


def check_in_page(subject: Subject) -> None:
    """What a page runs: a script with makeNetwork, finite float32 tensors, facts for JSON; its latents are ours."""
    part = _fitted(subject)
    network = subject.call("in_page", part.in_page)
    if network is None:
        return
    subject.expect("function makeNetwork(" in network.script, "in_page", "the script defines no makeNetwork")
    for name, value in network.tensors.items():
        good = value.dtype == torch.float32 and bool(torch.isfinite(value).all())
        subject.expect(good, "in_page", f"{name} is not finite float32")
    subject.call("in_page", functools.partial(json.dumps, dict(network.facts), allow_nan=False))
    seeds = fixtures.seeds(2)
    same = torch.equal(part.latents(seeds).cpu(), normals(seeds, (part.latent_dim,)))
    subject.expect(same, "latents", "draws other latents than Painter.latents, which the page draws")


PAINTER_CHECKS = (
    check_facts_after_fit,
    check_latents_of_seeds,
    check_pictures,
    check_rows_are_independent,
    check_mask_and_latent_count,
    check_region_styles,
    check_refused_masks,
    check_save_and_load,
    check_same_seed,
    check_resume,
    check_unknown_pixels,
    check_given_unchanged,
    check_global_state,
    check_in_page,
)
