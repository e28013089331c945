"""A network as one file for other runtimes: traced, stored, loaded again and compared; with its card beside it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from gsegkit.errors import ConfigError, ContractError, GsegkitError, MissingDependencyError
from gsegkit.exports.places import refuse_stage
from gsegkit.records.text import shown
from gsegkit.storage import atomic_write, atomic_write_json, file_hash, read_json, storage_errors, temporary_beside

OPSETS = range(18, 26)  # asked for an older one, torch writes 18
ONNX_LIMIT = 2 * 10**9  # bytes of weights that fit into one ONNX file
REMEDY = "choose another name with --out"
METADATA_FILE = "gsegkit.json"  # in a .pt2 file: what ONNX keeps as metadata
RUNTIMES = {"onnx": "onnxruntime", "torch": "torch.export.load(...).module(check_guards=False)"}

Runner = Callable[..., tuple[Tensor, ...]]
P = TypeVar("P")


class ParityError(Exception):
    """The exported network computes something else."""


def write_checked(
    path: Path,
    name: str,
    format: str,
    freedoms: Sequence[tuple[str, ...]],
    attempt: Callable[[Path, tuple[str, ...]], P],
    card: Callable[[tuple[str, ...], P, Sequence[str]], Mapping[str, Any]],
    replaced: str | None,
) -> tuple[tuple[str, ...], P]:
    """Make the file and its card with the first of several freedoms that works; nothing is left where none does.

    Args:
        path: the file to make.
        name: of what is exported, for the message.
        format: "onnx" or "torch".
        freedoms: names of the axes to leave free, most first.
        attempt: makes and checks a temporary file; raises where the network does not allow the freedom.
        card: what stands beside the file, from the freedom, what was found, and why others failed.
        replaced: see `earlier`.

    Returns:
        The freedom, and what `attempt` found.

    Raises:
        ContractError: none works.
    """
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path, path.suffix)
    refusals: list[str] = []
    try:
        for free in freedoms:
            try:
                found = attempt(temporary, free)
            except GsegkitError:
                raise
            except Exception as error:  # tracing and runtimes raise anything; the reason goes to the card
                refusals.append(f"{', '.join(free) or 'fixed size'}: {_first_line(error)}")
                continue
            made = file_hash(temporary)
            record = {**card(free, found, refusals), "sha256": made, "replaces": replaced if replaced != made else None}
            atomic_write_json(card_path(path), record)  # first: a file without its card would be taken for the user's
            with storage_errors(path):
                os.replace(temporary, path)
            return free, found
    finally:
        temporary.unlink(missing_ok=True)
    raise ContractError(f"{name} cannot be exported as {format}: {'; '.join(refusals)}", "try the other format")


def store(
    program: Any,
    path: Path,
    format: str,
    opset: int | None,
    wires: tuple[Sequence[str], Sequence[str]],
    axes: Sequence[Mapping[int, str]],
    facts: Mapping[str, Any],
) -> Runner:
    """Store a traced program, and load what was stored.

    Args:
        program: of torch.export.
        path: the file to make.
        format: "onnx" or "torch".
        opset: ONNX operator set; None = torch's default.
        wires: names of the inputs and of the outputs, in order.
        axes: for each input the names of its free axes.
        facts: JSON-ready; travels inside the file.

    Returns:
        What runs the file: the inputs in, the outputs out, as tensors.
    """
    return (
        _store_torch(program, path, facts)
        if format == "torch"
        else _store_onnx(program, path, opset, wires, axes, facts)
    )


def _store_onnx(
    program: Any,
    path: Path,
    opset: int | None,
    wires: tuple[Sequence[str], Sequence[str]],
    axes: Sequence[Mapping[int, str]],
    facts: Mapping[str, Any],
) -> Runner:
    inputs, outputs = wires
    made = torch.onnx.export(
        program,
        dynamo=True,
        opset_version=opset,
        input_names=list(inputs),
        output_names=list(outputs),
        dynamic_shapes=tuple(dict(one) for one in axes),
        verbose=False,
    )
    assert made is not None
    made.model.metadata_props.update({name: json.dumps(value) for name, value in facts.items()})
    with storage_errors(path):
        made.save(path, external_data=False)
    runtime = import_module("onnxruntime")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run(*given: Tensor) -> tuple[Tensor, ...]:
        found = session.run(list(outputs), dict(zip(inputs, (one.numpy() for one in given), strict=True)))
        return tuple(torch.from_numpy(one) for one in found)

    return run


def _store_torch(program: Any, path: Path, facts: Mapping[str, Any]) -> Runner:
    buffer = io.BytesIO()  # torch's own writer ends the process when the disk is full
    torch.export.save(program, buffer, extra_files={METADATA_FILE: json.dumps(facts)})
    atomic_write(path, buffer.getvalue())
    # Guards compare strides of the traced example; the graph itself serves every size, which the caller checks.
    loaded = torch.export.load(path).module(check_guards=False)

    def run(*given: Tensor) -> tuple[Tensor, ...]:
        found = loaded(*given)
        return (found,) if isinstance(found, Tensor) else tuple(found)

    return run


# ---- around it ---------------------------------------------------------------------------------------------------


def earlier(path: Path) -> tuple[str | None, Mapping[str, Any]]:
    """What an earlier export left under this name: the hash of its file (None = no file), and its card.

    Raises:
        ConfigError: what is there was made by no export.
    """
    refuse_stage(path.parent)
    beside = card_path(path)
    card = read_json(beside) if beside.is_file() else {}
    there = os.path.lexists(path)
    if os.path.lexists(beside) and not (isinstance(card, dict) and {"format", "sha256", "parity"} <= set(card)):
        raise ConfigError(f"'{beside}' would be overwritten, and no export made it", REMEDY)
    found = file_hash(path) if there and path.is_file() and not path.is_symlink() else None
    if there and (found is None or found not in (card.get("sha256"), card.get("replaces"))):
        raise ConfigError(f"'{path}' would be overwritten, and no export made it", REMEDY)
    return found, card


def refuse_other(path: Path, other: str, update: bool) -> None:
    """ConfigError when what is there is the export of something else, named in words, and `update` is false."""
    if other and not update:
        raise ConfigError(f"'{path}' is the export of {other}", "choose another --out, or add --update to replace it")


def card_path(path: Path) -> Path:
    """The card of an exported file."""
    return path.with_name(f"{path.name}.json")


def check_possible(part: nn.Module, format: str, opset: object) -> None:
    """Check what can be known before tracing.

    Raises:
        ConfigError: no such operator set, or too many weights for an ONNX file.
        MissingDependencyError: ONNX packages are missing.
    """
    if opset is not None and not (type(opset) is int and opset in OPSETS):
        allowed = f"{OPSETS[0]} .. {OPSETS[-1]}"
        raise ConfigError(f"opset is a number in {allowed}, not {shown(opset)}", "omit it to take torch's default")
    if format != "onnx":
        return
    for module in ("onnx", "onnxscript", "onnxruntime"):
        try:
            import_module(module)
        except ImportError as error:
            raise MissingDependencyError(
                f"ONNX export needs the package '{module}', which cannot be imported ({error})",
                "pip install 'gsegkit[export]'",
            ) from None
    size = sum(tensor.numel() * tensor.element_size() for tensor in part.state_dict().values())
    if size > ONNX_LIMIT:
        raise ConfigError(f"the weights have {size / 1e9:.1f} GB, and one ONNX file holds 2 GB", "use format torch")


def _first_line(error: Exception) -> str:
    if type(error).__module__.startswith("onnxruntime"):  # its messages name its own sources and our temporary file
        return "onnxruntime cannot run what torch wrote"
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:300]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the tracers' prints and deprecation warnings from the user."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
