"""What flows between the parts. Flat, frozen dataclasses that check dtype, rank and batch size when made.

N batch, K mask classes, C channels, H W output size, h w a feature map's own size. float32 is the generator's side,
uint8 is the stored side: mixing them fails at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from gsegkit.errors import ContractError

IGNORE = 255  #: mask value of pixels that neither train nor score


def check_tensor(value: Any, name: str, dtype: torch.dtype, shape: tuple[int | None, ...], owner: str = "") -> None:
    """Check type, dtype and shape of a tensor; None in `shape` matches any size.

    Raises:
        ContractError: names the owner, the field, what was expected and what was got.
    """
    want = f"{str(dtype).removeprefix('torch.')}[{', '.join('*' if s is None else str(s) for s in shape)}]"
    if not isinstance(value, Tensor):
        raise ContractError(f"{owner}{name} must be a tensor {want}, got {type(value).__name__}")
    fits = len(value.shape) == len(shape) and all(w is None or w == g for w, g in zip(shape, value.shape, strict=True))
    if value.dtype != dtype or not fits:
        got = f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
        raise ContractError(f"{owner}{name} must be {want}, got {got}")


@dataclass(frozen=True)
class FeatureSpec:
    """A named inner activation: [N, channels, height, width] float32."""

    name: str
    channels: int
    height: int
    width: int


@dataclass(frozen=True)
class GeneratorInfo:
    """What is known of a generator without running it.

    Attributes:
        height, width: size of its images in pixels.
        latent_shape: shape of one latent in the edit space.
        num_classes: number of class labels, 0 when unconditional.
        features: maps that `synthesize(features=...)` can return, shallow to deep.
        edit_points: names that `synthesize(edits=...)` accepts.
        mask_classes: class names of `batch.probs`, () without the capability `masks`.
        licence: licence chain of weights and data, shown in reports.
        fit_rule: how its training photographs were fitted to its size ("squash", "crop", "pad"); segmenters do so too.
        mirrored: axes along which half of them were flipped ("x", "y", "xy"), "" where none or not known.
    """

    height: int
    width: int
    latent_shape: tuple[int, ...]
    num_classes: int = 0
    features: tuple[FeatureSpec, ...] = ()
    edit_points: tuple[str, ...] = ()
    mask_classes: tuple[str, ...] = ()
    licence: str = ""
    fit_rule: str = "squash"
    mirrored: str = ""

    def feature(self, name: str) -> FeatureSpec:
        """The spec called `name`; ContractError when there is none."""
        for spec in self.features:
            if spec.name == name:
                return spec
        names = ", ".join(spec.name for spec in self.features) or "none"
        raise ContractError(f"the generator has no feature '{name}'", f"it has: {names}")


@dataclass(frozen=True)
class GeneratedBatch:
    """Images with everything that was asked for beside them.

    Attributes:
        images: [N, 3, H, W] float32, RGB, nominally in [-1, 1], not clamped.
        latents: [N, *latent_shape] float32.
        labels: [N] int64, or None for an unconditional generator.
        seeds: [N] int64, or None when the latents did not come from seeds.
        features: name -> [N, C, h, w] float32, at native resolution.
        probs: [N, K, H, W] float32 with capability `masks` or `truth`, else None.
        layers: name -> [N, C, H, W] float32: background, foreground ... of layered generators.
    """

    images: Tensor
    latents: Tensor
    labels: Tensor | None = None
    seeds: Tensor | None = None
    features: Mapping[str, Tensor] = field(default_factory=dict)
    probs: Tensor | None = None
    layers: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_tensor(self.images, "images", torch.float32, (None, 3, None, None), "GeneratedBatch.")
        n, _, h, w = self.images.shape
        if self.latents.dtype != torch.float32 or self.latents.shape[0] != n:
            raise ContractError(
                f"GeneratedBatch.latents must be float32[{n}, ...], got {self.latents.dtype}{list(self.latents.shape)}"
            )
        if self.labels is not None:
            check_tensor(self.labels, "labels", torch.int64, (n,), "GeneratedBatch.")
        if self.seeds is not None:
            check_tensor(self.seeds, "seeds", torch.int64, (n,), "GeneratedBatch.")
        if self.probs is not None:
            check_tensor(self.probs, "probs", torch.float32, (n, None, h, w), "GeneratedBatch.")
        for name, value in self.features.items():
            shape = (n, None, None, None)
            check_tensor(value, f"features[{name!r}]", torch.float32, shape, "GeneratedBatch.")

    def __len__(self) -> int:
        return int(self.images.shape[0])


@dataclass(frozen=True)
class MaskBatch:
    """What an extractor says of a batch.

    Attributes:
        probs: [N, K, H, W] float32, sums to 1 over K; class 0 is the background when K = 2.
        scores: name -> [N] float32: numbers per sample for refiners (coverage, contrast ...).
        ignore: [N, H, W] bool: pixels that belong to no class and become 255 in the mask; None = none.

    Example:
        >>> MaskBatch(torch.tensor([[[[0.9, 0.2]], [[0.1, 0.8]]]])).probs.argmax(1).tolist()
        [[[0, 1]]]
    """

    probs: Tensor
    scores: Mapping[str, Tensor] = field(default_factory=dict)
    ignore: Tensor | None = None

    def __post_init__(self) -> None:
        check_tensor(self.probs, "probs", torch.float32, (None,) * 4, "MaskBatch.")
        if self.ignore is not None:
            n, _, h, w = self.probs.shape
            check_tensor(self.ignore, "ignore", torch.bool, (n, h, w), "MaskBatch.")
        _check_scores(self.scores, self.probs.shape[0], "MaskBatch.")


@dataclass(frozen=True)
class LabelledBatch:
    """Stored-side (image, mask) pairs on their way through the refiners.

    Attributes:
        seeds: [N] int64, the samples' identities.
        pixels: [N, 3, H, W] uint8, RGB.
        masks: [N, H, W] uint8, class indices, 255 = ignore.
        probs: [N, K, H, W] float32, the extractor's probabilities, aligned with the rows.
        scores: name -> [N] float32.
    """

    seeds: Tensor
    pixels: Tensor
    masks: Tensor
    probs: Tensor
    scores: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_tensor(self.pixels, "pixels", torch.uint8, (None, 3, None, None), "LabelledBatch.")
        n, _, h, w = self.pixels.shape
        check_tensor(self.seeds, "seeds", torch.int64, (n,), "LabelledBatch.")
        check_tensor(self.masks, "masks", torch.uint8, (n, h, w), "LabelledBatch.")
        check_tensor(self.probs, "probs", torch.float32, (n, None, h, w), "LabelledBatch.")
        _check_scores(self.scores, n, "LabelledBatch.")

    def __len__(self) -> int:
        return int(self.pixels.shape[0])

    @property
    def num_classes(self) -> int:
        """K, the number of mask classes."""
        return int(self.probs.shape[1])

    def keep(self, rows: Tensor) -> LabelledBatch:
        """Only the rows where the [N] bool tensor `rows` is true."""
        check_tensor(rows, "rows", torch.bool, (len(self),), "LabelledBatch.keep ")
        return LabelledBatch(
            seeds=self.seeds[rows],
            pixels=self.pixels[rows],
            masks=self.masks[rows],
            probs=self.probs[rows],
            scores={name: value[rows] for name, value in self.scores.items()},
        )

    def decided(self) -> Tensor:
        """[N, K, H, W]: `probs`, with 1 for the mask's class wherever the mask is another class than their maximum."""
        edited = (self.masks != IGNORE) & (self.masks != self.probs.argmax(dim=1))
        if not bool(edited.any()):
            return self.probs
        classes = self.masks.long().masked_fill(self.masks == IGNORE, 0)
        one_hot = torch.zeros_like(self.probs).scatter_(1, classes.unsqueeze(1), 1.0)
        return torch.where(edited.unsqueeze(1), one_hot, self.probs)

    def with_masks(self, masks: Tensor) -> LabelledBatch:
        """The same rows with other masks ([N, H, W] uint8)."""
        return replace(self, masks=masks)

    def with_scores(self, **scores: Tensor) -> LabelledBatch:
        """The same rows with scores added or replaced ([N] float32 each)."""
        return replace(self, scores={**self.scores, **scores})


@dataclass(frozen=True)
class Report:
    """Result of an evaluation.

    Attributes:
        metrics: name -> number, JSON-ready; None where a metric is undefined on this data.
        per_class: class name -> metric name -> number.
        per_image: image name -> metric name -> number.
        definitions: metric name -> one sentence saying exactly what it is.
        notes: facts a reader needs beside the numbers (how clusters were matched, labels used ...).
    """

    metrics: Mapping[str, float | None]
    per_class: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    per_image: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    definitions: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary: the metrics at the top level, the rest under its own names."""
        return {
            **self.metrics,
            "per_class": {name: dict(row) for name, row in self.per_class.items()},
            "per_image": {name: dict(row) for name, row in self.per_image.items()},
            "definitions": dict(self.definitions),
            "notes": list(self.notes),
        }


def _check_scores(scores: Mapping[str, Tensor], n: int, owner: str) -> None:
    for name, value in scores.items():
        check_tensor(value, f"scores[{name!r}]", torch.float32, (n,), owner)
