"""A trained segmenter as one file for other runtimes: ONNX or torch.export, checked against the original."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gsegkit.colours import display_palette
from gsegkit.errors import CapabilityError, ConfigError
from gsegkit.exports.fitting import PixelsToClasses
from gsegkit.exports.formats import PHOTO_DTYPES, model_path
from gsegkit.exports.traced import (
    RUNTIMES,
    ParityError,
    Runner,
    check_possible,
    earlier,
    quiet,
    refuse_other,
    store,
    write_checked,
)
from gsegkit.interfaces import Segmenter
from gsegkit.reading.scaling import in_words
from gsegkit.records.parts import MAX_SIDE
from gsegkit.records.text import shown
from gsegkit.tensors import state_hash

TOLERANCE = 0.02  # largest difference of a probability that counts as rounding (of a fitted photograph, to 8 bits)
CHANGED = 1e-3  # largest share of pixels whose class may differ
WIRES = (("pixels",), ("labels", "probs"))
AXES = {"batch": 0, "height": 2, "width": 3}
#: Axes left free, most first; a network that fixes its own size falls back to the next.
FREEDOMS: tuple[tuple[str, ...], ...] = (("batch", "height", "width"), ("batch",), ())


@dataclass(frozen=True)
class Parity:
    """One comparison of the exported network with the original on random pixels.

    Attributes:
        shape: of the pixels.
        max_abs_diff: largest difference of a probability, or of a picture's value.
        changed: share of pixels whose most probable class differs; of a picture's values, those that differ by more
            than rounding.
    """

    shape: tuple[int, ...]
    max_abs_diff: float
    changed: float


@dataclass(frozen=True)
class ModelExport:
    """What `export_model` or `export_painter` made.

    Attributes:
        path: the exported network; its card lies beside it as `path` + ".json".
        format: "onnx" or "torch".
        dynamic: axes of the input that may have any length.
        parity: comparisons with the original.
    """

    path: Path
    format: str
    dynamic: tuple[str, ...]
    parity: tuple[Parity, ...]

    @property
    def max_abs_diff(self) -> float:
        """The largest difference over all comparisons."""
        return max(parity.max_abs_diff for parity in self.parity)

    def __str__(self) -> str:
        free = f"any {', '.join(self.dynamic)}" if self.dynamic else "fixed size"
        return f"{self.path} ({free}; differs from the original by at most {self.max_abs_diff:.1e})"


def export_model(
    segmenter: Segmenter,
    out: str | Path,
    format: str = "onnx",
    *,
    size: tuple[int, int] | None = None,
    opset: int | None = None,
    dynamic: bool = True,
    dtype: str = "uint8",
    palette: Tensor | None = None,
    update: bool = False,
) -> ModelExport:
    """Export a trained segmenter and check that the file computes what the segmenter predicts.

    The file takes photographs `pixels` [N, 3, H, W] of `dtype`, of any size where the network allows it, and gives
    `labels` [N, H, W] uint8 and `probs` [N, K, H, W] float32 at that size: fit rule and normalisation are inside.
    Refiners are not, and neither are `predict_scales` and `predict_flip`. Classes, colours and the rest travel in the
    file, and in the card beside it.

    Args:
        segmenter: a fitted segmenter; it is not changed.
        out: file (`.onnx`, `.pt2`), or a folder that receives `segmenter.onnx` / `segmenter.pt2`.
        format: "onnx" or "torch".
        size: (height, width) of the photographs; None = the training size. Others work where `dynamic` lists them.
        opset: ONNX operator set; None = torch's default.
        dynamic: leave batch, height and width free where the network allows it.
        dtype: of the photographs: "uint8" (0 .. 255) or "float32" (0 .. 1).
        palette: [256, 3] uint8, colours of the classes; None = `display_palette()`.
        update: replace the export of another segmenter or dtype.

    Raises:
        CapabilityError: the segmenter is not a network.
        ConfigError: unknown format, a suffix of another format, an option that is none, or the file is there and not
            an export of ours, or one of another segmenter or dtype and `update` is false.
        MissingDependencyError: ONNX packages are missing.
        ContractError: the network cannot be traced, or the exported one computes something else.
    """
    path = model_path(Path(out), format)
    if not segmenter.exportable:
        raise CapabilityError(
            f"{type(segmenter).__name__} decides every photograph by itself: there is no network to export",
            "take its masks from gsegkit predict, or train a network on them with gsegkit train",
        )
    size = segmenter.train_size if size is None else size
    _check_options(size, dtype)
    check_possible(segmenter, format, opset)
    module = PixelsToClasses(copy.deepcopy(segmenter).cpu().eval()).eval()
    source = state_hash(module.segmenter)
    replaced = _check_replaceable(path, source, dtype, update)
    facts = facts_of(segmenter, display_palette() if palette is None else palette, dtype)
    attempt = partial(_export_checked, module, format=format, size=size, opset=opset, facts=facts)
    card = partial(_card, facts, path, format, size, source)
    freedoms = FREEDOMS if dynamic else FREEDOMS[-1:]
    free, parity = write_checked(path, type(segmenter).__name__, format, freedoms, attempt, card, replaced)
    return ModelExport(path, format, free, parity)


# ---- one attempt -------------------------------------------------------------------------------------------------


def _export_checked(
    module: PixelsToClasses,
    path: Path,
    free: Sequence[str],
    *,
    format: str,
    size: tuple[int, int],
    opset: int | None,
    facts: Mapping[str, Any],
) -> tuple[Parity, ...]:
    """Trace with the given axes free, store, load what was stored, and compare."""
    height, width = size
    # A size that no stride divides: then padding and cropping become part of the graph and serve every size.
    traced = (height + 7, width + 11) if "height" in free else size
    dtype = facts["input"]["dtype"]
    example = _given(_pixels((2 if "batch" in free else 1, 3, *traced)), dtype)
    dimensions = {AXES[name]: torch.export.Dim.AUTO for name in free}
    axes = ({AXES[name]: name for name in free},)
    with torch.no_grad(), quiet():
        program = torch.export.export(module, (example,), dynamic_shapes=(dimensions,), strict=False)
        runner = store(program, path, format, opset, WIRES, axes, facts)
        parity = tuple(_compare(module, runner, shape, dtype) for shape in _shapes(size, free))
    worst = max(one.max_abs_diff for one in parity)
    changed = max(one.changed for one in parity)
    if not (worst <= TOLERANCE and changed <= CHANGED):
        raise ParityError(f"its probabilities differ by {worst:.1e}, its classes on {changed:.2%} of the pixels")
    return parity


def _compare(module: PixelsToClasses, runner: Runner, shape: tuple[int, ...], dtype: str) -> Parity:
    pixels = _pixels(shape)
    expected = Segmenter.probs(module.segmenter, pixels)  # of the class: an own one may average over several views
    labels, got = runner(_given(pixels, dtype))
    if got.shape != expected.shape:
        raise ParityError(f"it returns {list(got.shape)} for pixels {list(shape)}, expected {list(expected.shape)}")
    changed = (labels != expected.argmax(dim=1)).float().mean()
    return Parity(shape, float((got - expected).abs().max()), round(float(changed), 6))


def _shapes(size: tuple[int, int], free: Sequence[str]) -> list[tuple[int, ...]]:
    """Shapes to compare on: three sizes, of which one is the given one, or as many as are free."""
    height, width = size
    if "height" in free:
        return [(1, 3, height, width), (2, 3, 3 * height, width + width // 2), (1, 3, height + 13, 2 * width + 6)]
    if "batch" in free:
        return [(batch, 3, height, width) for batch in (1, 2, 3)]
    return [(1, 3, height, width)]


def _pixels(shape: tuple[int, ...]) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def _given(pixels: Tensor, dtype: str) -> Tensor:
    """uint8 photographs as the file takes them."""
    return pixels if dtype == "uint8" else pixels.float() * (PHOTO_DTYPES[dtype][1] / 255)


# ---- around it ---------------------------------------------------------------------------------------------------


def facts_of(segmenter: Segmenter, palette: Tensor, dtype: str = "uint8") -> dict[str, Any]:
    """What travels inside the file: all that a program needs to show what it gives."""
    colours = palette[: len(segmenter.classes)].tolist()
    return {
        "classes": list(segmenter.classes),
        "palette": ["#{:02x}{:02x}{:02x}".format(*colour) for colour in colours],
        "train_size": list(segmenter.train_size),
        "fit_rule": segmenter.fit_rule,
        "fit": _FIT[segmenter.fit_rule].format(height=segmenter.train_size[0], width=segmenter.train_size[1]),
        "scaling": segmenter.scaling,
        "scaling_note": "for images of more than 8 bits, before the file: " + in_words(segmenter.scaling),
        "input": {
            "name": "pixels",
            "layout": "NCHW",
            "colour": "RGB",
            "dtype": dtype,
            "range": list(PHOTO_DTYPES[dtype]),
        },
        "normalisation": _NORMALISATION[dtype],
        "refiners": "none: `gsegkit predict --no-refine` gives the same",
    }


def _card(
    facts: Mapping[str, Any],
    path: Path,
    format: str,
    size: tuple[int, int],
    source: str,
    free: Sequence[str],
    parity: Sequence[Parity],
    refusals: Sequence[str],
) -> dict[str, Any]:
    batch: Any = "batch" if "batch" in free else 1
    axes: list[Any] = ["height", "width"] if "height" in free else list(size)
    probs = [batch, len(facts["classes"]), *axes]
    return {
        "file": path.name,
        "format": format,
        **facts,
        "input": {**facts["input"], "shape": [batch, 3, *axes]},
        "outputs": [
            {"name": "labels", "dtype": "uint8", "shape": [batch, *axes], "meaning": "the class of every pixel"},
            {"name": "probs", "dtype": "float32", "shape": probs, "meaning": "the probability of every class"},
        ],
        "dynamic": list(free),
        "not_dynamic_because": list(refusals),
        "parity": [asdict(one) for one in parity],
        "parity_with": RUNTIMES[format],
        "versions": {"torch": torch.__version__},
        "segmenter": source,
    }


_NORMALISATION = {
    "uint8": "inside the file: pixels 0 .. 255 become -1 .. 1, then what the network expects",
    "float32": "inside the file: pixels 0 .. 1 are rounded to 8 bits and become -1 .. 1, then what the network expects",
}
_FIT = {
    "native": "photographs are segmented as they are",
    "squash": "photographs are resized to {height} x {width} (height x width), whatever their aspect, and back",
    "crop": "photographs are scaled until they cover {height} x {width} (height x width), and back",
    "pad": "photographs are scaled until they fit into {height} x {width} (height x width), with their edges repeated "
    "around, and back",
}


def _check_options(size: object, dtype: object) -> None:
    """ConfigError for options that are none; tracers answer them with pages of their own."""
    whole = isinstance(size, tuple | list) and len(size) == 2 and all(type(side) is int for side in size)
    if not whole or not all(1 <= side <= MAX_SIDE for side in size):  # type: ignore[attr-defined]
        raise ConfigError(f"size is (height, width) in 1 .. {MAX_SIDE} px, not {shown(size)}", "omit it, or give two")
    if not isinstance(dtype, str) or dtype not in PHOTO_DTYPES:
        raise ConfigError(
            f"dtype of photographs is {' or '.join(PHOTO_DTYPES)}, not {shown(dtype)}", "omit it for uint8"
        )


def _check_replaceable(path: Path, source: str, dtype: str, update: bool) -> str | None:
    """Hash of the file that is there, an earlier run of this export (with `update` any export of ours); None = no file.

    Raises:
        ConfigError: what is there was made by no export, or by another one and `update` is false.
    """
    found, card = earlier(path)
    taken = card.get("input")
    other = "another segmenter" if card.get("segmenter", source) != source else ""
    if isinstance(taken, dict) and taken.get("dtype", dtype) != dtype:
        other = other or "this segmenter for photographs of another dtype"
    refuse_other(path, other if found is not None else "", update)
    return found
