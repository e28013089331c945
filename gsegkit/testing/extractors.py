"""Checks of extractors. Their partner is the toy generator, in 33 x 47."""

from __future__ import annotations

import functools
import json
import re

import torch
from torch import Tensor

from gsegkit.builtin.config import ToyConfig
from gsegkit.builtin.toy import Toy
from gsegkit.config import build_config
from gsegkit.dataset import UnlabelledImages
from gsegkit.errors import CapabilityError, ConfigError, ContractError
from gsegkit.interfaces import Generator, Level, MaskExtractor
from gsegkit.parts import load_part, save_part
from gsegkit.plugins import installed
from gsegkit.testing import fixtures
from gsegkit.testing.generators import check_probs
from gsegkit.testing.subject import CheckSkippedError, Subject
from gsegkit.types import GeneratedBatch, MaskBatch, check_tensor


def _partner(subject: Subject, num_classes: int = 3) -> Toy:
    lacking = set(subject.requires) - set(installed().find("generator", "toy@gsegkit").component.provides)
    if lacking:
        raise CheckSkippedError(f"the toy has no {', '.join(sorted(lacking))}")
    return fixtures.toy(num_classes)


def _fit(
    subject: Subject,
    part: MaskExtractor,
    generator: Generator,
    *,
    seed: int = 7,
    smoke: bool = True,
    stop: bool = False,
) -> MaskExtractor:
    """Fit in a new folder; see `Subject.fit`."""
    with fixtures.context(seed, smoke) as ctx:
        images: UnlabelledImages | None = None
        if "images" in subject.inputs:
            images = fixtures.photographs(ctx.folder / "pictures", generator.info.height, generator.info.width)
        fitted: MaskExtractor = subject.fit(part, generator, ctx.stage("extractor"), stop=stop, images=images)
    return fitted.eval()


@functools.lru_cache(maxsize=1)
def _fitted(subject: Subject) -> tuple[MaskExtractor, Toy]:
    generator = _partner(subject)
    return _fit(subject, subject.make(), generator), generator


def _batch(subject: Subject, part: MaskExtractor, generator: Generator, count: int = fixtures.NUM) -> GeneratedBatch:
    names = subject.call("features", part.features, generator.info)
    batch: GeneratedBatch = generator.sample(fixtures.seeds(count), features=tuple(names))
    return batch


def _extract(subject: Subject, part: MaskExtractor, batch: GeneratedBatch, generator: Generator) -> MaskBatch:
    found = subject.call("extract", part.extract, batch, generator)
    subject.expect(isinstance(found, MaskBatch), "extract", f"returned {type(found).__name__}, not MaskBatch")
    assert isinstance(found, MaskBatch)
    return found


def check_masks_of_odd_size(subject: Subject) -> None:
    """After fit(), extract() gives probabilities of every class for 7 images of 33 x 47, without gradients."""
    part, generator = _fitted(subject)
    classes = getattr(part, "classes", None)
    named = isinstance(classes, tuple) and len(classes) >= 2 and all(isinstance(name, str) for name in classes)
    subject.expect(named, "fit", f"classes must be a tuple of two or more names after fit(), is {classes!r}")
    assert classes is not None
    subject.expect(len(set(classes)) == len(classes), "fit", f"classes has a name twice: {classes}")
    found = _extract(subject, part, _batch(subject, part, generator), generator)
    shape = (fixtures.NUM, len(classes), fixtures.HEIGHT, fixtures.WIDTH)
    subject.call("extract", check_tensor, found.probs, "probs", torch.float32, shape)
    check_probs(subject, "extract", found.probs)
    subject.expect(not found.probs.requires_grad, "extract", "probs carry gradients")
    for name, value in found.scores.items():
        subject.expect(torch.isfinite(value).all(), "extract", f"score '{name}' holds NaN or infinity")


def check_features_by_shape(subject: Subject) -> None:
    """features() names maps that the generator has, always the same, without running it."""
    part, generator = _fitted(subject)
    names = subject.call("features", part.features, generator.info)
    subject.expect(isinstance(names, tuple), "features", f"returned {type(names).__name__}, not a tuple")
    known = [spec.name for spec in generator.info.features]
    unknown = [name for name in names if name not in known]
    subject.expect(not unknown, "features", f"wants {unknown}, but the generator has {known}")
    fresh = subject.make()
    subject.expect(
        subject.call("features", fresh.features, generator.info) == names, "features", "says something else after fit()"
    )


def check_unconditional_generator(subject: Subject) -> None:
    """It works with a generator that has no labels, unless it requires them."""
    if "classes" in subject.requires:
        raise CheckSkippedError("requires class labels")
    generator = _partner(subject, num_classes=0)
    part = _fit(subject, subject.make(), generator)
    _extract(subject, part, _batch(subject, part, generator), generator)


def check_rows_are_independent(subject: Subject) -> None:
    """The masks of a sample do not depend on the batch, up to rounding; and the same call gives the same bits."""
    part, generator = _fitted(subject)
    batch = _batch(subject, part, generator)
    whole = _extract(subject, part, batch, generator)
    again = _extract(subject, part, batch, generator)
    subject.expect(torch.equal(whole.probs, again.probs), "extract", "the same batch gave other masks the second time")
    for i in (0, 5):
        alone = _extract(subject, part, fixtures.rows(batch, slice(i, i + 1)), generator)
        same = fixtures.close(whole.probs[i : i + 1], alone.probs, largest=1.0)  # a hard mask may flip a pixel
        subject.expect(same, "extract", f"the mask of sample {i} of 7 differs from that of the same sample alone")
        for name, value in whole.scores.items():
            same = name in alone.scores and fixtures.close(value[i : i + 1], alone.scores[name], 1e-2)
            subject.expect(same, "extract", f"score '{name}' of sample {i} depends on the batch")


def check_batch_unchanged(subject: Subject) -> None:
    """extract() reads its batch and does not write into it."""
    part, generator = _fitted(subject)
    batch = _batch(subject, part, generator)
    before = fixtures.clones(fixtures.tensors_of(batch))
    _extract(subject, part, batch, generator)
    changed = fixtures.first_difference(before, fixtures.tensors_of(batch))
    subject.expect(not changed, "extract", f"wrote into batch.{changed}")


def check_generator_unchanged(subject: Subject) -> None:
    """fit() and extract() leave the generator as it was: weights, gradients flags, mode, hooks."""
    generator = _partner(subject)
    before = _facts_of(generator)
    part = _fit(subject, subject.make(), generator)
    _extract(subject, part, _batch(subject, part, generator), generator)
    for name, value in _facts_of(generator).items():
        subject.expect(value == before[name], "fit", f"changed the generator's {name}")


def _facts_of(generator: Generator) -> dict[str, object]:
    with torch.no_grad():
        images = generator.sample(fixtures.seeds(2)).images
    modules = list(generator.modules())
    return {
        "images": images.numpy().tobytes(),
        "training mode": [module.training for module in modules],
        "gradient flags": [parameter.requires_grad for parameter in generator.parameters()],
        "gradients": [parameter.grad is None for parameter in generator.parameters()],
        "hooks": [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in modules],
    }


def check_same_seed(subject: Subject) -> None:
    """Two fits with the same seed give the same masks."""
    one, generator = _fitted(subject)
    two = _fit(subject, subject.make(), generator)
    batch = _batch(subject, one, generator)
    same = torch.equal(_extract(subject, one, batch, generator).probs, _extract(subject, two, batch, generator).probs)
    subject.expect(same, "fit", "two fits with the same seed give different masks")


def check_resume(subject: Subject) -> None:
    """A fit that was stopped and run again ends as the uninterrupted one."""
    one, generator = _fitted(subject)
    two = _fit(subject, subject.make(), generator, stop=True)
    batch = _batch(subject, one, generator)
    same = torch.equal(_extract(subject, one, batch, generator).probs, _extract(subject, two, batch, generator).probs)
    subject.expect(same, "fit", "a stopped and resumed fit ends differently")


def check_save_and_load(subject: Subject) -> None:
    """An extractor that was stored and loaded has the same classes and gives the same masks."""
    part, generator = _fitted(subject)
    batch = _batch(subject, part, generator)
    expected = _extract(subject, part, batch, generator)
    with fixtures.context() as ctx:
        subject.call("facts", save_part, part, ctx.folder, "extractor", subject.name)
        other = subject.make()
        subject.call("restore", load_part, other, ctx.folder)
    other.eval()
    subject.expect(tuple(getattr(other, "classes", ())) == part.classes, "restore", "lost the classes' names")
    found = _extract(subject, other, batch, generator)
    subject.expect(torch.equal(expected.probs, found.probs), "restore", "gives other masks after save and load")


def check_levels(subject: Subject) -> None:
    """Every level in `levels` can be described and cut to; ids, shares and masks agree; other numbers are refused.

    A cut renames the classes to `cluster-ID` in class order and leaves the fingerprint alone. An extractor without
    levels refuses every cut.
    """
    part, generator = _fitted(subject)
    _check_level_numbers(subject, part.levels)
    other = max(part.levels, default=1) + 1
    subject.refuses("level", (ConfigError,), f"a level of {other} clusters", lambda: part.level(other))
    subject.refuses("cut", (ConfigError,), f"a cut into {other} clusters", lambda: part.cut(other))
    first = subject.call("fingerprint", part.fingerprint)
    subject.expect(re.fullmatch("[0-9a-f]{16}", first) is not None, "fingerprint", f"is not 16 hex digits: {first!r}")
    if not part.levels:
        return
    present, batch = len(part.classes), _batch(subject, part, generator)
    subject.expect(present in part.levels, "fit", f"leaves {present} classes, which is not among its levels")
    try:
        for k in {part.levels[0], present, part.levels[-1]}:
            subject.call("cut", part.cut, k)
            _check_level(subject, part, k)
            _check_cut_masks(subject, part, batch, generator)
            subject.expect(part.fingerprint() == first, "fingerprint", f"changed with the cut into {k}")
    finally:
        part.cut(present)


def _check_level_numbers(subject: Subject, levels: object) -> None:
    numbers = isinstance(levels, tuple) and all(isinstance(k, int) and k >= 2 for k in levels)
    subject.expect(numbers, "levels", f"must be a tuple of numbers of clusters, 2 or more, is {levels!r}")
    assert isinstance(levels, tuple)
    subject.expect(list(levels) == sorted(set(levels)), "levels", f"must rise, without repetition: {levels}")


def _check_level(subject: Subject, part: MaskExtractor, k: int) -> None:
    level = subject.call("level", part.level, k)
    subject.expect(isinstance(level, Level), "level", f"returned {type(level).__name__}, not Level")
    assert isinstance(level, Level)
    ids = isinstance(level.ids, tuple) and all(isinstance(i, int) and i >= 0 for i in level.ids)
    subject.expect(ids and len(set(level.ids)) == k, "level", f"needs {k} different ids, has {level.ids!r}")
    fair = len(level.shares) == k and abs(sum(level.shares) - 1) < 1e-3 and min(level.shares) >= 0
    subject.expect(fair, "level", f"needs {k} shares that add up to 1, has {level.shares!r}")
    subject.call("level", json.dumps, dict(level.facts))
    expected = tuple(f"cluster-{i}" for i in level.ids)
    subject.expect(part.classes == expected, "cut", f"leaves the classes {part.classes}, expected {expected}")


def _check_cut_masks(subject: Subject, part: MaskExtractor, batch: GeneratedBatch, generator: Generator) -> None:
    """Probabilities and masks are those of the present cut."""
    count, size = len(part.classes), (fixtures.HEIGHT, fixtures.WIDTH)
    probs = _extract(subject, part, batch, generator).probs
    subject.call("extract", check_tensor, probs, "probs", torch.float32, (fixtures.NUM, count, *size))
    masks = subject.call("masks", part.masks, batch, generator, size)
    subject.call("masks", check_tensor, masks, "masks", torch.int64, (fixtures.NUM, *size))
    same = float((masks == probs.argmax(dim=1)).float().mean())  # rounding may decide a tie
    subject.expect(
        same > 0.99, "masks", f"differs from the most probable class of extract() on {1 - same:.1%} of pixels"
    )


def check_levels_are_stored(subject: Subject) -> None:
    """Levels, fingerprint and the cut survive save and load."""
    part, _ = _fitted(subject)
    present = len(part.classes)
    other = subject.make()
    try:
        if part.levels:
            part.cut(part.levels[0])
        with fixtures.context() as ctx:
            save_part(part, ctx.folder, "extractor", subject.name)
            subject.call("restore", load_part, other, ctx.folder)
        subject.expect(other.levels == part.levels, "restore", f"has the levels {other.levels}, not {part.levels}")
        subject.expect(tuple(other.classes) == part.classes, "restore", "lost the cut")
        subject.expect(other.fingerprint() == part.fingerprint(), "restore", "changed the fingerprint")
    finally:
        if part.levels:
            part.cut(present)


def check_missing_need(subject: Subject) -> None:
    """With a generator that lacks what it requires, it raises CapabilityError or ContractError, nothing else."""
    _partner(subject)
    # that synthesize() is differentiable cannot be seen in `info`; preflight compares the records instead
    needs = [need for need in subject.requires if need in ("features", "feature-edit", "masks", "classes", "truth")]
    if not needs:
        raise CheckSkippedError("requires nothing that a generator could visibly lack")
    for need in needs:
        generator = fixtures.LimitedToy(need)

        def path(generator: Generator = generator) -> None:
            part = _fit(subject, subject.make(), generator)
            _extract(subject, part, _batch(subject, part, generator), generator)

        subject.refuses("fit", (CapabilityError, ContractError), f"a generator without '{need}'", path)


def check_global_state(subject: Subject) -> None:
    """Construction, fit and extract leave the global random states and torch's settings alone."""
    generator = _partner(subject)
    with subject.untouched_globals("__init__"):
        part = subject.make()
    with subject.untouched_globals("fit"):
        _fit(subject, part, generator)
    batch = _batch(subject, part, generator)
    with subject.untouched_globals("extract"):
        _extract(subject, part, batch, generator)


def check_finds_the_object(subject: Subject) -> None:
    """A full fit on the toy (64 x 64) finds the object: foreground IoU of 24 fresh samples above the floor.

    With two classes, class 0 is the background. With more, or with clusters, each class counts as foreground when most
    of its pixels are: an oracle names the clusters, as in the papers' protocol.
    """
    _partner(subject)
    settings = subject.settings
    generator = Toy(ToyConfig())
    config = build_config(subject.config_class, {**subject.defaults, **settings.quality_options}, subject.name)
    part = _fit(subject, subject.make(config), generator, smoke=False)
    batch = _batch(subject, part, generator, 24)
    classes = _extract(subject, part, batch, generator).probs.argmax(dim=1)
    truth = generator.truth(batch) > 0
    found = classes == 1 if len(part.classes) == 2 else _named(classes, truth, len(part.classes))
    iou = float(((found & truth).sum((1, 2)) / (found | truth).sum((1, 2)).clamp(min=1)).mean())
    floor = settings.iou_floor
    subject.expect(iou >= floor, "fit", f"foreground IoU on the toy is {iou:.3f}, below its floor of {floor}")


def _named(classes: Tensor, truth: Tensor, num_classes: int) -> Tensor:
    found = torch.zeros_like(truth)
    for index in range(num_classes):
        inside = classes == index
        if inside.any() and truth[inside].float().mean() > 0.5:
            found |= inside
    return found


EXTRACTOR_CHECKS = (
    check_masks_of_odd_size,
    check_features_by_shape,
    check_rows_are_independent,
    check_batch_unchanged,
    check_same_seed,
    check_resume,
    check_save_and_load,
    check_levels,
    check_levels_are_stored,
    check_generator_unchanged,
    check_unconditional_generator,
    check_missing_need,
    check_global_state,
    check_finds_the_object,
)
