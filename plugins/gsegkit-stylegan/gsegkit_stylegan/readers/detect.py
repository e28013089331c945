"""Which network a file holds: first by the kind of its content, then by the names of its tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from dataclasses import replace as changed
from pathlib import Path
from typing import Any

from gsegkit_foreign import ForeignFile, Limits, Record, describe, printable, read_foreign
from torch import Tensor

from gsegkit.errors import ArtifactError
from gsegkit_stylegan.readers import grown, stylegan2
from gsegkit_stylegan.readers.found import Found
from gsegkit_stylegan.readers.modules import is_module, read_modules
from gsegkit_stylegan.readers.nvidia import read_nvidia
from gsegkit_stylegan.readers.own import has_record, read_own
from gsegkit_stylegan.readers.tensorflow import is_network, is_theano, read_tensorflow

#: Where training scripts keep the generator, the averaged one first.
_AVERAGED = ("G_ema", "g_ema", "generator_smooth", "generator_ema", "params_ema")
_RAW = ("G", "generator", "g")
_KEYS = (*_AVERAGED, *_RAW, "state_dict", "model")
_SUPPORTED = (
    "supported: NVIDIA pickles (PyTorch and TensorFlow), rosinality .pt, genforce .pth of StyleGAN2, StyleGAN, PGGAN, "
    "and folders written by gsegkit"
)

FromTensors = Callable[[Mapping[str, Tensor], "Extras"], Found]


@dataclass(frozen=True)
class Extras:
    """What stands beside the generator in the same file."""

    latent_avg: Tensor | None = None


def read_generator(path: str | Path, limits: Limits | None = None) -> tuple[Found, ForeignFile]:
    """Read the generator out of a checkpoint of any supported layout, executing nothing of it.

    Raises:
        ArtifactError: damaged, hostile, or not a supported generator; says what was found and expected.
    """
    file = read_foreign(path, limits)
    try:
        return _dispatch(file), file
    except ArtifactError as error:
        prefix = f"{file.path}: "
        message = error.message if error.message.startswith(prefix) else prefix + printable(error.message)
        raise ArtifactError(message, error.hint) from None


def _dispatch(file: ForeignFile) -> Found:
    if has_record(file):
        return read_own(file)
    root = file.shallow(file.root)
    if isinstance(root, (tuple, list)):
        return _from_networks(file, root)
    if isinstance(root, Record):
        return _from_record(file, root)
    if not isinstance(root, dict):
        raise ArtifactError(f"the file holds {describe(root)}", _SUPPORTED)
    key = next((key for key in _KEYS if key in root and file.shallow(root[key]) is not None), None)
    if key is None:
        return _from_tensors(file, root, Extras())
    value = file.shallow(root[key])
    if isinstance(value, Record):
        found = _from_record(file, value)
    else:
        average = root.get("latent_avg")
        extras = Extras(None if average is None else file.tensor(average, "latent_avg"))
        found = _from_tensors(file, file.mapping(value, key), extras)
    if key not in _RAW:
        return found
    note = f"the file has no averaged generator: '{key}' was taken, whose images are usually worse"
    return changed(found, notes=(*found.notes, note))


def _from_networks(file: ForeignFile, root: Any) -> Found:
    """(G, D, Gs): the third is the averaged generator."""
    values = [file.shallow(raw) for raw in root[:3]]
    if values and is_theano(values[-1]):
        raise ArtifactError("a Theano-era PGGAN pickle", "use the TensorFlow or genforce version of the same network")
    if len(root) != 3 or not all(is_network(value) for value in values):
        kinds = ", ".join(describe(value) for value in values)[:120]
        raise ArtifactError(f"the file holds a list of {len(root)}: {kinds}", _SUPPORTED)
    return read_tensorflow(file, values[2])


def _from_record(file: ForeignFile, record: Record) -> Found:
    if is_network(record):
        return read_tensorflow(file, record)
    if not is_module(record):
        raise ArtifactError(f"the file holds {describe(record)}", _SUPPORTED)
    tree = read_modules(file, record)
    if "mapping.fc0" in tree.attributes:
        return read_nvidia(file, tree)
    found = from_names(tree.tensors, Extras())
    return changed(found, sources={name: sha256 for name, sha256 in tree.sources.items() if sha256})


def _from_tensors(file: ForeignFile, table: dict[str, Any], extras: Extras) -> Found:
    tensors = {name: file.tensor(raw, name) for name, raw in table.items()}
    if tensors and all(name.startswith("module.") for name in tensors):  # saved from DataParallel
        tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    return from_names(tensors, extras)


#: A tensor that only this layout has -> its reader. First match wins.
_BY_NAME: tuple[tuple[str, FromTensors], ...] = (
    ("synthesis.b4.const", lambda tensors, _: stylegan2.from_state_dict(tensors)),
    ("conv1.conv.modulation.weight", lambda tensors, extras: stylegan2.from_rosinality(tensors, extras.latent_avg)),
    ("synthesis.early_layer.const", lambda tensors, _: stylegan2.from_genforce(tensors)),
    ("synthesis.layer0.const", lambda tensors, _: grown.stylegan_from_genforce(tensors)),
    ("layer1.weight", lambda tensors, _: grown.pggan_from_genforce(tensors)),
    ("layer1.conv.weight", lambda tensors, _: grown.pggan_from_genforce(tensors)),
)


def from_names(tensors: Mapping[str, Tensor], extras: Extras) -> Found:
    """The generator of a flat table of tensors, by its names."""
    if "synthesis.b4.conv0.bias" in tensors:  # StyleGAN2 has no such layer
        raise ArtifactError(
            "tensors of a StyleGAN or PGGAN of gsegkit without their record", "keep card.json beside them"
        )
    for marker, reader in _BY_NAME:
        if marker in tensors:
            return reader(tensors, extras)
    if "synthesis.input.weight" in tensors:
        raise ArtifactError("a StyleGAN3 network", "StyleGAN2, StyleGAN and PGGAN are supported")
    names = ", ".join(sorted(tensors)[:4])[:160] or "none"
    raise ArtifactError(f"{len(tensors)} tensors that belong to no known generator ({names} ...)", _SUPPORTED)
