"""A trained segmenter as one file for other runtimes: ONNX or torch.export, checked against the original."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gsegkit.colours import display_palette
from gsegkit.errors import CapabilityError, ConfigError, ContractError, GsegkitError, MissingDependencyError
from gsegkit.exports.fitting import PixelsToClasses
from gsegkit.exports.formats import PHOTO_DTYPES, model_path
from gsegkit.exports.places import refuse_stage
from gsegkit.interfaces import Segmenter
from gsegkit.reading.scaling import in_words
from gsegkit.records.parts import MAX_SIDE
from gsegkit.records.text import shown
from gsegkit.storage import (
    atomic_write,
    atomic_write_json,
    file_hash,
    read_json,
    storage_errors,
    temporary_beside,
)
from gsegkit.tensors import state_hash

TOLERANCE = 0.02  # largest difference of a probability that counts as rounding (of a fitted photograph, to 8 bits)
CHANGED = 1e-3  # largest share of pixels whose class may differ
OPSETS = range(18, 26)  # asked for an older one, torch writes 18
ONNX_LIMIT = 2 * 10**9  # bytes of weights that fit into one ONNX file
AXES = {"batch": 0, "height": 2, "width": 3}
#: Axes left free, most first; a network that fixes its own size falls back to the next.
FREEDOMS: tuple[tuple[str, ...], ...] = (("batch", "height", "width"), ("batch",), ())

REMEDY = "choose another name with --out"
METADATA_FILE = "gsegkit.json"  # in a .pt2 file: what ONNX keeps as metadata

Runner = Callable[[Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Parity:
    """One comparison of the exported network with the original on random pixels.

    Attributes:
        shape: of the pixels.
        max_abs_diff: largest difference of a probability.
        changed: share of pixels whose most probable class differs.
    """

    shape: tuple[int, ...]
    max_abs_diff: float
    changed: float


@dataclass(frozen=True)
class ModelExport:
    """What export_model made.

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
    _check_options(size, opset, dtype)
    if format == "onnx":
        _need_onnx()
        _check_weight_size(segmenter)
    module = PixelsToClasses(copy.deepcopy(segmenter).cpu().eval()).eval()
    source = state_hash(module.segmenter)
    replaced = _check_replaceable(path, source, dtype, update)
    facts = facts_of(segmenter, display_palette() if palette is None else palette, dtype)
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path, path.suffix)
    refusals: list[str] = []
    try:
        for free in FREEDOMS if dynamic else FREEDOMS[-1:]:
            try:
                parity = _export_checked(module, temporary, format, size, free, opset, facts)
            except GsegkitError:
                raise
            except Exception as error:  # tracing and runtimes raise anything; the reason goes to the card
                refusals.append(f"{', '.join(free) or 'fixed size'}: {_first_line(error)}")
                continue
            card = _card(facts, path, format, size, free, parity, refusals)
            made = file_hash(temporary)
            card |= {"sha256": made, "segmenter": source, "replaces": replaced if replaced != made else None}
            atomic_write_json(_card_path(path), card)  # first: a file without its card would be taken for the user's
            with storage_errors(path):
                os.replace(temporary, path)
            return ModelExport(path, format, free, parity)
    finally:
        temporary.unlink(missing_ok=True)
    raise ContractError(
        f"{type(segmenter).__name__} cannot be exported as {format}: {'; '.join(refusals)}", "try the other format"
    )


# ---- one attempt -------------------------------------------------------------------------------------------------


class ParityError(Exception):
    """The exported network computes something else."""


def _export_checked(
    module: PixelsToClasses,
    path: Path,
    format: str,
    size: tuple[int, int],
    free: Sequence[str],
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
    with torch.no_grad(), _quiet():
        program = torch.export.export(module, (example,), dynamic_shapes=(dimensions,), strict=False)
        if format == "onnx":
            runner = _store_onnx(program, path, opset, free, facts)
        else:
            runner = _store_torch(program, path, facts)
        parity = tuple(_compare(module, runner, shape, dtype) for shape in _shapes(size, free))
    worst = max(one.max_abs_diff for one in parity)
    changed = max(one.changed for one in parity)
    if not (worst <= TOLERANCE and changed <= CHANGED):
        raise ParityError(f"its probabilities differ by {worst:.1e}, its classes on {changed:.2%} of the pixels")
    return parity


def _store_onnx(program: Any, path: Path, opset: int | None, free: Sequence[str], facts: Mapping[str, Any]) -> Runner:
    shapes = ({AXES[name]: name for name in free},)
    made = torch.onnx.export(
        program,
        dynamo=True,
        opset_version=opset,
        input_names=["pixels"],
        output_names=["labels", "probs"],
        dynamic_shapes=shapes,
        verbose=False,
    )
    assert made is not None
    made.model.metadata_props.update({name: json.dumps(value) for name, value in facts.items()})
    with storage_errors(path):
        made.save(path, external_data=False)
    runtime = import_module("onnxruntime")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run(pixels: Tensor) -> tuple[Tensor, Tensor]:
        labels, probs = session.run(["labels", "probs"], {"pixels": pixels.numpy()})
        return torch.from_numpy(labels), torch.from_numpy(probs)

    return run


def _store_torch(program: Any, path: Path, facts: Mapping[str, Any]) -> Runner:
    buffer = io.BytesIO()  # torch's own writer ends the process when the disk is full
    torch.export.save(program, buffer, extra_files={METADATA_FILE: json.dumps(facts)})
    atomic_write(path, buffer.getvalue())
    # Guards compare strides of the traced example; the graph itself serves every size, which _compare checks.
    loaded: Runner = torch.export.load(path).module(check_guards=False)
    return loaded


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
        "parity_with": "onnxruntime" if format == "onnx" else "torch.export.load(...).module(check_guards=False)",
        "versions": {"torch": torch.__version__},
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


def _check_options(size: object, opset: object, dtype: object) -> None:
    """ConfigError for options that are none; tracers answer them with pages of their own."""
    whole = isinstance(size, tuple | list) and len(size) == 2 and all(type(side) is int for side in size)
    if not whole or not all(1 <= side <= MAX_SIDE for side in size):  # type: ignore[attr-defined]
        raise ConfigError(f"size is (height, width) in 1 .. {MAX_SIDE} px, not {shown(size)}", "omit it, or give two")
    if opset is not None and not (type(opset) is int and opset in OPSETS):
        allowed = f"{OPSETS[0]} .. {OPSETS[-1]}"
        raise ConfigError(f"opset is a number in {allowed}, not {shown(opset)}", "omit it to take torch's default")
    if not isinstance(dtype, str) or dtype not in PHOTO_DTYPES:
        raise ConfigError(
            f"dtype of photographs is {' or '.join(PHOTO_DTYPES)}, not {shown(dtype)}", "omit it for uint8"
        )


def _check_replaceable(path: Path, source: str, dtype: str, update: bool) -> str | None:
    """Hash of the file that is there, an earlier run of this export (with `update` any export of ours); None = no file.

    Raises:
        ConfigError: what is there was made by no export, or by another one and `update` is false.
    """
    refuse_stage(path.parent)
    card_path = _card_path(path)
    card = read_json(card_path) if card_path.is_file() else {}
    there = os.path.lexists(path)
    if os.path.lexists(card_path) and not (isinstance(card, dict) and {"format", "sha256", "parity"} <= set(card)):
        raise ConfigError(f"'{card_path}' would be overwritten, and no export made it", REMEDY)
    found = file_hash(path) if there and path.is_file() and not path.is_symlink() else None
    if there and (found is None or found not in (card.get("sha256"), card.get("replaces"))):
        raise ConfigError(f"'{path}' would be overwritten, and no export made it", REMEDY)
    taken = card.get("input")
    other = "another segmenter" if card.get("segmenter", source) != source else ""
    if isinstance(taken, dict) and taken.get("dtype", dtype) != dtype:
        other = other or "this segmenter for photographs of another dtype"
    if there and other and not update:
        raise ConfigError(f"'{path}' is the export of {other}", "choose another --out, or add --update to replace it")
    return found


def _card_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _need_onnx() -> None:
    for module in ("onnx", "onnxscript", "onnxruntime"):
        try:
            import_module(module)
        except ImportError as error:
            raise MissingDependencyError(
                f"ONNX export needs the package '{module}', which cannot be imported ({error})",
                "pip install 'gsegkit[export]'",
            ) from None


def _check_weight_size(segmenter: Segmenter) -> None:
    size = sum(tensor.numel() * tensor.element_size() for tensor in segmenter.state_dict().values())
    if size > ONNX_LIMIT:
        raise ConfigError(f"the weights have {size / 1e9:.1f} GB, and one ONNX file holds 2 GB", "use format torch")


def _first_line(error: Exception) -> str:
    if type(error).__module__.startswith("onnxruntime"):  # its messages name its own sources and our temporary file
        return "onnxruntime cannot run what torch wrote"
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:300]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the tracers' prints and deprecation warnings from the user."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
