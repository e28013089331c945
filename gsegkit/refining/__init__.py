"""Refiners on photographs: a segmenter's answer, cleaned or sharpened by the refiners that pairs go through too.

One owner for everybody who looks at photographs: `predict`, `evaluate`, a run's report, the matching of classes, and
`Segmenter.probs(photos, refine="colours")`. Imports no torch until a photograph comes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from gsegkit.config import Config
from gsegkit.errors import ConfigError, DataError
from gsegkit.plugins import Registry, installed
from gsegkit.records.text import shown

if TYPE_CHECKING:
    from torch import Tensor

    from gsegkit.types import LabelledBatch

#: What acts on photographs when nobody says otherwise, where it is installed: chosen on development sets.
AUTOMATIC = ("colours",)


@runtime_checkable
class Refines(Protocol):
    """What is asked of a refiner here; see `gsegkit.interfaces.Refiner`."""

    config: Config

    def refine(self, batch: LabelledBatch) -> LabelledBatch:
        """Clean a batch."""
        ...


class Segments(Protocol):
    """What is asked of a segmenter here; see `gsegkit.interfaces.Segmenter`."""

    classes: tuple[str, ...]

    def probs(self, pixels: Tensor) -> Tensor:
        """Class probabilities."""
        ...


#: Refiners in order, by name or made with options; one may stand alone.
Refine = str | Refines | Sequence[str | Refines]


class Predictor:
    """A segmenter's answer after refiners: a plain callable for evaluators that also knows the class names.

    Attributes:
        classes: names of the K classes.
        refined_by: name -> options of every refiner, in order; {} = the segmenter alone, in one pass.

    Example:
        >>> Predictor(segmenter, "colours").label(photos).masks  # doctest: +SKIP
    """

    def __init__(self, segmenter: Segments, refine: Refine = (), registry: Registry | None = None) -> None:
        """`registry`: where names are looked up; None = everything installed."""
        self.segmenter = segmenter
        self.classes = segmenter.classes
        self._refiners = made(refine, registry)
        self.refined_by = {name: refiner.config.model_dump(mode="json") for name, refiner in self._refiners}

    @property
    def one_view(self) -> bool:
        """Whether the answer is one pass of the network, enlarged; see `Segmenter.one_view`."""
        return not self._refiners and bool(getattr(self.segmenter, "one_view", False))

    def __call__(self, pixels: Tensor) -> Tensor:
        """Class probabilities: [N, 3, H, W] uint8 -> [N, K, H, W] float32; see `label`."""
        check_photographs(pixels)
        return self.label(pixels).decided() if self._refiners else self.segmenter.probs(pixels)

    def strips(self, pixels: Tensor) -> Iterator[Tensor]:
        """Class probabilities of one photograph from top to bottom, as many rows at once as memory holds.

        Args:
            pixels: [1, 3, H, W] uint8.

        Yields:
            [1, K, h, W] float32 on the CPU; all h together are H.
        """
        from gsegkit.refining.large import strips

        check_photographs(pixels)
        yield from (strip.probs[None] for strip in strips(self, pixels[0]))

    def label(self, pixels: Tensor) -> LabelledBatch:
        """Photographs with their masks (255 where a refiner says so) and probabilities, on the segmenter's device.

        Args:
            pixels: [N, 3, H, W] uint8.

        Raises:
            DataError: these are no photographs.
            ConfigError: a refiner drops a photograph.
        """
        import torch

        from gsegkit.types import LabelledBatch

        check_photographs(pixels)
        probs = self.segmenter.probs(pixels)
        masks = probs.argmax(dim=1).to(torch.uint8)
        batch = LabelledBatch(torch.arange(len(pixels), device=probs.device), pixels.to(probs.device), masks, probs)
        for name, refiner in self._refiners:
            batch = refiner.refine(batch)
            if len(batch) != len(pixels):
                raise ConfigError(
                    f"refiner '{name}' drops pictures, and a photograph must keep its mask",
                    "use it for generated pairs only, or change its limits with -o refine.NAME.OPTION=VALUE",
                )
        return batch


def check_photographs(pixels: object) -> None:
    """Refuse what is no batch of photographs: [N, 3, H, W] uint8.

    Raises:
        DataError: says what was got, and how to turn it into photographs.
    """
    import torch

    if not isinstance(pixels, torch.Tensor):
        remedy = "torch.from_numpy(array)" if type(pixels).__module__ == "numpy" else "gsegkit.images.read_image(path)"
        raise DataError(f"photographs are a tensor [N, 3, H, W] uint8, not {type(pixels).__name__}", f"use {remedy}")
    shape = list(pixels.shape)
    got = f"got {str(pixels.dtype).removeprefix('torch.')}{shape}"
    if pixels.ndim != 4 or shape[1] != 3 or 0 in shape[2:]:
        remedy = "photograph[None]" if pixels.ndim == 3 and shape[0] == 3 else "permute(0, 3, 1, 2) for [N, H, W, 3]"
        raise DataError(f"photographs have the shape [N, 3, H, W], {got}", f"use {remedy}")
    if pixels.dtype != torch.uint8:
        raise DataError(f"photographs are uint8 in 0 .. 255, {got}", "gsegkit.images.to_pixels turns -1 .. 1 into them")


def made(refine: Refine, registry: Registry | None = None) -> tuple[tuple[str, Refines], ...]:
    """The refiners with their names; those that are given by name are built with their defaults.

    Raises:
        UnknownPluginError: no refiner of that name is installed.
        ConfigError: one is named twice, or is no refiner at all.
    """
    registry = registry or installed()
    given = [refine] if isinstance(refine, str) or not isinstance(refine, Sequence) else list(refine)
    found: dict[str, Refines] = {}
    for one in given:
        if not isinstance(one, str | Refines):
            raise ConfigError(f"{shown(one)} is not a refiner", "give names, or refiners made with options")
        name = one if isinstance(one, str) else type(one).__name__.lower()
        if name in found:
            raise ConfigError(f"refiner '{name}' is given twice", "name each refiner once")
        found[name] = registry.build("refiner", one) if isinstance(one, str) else one
    return tuple(found.items())


def chosen(
    names: Sequence[str] | None, options: Mapping[str, Mapping[str, Any]], registry: Registry
) -> tuple[Refines, ...]:
    """Refiners by name with options, as the command line gives them.

    Args:
        names: in order; None = automatic.
        options: name -> its options.
        registry: where they are looked up.

    Raises:
        ConfigError: options of a refiner that was not chosen.
    """
    names = automatic(registry) if names is None else tuple(names)
    stray = [name for name in options if name not in names]
    if stray:
        raise ConfigError(f"'{stray[0]}' is not a chosen refiner", f"choose it with --refine {stray[0]}")
    return tuple(registry.build("refiner", name, options.get(name)) for name in names)


def automatic(registry: Registry | None = None) -> tuple[str, ...]:
    """Names of the refiners that act on photographs when nobody says otherwise."""
    there = (registry or installed()).available("refiner")
    return tuple(name for name in AUTOMATIC if name in there)


def in_words(refined_by: Mapping[str, Any]) -> str:
    """What refined a prediction, for people."""
    return f"refined by {', '.join(refined_by)}" if refined_by else "one pass of the segmenter, not refined"
