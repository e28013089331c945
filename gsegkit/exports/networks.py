"""A trained segmenter as one file for other runtimes: ONNX or torch.export, checked against the original."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gsegkit.errors import ConfigError, ContractError, GsegkitError, MissingDependencyError
from gsegkit.exports.formats import MODEL_FORMATS
from gsegkit.images import to_images
from gsegkit.interfaces import Segmenter
from gsegkit.storage import atomic_write_json, file_hash, storage_errors

TOLERANCE = 1e-3  # largest difference of a probability that counts as rounding
ONNX_LIMIT = 2 * 10**9  # bytes of weights that fit into one ONNX file
AXES = {"batch": 0, "height": 2, "width": 3}
#: Axes left free, most first; a network that fixes its own size falls back to the next.
FREEDOMS: tuple[tuple[str, ...], ...] = (("batch", "height", "width"), ("batch",), ())

Runner = Callable[[Tensor], Tensor]


class PixelsToProbs(nn.Module):
    """What is exported: pixels [N, 3, H, W] uint8 -> probabilities [N, K, H, W] float32, normalisation included."""

    def __init__(self, segmenter: Segmenter) -> None:
        super().__init__()
        self.segmenter = segmenter

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalise, run `Segmenter.logits`, softmax."""
        return self.segmenter.logits(to_images(pixels)).softmax(dim=1)


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
) -> ModelExport:
    """Export a trained segmenter and check that the file computes what the segmenter does.

    The file takes pixels [N, 3, H, W] uint8 and gives probabilities [N, K, H, W] float32. Bringing photographs to the
    training size is left to the caller: the card beside the file says which size and rule.

    Args:
        segmenter: a fitted segmenter; it is not changed.
        out: file (`.onnx`, `.pt2`), or a folder that receives `segmenter.onnx` / `segmenter.pt2`.
        format: "onnx" or "torch".
        size: (height, width) to export for; None = the training size. Other sizes work where `dynamic` lists them.
        opset: ONNX operator set; None = torch's default.
        dynamic: leave batch, height and width free where the network allows it.

    Raises:
        ConfigError: unknown format, or a suffix of another format.
        MissingDependencyError: ONNX packages are missing.
        ContractError: the network cannot be traced, or the exported one computes something else.
    """
    path = _target(Path(out), format)
    if format == "onnx":
        _need_onnx()
        _check_weight_size(segmenter)
    module = PixelsToProbs(copy.deepcopy(segmenter).cpu().eval()).eval()
    size = size or segmenter.train_size
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    refusals: list[str] = []
    try:
        for free in FREEDOMS if dynamic else FREEDOMS[-1:]:
            try:
                parity = _export_checked(module, temporary, format, size, free, opset)
            except GsegkitError:
                raise
            except Exception as error:  # tracing and runtimes raise anything; the reason goes to the card
                refusals.append(f"{', '.join(free) or 'fixed size'}: {_first_line(error)}")
                continue
            card = _card(segmenter, path, format, size, free, parity, refusals, file_hash(temporary))
            with storage_errors(path):
                os.replace(temporary, path)
            atomic_write_json(path.with_name(f"{path.name}.json"), card)
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
    module: PixelsToProbs, path: Path, format: str, size: tuple[int, int], free: Sequence[str], opset: int | None
) -> tuple[Parity, ...]:
    """Trace with the given axes free, store, load what was stored, and compare."""
    height, width = size
    # A size that no stride divides: then padding and cropping become part of the graph and serve every size.
    traced = (height + 7, width + 11) if "height" in free else size
    example = _pixels((2 if "batch" in free else 1, 3, *traced))
    dimensions = {AXES[name]: torch.export.Dim.AUTO for name in free}
    with torch.no_grad(), _quiet():
        program = torch.export.export(module, (example,), dynamic_shapes=(dimensions,), strict=False)
        if format == "onnx":
            runner = _store_onnx(program, path, opset, free, module.segmenter.classes)
        else:
            runner = _store_torch(program, path)
        parity = tuple(_compare(module, runner, shape) for shape in _shapes(size, free))
    worst = max(one.max_abs_diff for one in parity)
    if not worst <= TOLERANCE:
        raise ParityError(f"its probabilities differ by {worst:.1e} from the original")
    return parity


def _store_onnx(program: Any, path: Path, opset: int | None, free: Sequence[str], classes: Sequence[str]) -> Runner:
    shapes = ({AXES[name]: name for name in free},)
    made = torch.onnx.export(
        program,
        dynamo=True,
        opset_version=opset,
        input_names=["pixels"],
        output_names=["probs"],
        dynamic_shapes=shapes,
        verbose=False,
    )
    assert made is not None
    made.model.metadata_props["classes"] = json.dumps(list(classes))
    with storage_errors(path):
        made.save(path, external_data=False)
    runtime = import_module("onnxruntime")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda pixels: torch.from_numpy(session.run(["probs"], {"pixels": pixels.numpy()})[0])


def _store_torch(program: Any, path: Path) -> Runner:
    with storage_errors(path):
        torch.export.save(program, path)
    # Guards compare strides of the traced example; the graph itself serves every size, which _compare checks.
    loaded: Runner = torch.export.load(path).module(check_guards=False)
    return loaded


def _compare(module: PixelsToProbs, runner: Runner, shape: tuple[int, ...]) -> Parity:
    pixels = _pixels(shape)
    expected, got = module(pixels), runner(pixels)
    if got.shape != expected.shape:
        raise ParityError(f"it returns {list(got.shape)} for pixels {list(shape)}, expected {list(expected.shape)}")
    changed = (got.argmax(dim=1) != expected.argmax(dim=1)).float().mean()
    return Parity(shape, float((got - expected).abs().max()), round(float(changed), 6))


def _shapes(size: tuple[int, int], free: Sequence[str]) -> list[tuple[int, ...]]:
    """Shapes to compare on: three sizes, of which one is the given one, or as many as are free."""
    height, width = size
    if "height" in free:
        return [(1, 3, height, width), (2, 3, height + 13, width + 6), (3, 3, height + 32, width + 96)]
    if "batch" in free:
        return [(batch, 3, height, width) for batch in (1, 2, 3)]
    return [(1, 3, height, width)]


def _pixels(shape: tuple[int, ...]) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


# ---- around it ---------------------------------------------------------------------------------------------------


def _card(
    segmenter: Segmenter,
    path: Path,
    format: str,
    size: tuple[int, int],
    free: Sequence[str],
    parity: Sequence[Parity],
    refusals: Sequence[str],
    sha256: str,
) -> dict[str, Any]:
    axes: list[Any] = ["batch" if "batch" in free else 1, 3]
    axes += ["height", "width"] if "height" in free else list(size)
    return {
        "file": path.name,
        "format": format,
        "sha256": sha256,
        "classes": list(segmenter.classes),
        "input": {"name": "pixels", "dtype": "uint8", "shape": axes, "colour": "RGB", "range": [0, 255]},
        "output": {
            "name": "probs",
            "dtype": "float32",
            "shape": [axes[0], len(segmenter.classes), *axes[2:]],
            "meaning": "class probabilities; the mask is the argmax over axis 1",
        },
        "train_size": list(segmenter.train_size),
        "fit_rule": segmenter.fit_rule,
        "fit": _FIT[segmenter.fit_rule].format(height=segmenter.train_size[0], width=segmenter.train_size[1]),
        "dynamic": list(free),
        "not_dynamic_because": list(refusals),
        "parity": [asdict(one) for one in parity],
        "parity_with": "onnxruntime" if format == "onnx" else "torch.export.load(...).module(check_guards=False)",
        "versions": {"torch": torch.__version__},
    }


_FIT = {
    "native": "give photographs as they are",
    "squash": "resize photographs to {height} x {width} (height x width, antialiased), whatever their aspect; "
    "resize the probabilities back",
    "crop": "scale photographs until they cover {height} x {width} (height x width), antialiased; "
    "resize the probabilities back",
    "pad": "scale photographs until they fit into {height} x {width} (height x width), antialiased, and repeat their "
    "edges around; cut that off and resize the probabilities back",
}


def _target(out: Path, format: str) -> Path:
    if format not in MODEL_FORMATS:
        raise ConfigError(f"no model format '{format}'", f"formats: {', '.join(MODEL_FORMATS)}")
    suffix = MODEL_FORMATS[format]
    if out.suffix == suffix and not out.is_dir():
        return out
    if out.is_dir() or not out.suffix:
        return out / f"segmenter{suffix}"
    raise ConfigError(f"format '{format}' writes {suffix} files, not '{out.name}'", f"name it {out.stem}{suffix}")


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
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:300]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the tracers' prints and deprecation warnings from the user."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
