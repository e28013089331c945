"""Checks of segmenters: trained for three steps on pairs of 33 x 47, used on photographs of any size."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from gsegkit.dataset import LabelledDataset, MemoryDataset
from gsegkit.errors import CapabilityError
from gsegkit.interfaces import PhotographSegmenter, Segmenter
from gsegkit.records.parts import FIT_RULES, check_restored
from gsegkit.testing import fixtures
from gsegkit.testing.generators import check_probs
from gsegkit.testing.subject import CheckSkippedError, Subject
from gsegkit.testing.trained import expect_same_state, stored_and_loaded
from gsegkit.types import IGNORE, check_tensor

LEARNS_FROM = ("pairs", "labels", "photographs", "nothing")


def _fit(
    subject: Subject,
    dataset: LabelledDataset,
    *,
    val: LabelledDataset | None = None,
    stop: bool = False,
) -> Segmenter:
    """Fit in a new folder; see `Subject.fit`. One that learns from photographs gets them without their masks."""
    with fixtures.context() as ctx:
        part: Segmenter = subject.make()
        if isinstance(part, PhotographSegmenter):
            photographs = fixtures.photographs(ctx.folder / "photographs", fixtures.HEIGHT, fixtures.WIDTH)
            fitted: Segmenter = subject.fit(part, photographs, ctx, stop=stop, method="fit_photographs")
        else:
            fitted = subject.fit(part, dataset, ctx, stop=stop, val=val)
    return fitted.eval()


@functools.lru_cache(maxsize=1)
def _fitted(subject: Subject) -> Segmenter:
    return _fit(subject, fixtures.pairs())


def _exportable(subject: Subject) -> Segmenter:
    part = _fitted(subject)
    if not part.exportable:
        images = _photographs(fixtures.HEIGHT, fixtures.WIDTH).float() / 127.5 - 1
        subject.refuses("logits", (CapabilityError,), "what is not exportable", lambda: part.logits(images))
        raise CheckSkippedError("it answers by probs() alone")
    return part


def _photographs(height: int, width: int, count: int = 2) -> Tensor:
    random = torch.Generator().manual_seed(height * 1000 + width)
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=random)


def check_facts_after_fit(subject: Subject) -> None:
    """fit() sets the classes, the training size and the fit rule; those of its data set when it learns from pairs."""
    part, dataset = _fitted(subject), fixtures.pairs()
    classes, size, rule = (getattr(part, name, None) for name in ("classes", "train_size", "fit_rule"))
    subject.expect(part.learns_from in LEARNS_FROM, "learns_from", f"{part.learns_from!r} is none of {LEARNS_FROM}")
    without = isinstance(part, PhotographSegmenter)
    said = part.learns_from in ("photographs", "nothing")
    subject.expect(said == without, "learns_from", f"{part.learns_from!r}, but PhotographSegmenter is {without}")
    if part.learns_from != "pairs":
        subject.call("fit", check_restored, part)
        subject.expect(classes and size, "fit", f"classes are {classes!r}, train_size is {size!r}")
        same = without or classes in (dataset.classes, ("background", "foreground"))
        subject.expect(same, "fit", f"classes are {classes!r}, the data set's {dataset.classes!r}")
        return
    subject.expect(classes == dataset.classes, "fit", f"classes are {classes!r}, the data set's {dataset.classes!r}")
    expected = (fixtures.HEIGHT, fixtures.WIDTH)
    subject.expect(size == expected, "fit", f"train_size is {size!r}, the data set's images are {expected}")
    subject.expect(rule in FIT_RULES, "fit", f"fit_rule {rule!r} is none of {FIT_RULES}")
    subject.expect(rule == dataset.fit_rule, "fit", f"fit_rule is {rule!r}, the data set's {dataset.fit_rule!r}")


def check_logits_of_any_size(subject: Subject) -> None:
    """logits() takes images of any size, pads inside, and gives finite numbers of that size."""
    part = _exportable(subject)
    for height, width in fixtures.SIZES:
        images = _photographs(height, width).float() / 127.5 - 1
        with torch.no_grad():
            logits = subject.call("logits", part.logits, images)
        shape = (2, len(part.classes), height, width)
        subject.call("logits", check_tensor, logits, "logits", torch.float32, shape)
        subject.expect(torch.isfinite(logits).all(), "logits", f"NaN or infinity for images of {height} x {width}")


def check_logits_are_differentiable(subject: Subject) -> None:
    """Gradients flow from the logits to the images, for methods that train a generator against a segmenter."""
    part = _exportable(subject)
    if part.learns_from != "pairs":
        raise CheckSkippedError("no generator is trained against it")
    images = (_photographs(fixtures.HEIGHT, fixtures.WIDTH).float() / 127.5 - 1).requires_grad_()
    logits = subject.call("logits", part.logits, images)
    subject.expect(logits.requires_grad, "logits", "no gradient flows back to the images")
    # a difference of probabilities: a softmax over all classes summed up would have the gradient zero
    (gradient,) = torch.autograd.grad(logits.softmax(dim=1)[:, 0].square().sum(), images)
    subject.expect(torch.isfinite(gradient).all(), "logits", "gradients of the images hold NaN or infinity")
    subject.expect(gradient.abs().max() > 0, "logits", "gradients of the images are all zero")


def check_predictions(subject: Subject) -> None:
    """probs() and predict() give masks of the photographs' own size, whatever it is, and do not change mode."""
    part = _fitted(subject)
    for height, width in fixtures.SIZES:
        pixels = _photographs(height, width, 1)
        probs = subject.call("probs", part.probs, pixels)
        subject.call("probs", check_tensor, probs, "probs", torch.float32, (1, len(part.classes), height, width))
        check_probs(subject, "probs", probs)
        masks = subject.call("predict", part.predict, pixels)
        subject.call("predict", check_tensor, masks, "masks", torch.uint8, (1, height, width))
        subject.expect(int(masks.max()) < len(part.classes), "predict", f"class {int(masks.max())} does not exist")
    subject.expect(not part.training, "predict", "left the network in training mode")


def check_rows_are_independent(subject: Subject) -> None:
    """A photograph's prediction does not depend on the batch, up to rounding."""
    part = _fitted(subject)
    pixels = _photographs(fixtures.HEIGHT, fixtures.WIDTH, fixtures.NUM)
    whole = subject.call("probs", part.probs, pixels)
    alone = subject.call("probs", part.probs, pixels[3:4])
    subject.expect(fixtures.close(whole[3:4], alone), "probs", "the prediction of a photograph depends on its batch")


def check_save_and_load(subject: Subject) -> None:
    """A segmenter that was stored and loaded predicts the same."""
    part = _fitted(subject)
    pixels = _photographs(50, 81)
    other = stored_and_loaded(subject, part, ("classes", "train_size", "fit_rule"))
    same = torch.equal(subject.call("probs", part.probs, pixels), subject.call("probs", other.probs, pixels))
    subject.expect(same, "restore", "predicts something else after save and load")


def check_same_seed(subject: Subject) -> None:
    """Two trainings with the same seed end with the same numbers."""
    again = _fit(subject, fixtures.pairs())
    expect_same_state(subject, _fitted(subject), again, "two trainings with the same seed differ")


def check_resume(subject: Subject) -> None:
    """A training that was stopped and run again ends as the uninterrupted one."""
    resumed = _fit(subject, fixtures.pairs(), stop=True)
    expect_same_state(subject, _fitted(subject), resumed, "a stopped and resumed training differs")


def check_ignored_pixels(subject: Subject) -> None:
    """Masks of nothing but 255 train to finite numbers, and what lies under 255 has no influence."""
    if subject.make().learns_from != "pairs":
        raise CheckSkippedError("it does not learn from pairs")
    dataset = fixtures.pairs()
    ignored = MemoryDataset(dataset.pixels, torch.full_like(dataset.masks, IGNORE), dataset.classes)
    state = fixtures.state_of(_fit(subject, ignored))
    for name, value in state.items():
        finite = not value.is_floating_point() or bool(torch.isfinite(value).all())
        subject.expect(finite, "fit", f"{name} is not finite after training on masks of nothing but 255")


def check_data_unchanged(subject: Subject) -> None:
    """fit() with a validation set of its own works, and writes into neither data set."""
    dataset, val = fixtures.pairs(), fixtures.pairs(5)
    _fit(subject, dataset, val=val)
    for data, fresh in ((dataset, fixtures.pairs()), (val, fixtures.pairs(5))):
        same = torch.equal(data.pixels, fresh.pixels) and torch.equal(data.masks, fresh.masks)
        subject.expect(same, "fit", "wrote into the images or masks it was given")


def check_global_state(subject: Subject) -> None:
    """Construction, fit and prediction leave the global random states and torch's settings alone."""
    with subject.untouched_globals("__init__"):
        subject.make()
    with subject.untouched_globals("fit"):
        part = _fit(subject, fixtures.pairs())
    with subject.untouched_globals("probs"):
        subject.call("probs", part.probs, _photographs(17, 19))


SEGMENTER_CHECKS = (
    check_facts_after_fit,
    check_logits_of_any_size,
    check_logits_are_differentiable,
    check_predictions,
    check_rows_are_independent,
    check_save_and_load,
    check_same_seed,
    check_resume,
    check_ignored_pixels,
    check_data_unchanged,
    check_global_state,
)
