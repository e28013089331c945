"""Checks of generators."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gsegkit.errors import CapabilityError, ContractError
from gsegkit.interfaces import Generator, TrainableGenerator
from gsegkit.parts import load_part, save_part
from gsegkit.testing import fixtures
from gsegkit.testing.loading import WEIGHTS_OPTION_CHECKS
from gsegkit.testing.subject import Subject
from gsegkit.types import GeneratedBatch, check_tensor

NOMINAL = 3.0  # images are nominally in [-1, 1] and not clamped; beyond this mean they are something else


def _sample(subject: Subject, part: Generator, seeds: Tensor, **options: tuple[str, ...]) -> GeneratedBatch:
    batch: GeneratedBatch = subject.call("sample", part.sample, seeds, **options)
    return batch


def _inputs(subject: Subject, part: Generator, count: int = fixtures.NUM) -> tuple[Tensor, Tensor | None]:
    seeds = fixtures.seeds(count)
    return subject.call("latents", part.latents, seeds), subject.call("labels", part.labels, seeds)


def _images(subject: Subject, part: Generator, **options: object) -> Tensor:
    latents, labels = _inputs(subject, part)
    with torch.no_grad():
        images: Tensor = subject.call("synthesize", part.synthesize, latents, labels, **options).images
    return images


def check_info(subject: Subject) -> None:
    """`info` is whole, and says the same as the declared capabilities."""
    info = subject.make().info
    subject.expect(info.height > 0 and info.width > 0, "info", f"the image size is {info.height} x {info.width}")
    subject.expect(info.latent_shape and min(info.latent_shape) > 0, "info", f"latent_shape is {info.latent_shape}")
    for what, names in (
        ("features", [spec.name for spec in info.features]),
        ("edit_points", list(info.edit_points)),
        ("mask_classes", list(info.mask_classes)),
    ):
        subject.expect(len(set(names)) == len(names), "info", f"{what} has a name twice: {names}")
    subject.expect(len(info.mask_classes) != 1, "info", "one mask class alone is no segmentation")
    for capability, there in (
        ("features", info.features),
        ("feature-edit", info.edit_points),
        ("masks", info.mask_classes),
        ("classes", info.num_classes),
    ):
        declared = capability in subject.provides
        subject.expect(
            bool(there) == declared, "info", f"capability '{capability}' is {declared}, but info has {there or 'none'}"
        )


def check_latents(subject: Subject) -> None:
    """Latents and labels: right shape and dtype, and row i is a function of seed i alone."""
    part = subject.make()
    seeds = fixtures.seeds()
    order = torch.tensor([4, 0, 6, 2])
    for method in ("latents", "labels"):
        value = subject.call(method, getattr(part, method), seeds)
        if method == "labels" and part.info.num_classes == 0:
            subject.expect(value is None, method, "must be None: info.num_classes is 0")
            continue
        dtype, shape = (torch.float32, part.info.latent_shape) if method == "latents" else (torch.int64, ())
        subject.call(method, check_tensor, value, method, dtype, (fixtures.NUM, *shape))
        again = subject.call(method, getattr(part, method), seeds[order])
        subject.expect(torch.equal(value[order], again), method, "a row depends on other rows or on the call before")
        if method == "latents":
            subject.expect(not torch.equal(value[0], value[1]), method, "two seeds gave the same latent")
        else:
            inside = bool((value >= 0).all() and (value < part.info.num_classes).all())
            subject.expect(inside, method, f"values {value.tolist()} are not in 0 .. {part.info.num_classes - 1}")


def check_images(subject: Subject) -> None:
    """Seven images of the promised size, finite, near the nominal range, and not all the same."""
    part = subject.make()
    batch = _sample(subject, part, fixtures.seeds())
    subject.expect(isinstance(batch, GeneratedBatch), "sample", f"returned {type(batch).__name__}")
    shape = (fixtures.NUM, 3, part.info.height, part.info.width)
    subject.call("sample", check_tensor, batch.images, "images", torch.float32, shape)
    subject.expect(torch.isfinite(batch.images).all(), "sample", "images hold NaN or infinity")
    size = float(batch.images.abs().mean())
    subject.expect(size <= NOMINAL, "sample", f"images are nominally in [-1, 1], but their mean size is {size:.1f}")
    subject.expect(not torch.equal(batch.images[0], batch.images[1]), "sample", "two seeds gave the same image")
    subject.expect(not batch.images.requires_grad, "sample", "images carry gradients")
    kept = batch.seeds is not None and torch.equal(batch.seeds, fixtures.seeds())
    subject.expect(kept, "sample", "the batch does not carry its seeds")


def check_determinism(subject: Subject) -> None:
    """The same call gives the same bits, in one part and in a second one of the same options."""
    part = subject.make()
    images = _images(subject, part)
    again = _images(subject, part)
    subject.expect(torch.equal(images, again), "synthesize", "the same latents gave other images the second time")
    other = _images(subject, subject.make())
    subject.expect(torch.equal(images, other), "__init__", "two parts of the same options make different images")


def check_batch_independence(subject: Subject) -> None:
    """A sample does not depend on the batch it is made in, up to rounding."""
    part = subject.make()
    whole = _sample(subject, part, fixtures.seeds()).images
    for i in (0, 5):
        alone = _sample(subject, part, fixtures.seeds()[i : i + 1]).images
        subject.expect(
            fixtures.close(whole[i : i + 1], alone),
            "synthesize",
            f"image {i} of 7 differs from the same one made alone",
        )


def check_inputs_unchanged(subject: Subject) -> None:
    """Seeds, latents and labels are read, not written."""
    part = subject.make()
    seeds = fixtures.seeds()
    _sample(subject, part, seeds)
    subject.expect(torch.equal(seeds, fixtures.seeds()), "sample", "wrote into its seeds")
    latents, labels = _inputs(subject, part)
    before = latents.clone()
    subject.call("synthesize", part.synthesize, latents, labels)
    subject.expect(torch.equal(latents, before), "synthesize", "wrote into its latents")


def check_unknown_names(subject: Subject) -> None:
    """Unknown names are refused by name."""
    part = subject.make()
    latents, labels = _inputs(subject, part, 1)
    subject.refuses(
        "synthesize",
        (ContractError,),
        "an unknown feature",
        lambda: part.synthesize(latents, labels, features=("no-such-feature",)),
    )
    subject.refuses(
        "synthesize",
        (CapabilityError,),
        "an unknown edit point",
        lambda: part.synthesize(latents, labels, edits={"no-such-point": torch.zeros_like}),
    )


def check_latent_gradients(subject: Subject) -> None:
    """latent-grad: finite gradients reach each latent from its own image, and from no other."""
    part = subject.make()
    latents, labels = _inputs(subject, part)
    latents = latents.requires_grad_()
    images = subject.call("synthesize", part.synthesize, latents, labels).images
    subject.expect(images.requires_grad, "synthesize", "no gradient flows back to the latents")
    (gradient,) = torch.autograd.grad(images[2].square().sum(), latents)
    subject.expect(torch.isfinite(gradient).all(), "synthesize", "gradients of the latents hold NaN or infinity")
    sizes = gradient.flatten(1).abs().sum(dim=1)
    subject.expect(sizes[2] > 0, "synthesize", "the gradient of a latent from its own image is zero")
    others = float(torch.cat([sizes[:2], sizes[3:]]).max())
    subject.expect(others <= 1e-4 * float(sizes[2]), "synthesize", "an image depends on the latent of another")


def check_features(subject: Subject) -> None:
    """features: every declared map is returned as declared, only when asked for, and changes no image."""
    part = subject.make()
    names = tuple(spec.name for spec in part.info.features)
    plain = _sample(subject, part, fixtures.seeds())
    subject.expect(not plain.features, "sample", f"returned features {list(plain.features)} that nobody asked for")
    full = _sample(subject, part, fixtures.seeds(), features=names)
    subject.expect(set(full.features) == set(names), "sample", f"asked for {names}, got {tuple(full.features)}")
    for spec in part.info.features:
        value = full.features[spec.name]
        shape = (fixtures.NUM, spec.channels, spec.height, spec.width)
        subject.call("sample", check_tensor, value, f"features['{spec.name}']", torch.float32, shape)
        subject.expect(torch.isfinite(value).all(), "sample", f"feature '{spec.name}' holds NaN or infinity")
    subject.expect(fixtures.close(plain.images, full.images), "sample", "asking for features changes the images")
    one = _sample(subject, part, fixtures.seeds(), features=names[-1:]).features
    subject.expect(tuple(one) == names[-1:], "sample", f"asked for {names[-1:]}, got {tuple(one)}")


def check_edits(subject: Subject) -> None:
    """feature-edit: an edit that changes nothing changes nothing; another does, at every point; none stays behind."""
    part = subject.make()
    plain = _images(subject, part)
    for point in part.info.edit_points:
        seen: list[Tensor] = []
        same = _images(subject, part, edits={point: _watch(seen)})
        subject.expect(seen, "synthesize", f"the edit of '{point}' was not called")
        subject.expect(fixtures.close(plain, same), "synthesize", f"an edit of '{point}' that changes nothing does")
        changed = _images(subject, part, edits={point: lambda value: value * 0 + 0.1})
        subject.expect(
            not torch.equal(plain, changed), "synthesize", f"replacing '{point}' leaves the images as they are"
        )
        after = _images(subject, part)
        subject.expect(torch.equal(plain, after), "synthesize", f"the edit of '{point}' stays in the next call")


def _watch(seen: list[Tensor]) -> Callable[[Tensor], Tensor]:
    def edit(value: Tensor) -> Tensor:
        seen.append(value)
        return value

    return edit


def check_masks(subject: Subject) -> None:
    """masks: probabilities of the declared classes that sum to 1."""
    part = subject.make()
    batch = _sample(subject, part, fixtures.seeds())
    shape = (fixtures.NUM, len(part.info.mask_classes), part.info.height, part.info.width)
    subject.call("sample", check_tensor, batch.probs, "probs", torch.float32, shape)
    assert batch.probs is not None
    check_probs(subject, "sample", batch.probs)


def check_probs(subject: Subject, method: str, probs: Tensor) -> None:
    """Probabilities lie in [0, 1] and sum to 1 over dimension 1."""
    subject.expect(torch.isfinite(probs).all(), method, "probs hold NaN or infinity")
    low, high = float(probs.min()), float(probs.max())
    subject.expect(low >= -1e-5 and high <= 1 + 1e-5, method, f"probs lie in {low:.3g} .. {high:.3g}, not in 0 .. 1")
    gap = float((probs.sum(dim=1) - 1).abs().max())
    subject.expect(gap <= 1e-4, method, f"probs must sum to 1 over the classes, they miss it by {gap:.3g}")


def check_truth(subject: Subject) -> None:
    """truth: exact masks, uint8 class indices; without the capability, a CapabilityError."""
    part = subject.make()
    batch = _sample(subject, part, fixtures.seeds())
    if "truth" not in subject.provides:
        subject.refuses("truth", (CapabilityError,), "a generator without truth", lambda: part.truth(batch))
        return
    masks = subject.call("truth", part.truth, batch)
    shape = (fixtures.NUM, part.info.height, part.info.width)
    subject.call("truth", check_tensor, masks, "truth", torch.uint8, shape)
    values = set(masks.unique().tolist()) - {255}
    subject.expect(values <= set(range(len(part.info.mask_classes))), "truth", f"holds the classes {sorted(values)}")


def check_save_and_load(subject: Subject) -> None:
    """A part that was stored and loaded makes the same images."""
    part = subject.make()
    images = _images(subject, part)
    with fixtures.context() as ctx:
        subject.call("state_dict", save_part, part, ctx.folder, "generator", subject.name)
        other = subject.make()
        subject.call("restore", load_part, other, ctx.folder)
    subject.expect(torch.equal(images, _images(subject, other)), "restore", "makes other images after save and load")


def check_global_state(subject: Subject) -> None:
    """Construction and sampling leave the global random states and torch's settings alone."""
    with subject.untouched_globals("__init__"):
        part = subject.make()
    with subject.untouched_globals("sample"):
        _sample(subject, part, fixtures.seeds())


# ---- trainable -----------------------------------------------------------------------------------------------------


def _fit(subject: Subject, seed: int = 7, stop_first: bool = False) -> Generator:
    with fixtures.context(seed) as ctx:
        first: TrainableGenerator = subject.make()
        images = fixtures.photographs(ctx.folder / "pictures", first.info.height, first.info.width)
        fitted: Generator = subject.fit(first, images, ctx.stage("generator"), stop=stop_first)
    return fitted


def check_training(subject: Subject) -> None:
    """trainable: fit() changes the images, the same seed gives the same result, globals stay alone."""
    before = _images(subject, subject.make())
    with subject.untouched_globals("fit"):
        part = _fit(subject)
    after = _images(subject, part)
    subject.expect(torch.isfinite(after).all(), "fit", "images hold NaN or infinity after training")
    subject.expect(not torch.equal(before, after), "fit", "training changed nothing")
    again = _images(subject, _fit(subject))
    subject.expect(torch.equal(after, again), "fit", "two trainings with the same seed differ")


def check_training_resumes(subject: Subject) -> None:
    """trainable: a training that was stopped and run again ends as the uninterrupted one."""
    whole, resumed = (_images(subject, _fit(subject, stop_first=stop)) for stop in (False, True))
    subject.expect(torch.equal(whole, resumed), "fit", "a stopped and resumed training ends differently")


GENERATOR_CHECKS = (
    (check_info, ""),
    (check_latents, ""),
    (check_images, ""),
    (check_determinism, ""),
    (check_batch_independence, ""),
    (check_inputs_unchanged, ""),
    (check_unknown_names, ""),
    (check_latent_gradients, "latent-grad"),
    (check_features, "features"),
    (check_edits, "feature-edit"),
    (check_masks, "masks"),
    (check_truth, ""),
    (check_save_and_load, ""),
    (check_global_state, ""),
    (check_training, "trainable"),
    (check_training_resumes, "trainable"),
    *((check, "weights") for check in WEIGHTS_OPTION_CHECKS),
)
