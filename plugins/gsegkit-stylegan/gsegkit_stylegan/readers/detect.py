"""Which network of the family a file holds: first by the kind of its content, then by the names of its tensors."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from dataclasses import replace as changed
from functools import partial
from pathlib import Path
from typing import Any

from gsegkit_foreign import ForeignFile, Network, Record, describe, networks, opened, printable, taken_note
from torch import Tensor

from gsegkit.checkpoints import CheckpointFile
from gsegkit.errors import ArtifactError
from gsegkit_stylegan.readers import grown, stylegan2, stylegan3, tensorflow
from gsegkit_stylegan.readers.found import Found
from gsegkit_stylegan.readers.nvidia import read_nvidia
from gsegkit_stylegan.readers.nvidia3 import read_nvidia3

ONLY = "StyleGAN2, StyleGAN3, StyleGAN and PGGAN are supported"
RAW = ("G", "generator", "g")  # where training scripts keep the generator beside its average


@dataclass(frozen=True)
class Match:
    """A generator that was recognised in a file, not read yet.

    Attributes:
        generator: name of the component.
        read: reads it.
        network: where it lies, None in the pickles of TensorFlow networks.
    """

    generator: str
    read: Callable[[], Found]
    network: Network | None = None


def find(file: CheckpointFile) -> Match | None:
    """The generator of the family in a file; None when there is none.

    Raises:
        ArtifactError: damaged or hostile, or a relative of the family that is not supported, which is named.
    """
    if file.path.is_dir():
        return None
    foreign = opened(file)
    with_name = _Naming(foreign)
    root = with_name(partial(_root, foreign))
    if root is not None:
        return changed(root, read=partial(with_name, root.read))
    for network in networks(file):
        match = with_name(partial(_match, network))
        if match is not None:
            same = [other for other in networks(file) if _alike(network, other)]
            read = partial(with_name, partial(_with_notes, match, same))
            return Match(match.generator, read, network)
    return None


class _Naming:
    """Puts the file's name into every refusal."""

    def __init__(self, file: ForeignFile) -> None:
        self.prefix = f"{file.path}: "

    def __call__(self, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except ArtifactError as error:
            named = error.message.startswith(self.prefix)
            message = error.message if named else self.prefix + printable(error.message)
            raise ArtifactError(message, error.hint) from None


def _root(file: ForeignFile) -> Match | None:
    """(G, D, Gs) of the TensorFlow code: the third is the averaged generator."""
    root = file.shallow(file.root)
    if not isinstance(root, tuple | list):
        return None
    values = [file.shallow(raw) for raw in root[:3]]
    if values and tensorflow.is_theano(values[-1]):
        raise ArtifactError("a Theano-era PGGAN pickle", "use the TensorFlow or genforce version of the same network")
    networks = [tensorflow.is_network(value) for value in values]
    if len(root) == 3 and all(networks):
        return _tensorflow(file, values[2])
    if any(networks):
        kinds = ", ".join(describe(value) for value in values)[:120]
        raise ArtifactError(f"the file holds a list of {len(root)}: {kinds}", ONLY)
    return None


def _tensorflow(file: ForeignFile, record: Record) -> Match:
    return Match(tensorflow.generator_of(file, record), lambda: tensorflow.read_tensorflow(file, record))


def _match(network: Network) -> Match | None:
    record = network.record
    if record is not None and tensorflow.is_network(record):
        return changed(_tensorflow(network.file, record), network=network)
    tree = network.module
    if tree is not None and "mapping.fc0" in tree.attributes:
        if "synthesis.input" in tree.attributes:
            return Match("stylegan3", lambda: read_nvidia3(network.file, tree), network)
        return Match("stylegan2", lambda: read_nvidia(network.file, tree), network)
    generator = generator_of(network.names)
    if generator is None:
        return None
    return Match(generator, lambda: _from_network(network), network)


def _alike(taken: Network, other: Network) -> bool:
    """Whether another network of the file could have been taken as well; told without reading it."""
    if taken.record is not None and other.record is not None:
        return taken.record.class_name == other.record.class_name
    return taken.record is None and other.record is None and taken.names == other.names


def _from_network(network: Network) -> Found:
    average = network.beside.get("latent_avg")
    latent_avg = None if average is None else network.file.tensor(average, "latent_avg")
    found = from_names(network.tensors, latent_avg)
    sources = network.module.sources if network.module is not None else {}
    return changed(found, sources={name: sha256 for name, sha256 in sources.items() if sha256})


def _with_notes(match: Match, same: list[Network]) -> Found:
    found, network = match.read(), match.network
    if network is None:
        return found
    notes = (*found.notes, *taken_note(network, same))
    if network.path.rpartition(".")[2] in RAW:
        what = f"the file has no averaged generator: '{network.path}' was taken, whose images are usually worse"
        notes = (*notes, what)
    return changed(found, notes=notes)


_OUTPUT = re.compile(r"output\d+\.(conv\.)?weight")
FromTensors = Callable[[Mapping[str, Tensor], Tensor | None], Found]

#: A tensor that only this layout has -> generator, reader. First match wins.
_BY_NAME: tuple[tuple[str, str, FromTensors], ...] = (
    ("synthesis.b4.const", "stylegan2", lambda tensors, _: stylegan2.from_state_dict(tensors)),
    ("synthesis.input.freqs", "stylegan3", lambda tensors, _: stylegan3.from_state_dict(tensors)),
    ("conv1.conv.modulation.weight", "stylegan2", stylegan2.from_rosinality),
    ("synthesis.early_layer.const", "stylegan2", lambda tensors, _: stylegan2.from_genforce(tensors)),
    ("synthesis.layer0.const", "stylegan", lambda tensors, _: grown.stylegan_from_genforce(tensors)),
    ("layer1.weight", "pggan", lambda tensors, _: grown.pggan_from_genforce(tensors)),
    ("layer1.conv.weight", "pggan", lambda tensors, _: grown.pggan_from_genforce(tensors)),
)


def generator_of(names: frozenset[str]) -> str | None:
    """The generator that tensors of these names belong to; None when it is none of the family.

    Raises:
        ArtifactError: a relative that is not supported.
    """
    if "synthesis.b4.conv0.bias" in names:  # StyleGAN2 has no such layer
        raise ArtifactError(
            "tensors of a StyleGAN or PGGAN of gsegkit without their record", "keep component.json beside them"
        )
    for marker, generator, _ in _BY_NAME:
        # genforce's PGGAN has nothing but layers and outputs: other networks have a layer1 too
        if marker in names and (generator != "pggan" or any(_OUTPUT.fullmatch(name) for name in names)):
            return generator
    return None


def from_names(tensors: Mapping[str, Tensor], latent_avg: Tensor | None = None) -> Found:
    """The generator of a flat table of tensors, by its names."""
    generator = generator_of(frozenset(tensors))
    for marker, name, reader in _BY_NAME:
        if name == generator and marker in tensors:
            return reader(tensors, latent_avg)
    names = ", ".join(sorted(tensors)[:4])[:160] or "none"
    raise ArtifactError(f"{len(tensors)} tensors that belong to no known generator ({names} ...)", ONLY)


def read_generator(path: str | Path) -> Found:
    """Read a generator of the family out of a checkpoint of any supported layout, executing nothing of it.

    Raises:
        ArtifactError: damaged, hostile, or not a supported generator; says what was found.
    """
    file = CheckpointFile(Path(path))
    match = find(file)
    if match is None:
        raise ArtifactError(f"{path}: no generator of the family ({'; '.join(file.seen)})", ONLY)
    return match.read()
