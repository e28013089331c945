"""Pickles of NVIDIA's TensorFlow networks: (G, D, Gs), each with named variables and components."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import Any

from gsegkit_foreign import ForeignFile, Record, describe
from torch import Tensor

from gsegkit.errors import ArtifactError
from gsegkit_stylegan.readers import grown, stylegan2
from gsegkit_stylegan.readers.found import Found

MAX_VARIABLES = 20_000
MAX_NAME = 256  # characters of a variable's name
PGGAN, STYLEGAN, STYLEGAN2 = 2, 3, 4  # the format's version numbers


@dataclass
class Network:
    """A TensorFlow network: variables of it and its components, and the options it was built with."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    kwargs: dict[str, Any] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    count: int = 0  # variables and components met


def is_network(value: object) -> bool:
    """Whether an evaluated value is a pickled TensorFlow network."""
    return isinstance(value, Record) and "variables" in value.state and "static_kwargs" in value.state


def is_theano(value: object) -> bool:
    """Whether it is one of the still older pickles."""
    return isinstance(value, Record) and "param_values" in value.state


def generator_of(file: ForeignFile, record: Record) -> str:
    """The generator that a network belongs to, by its format version.

    Raises:
        ArtifactError: a version that is not supported.
    """
    version = file.plain(record.state.get("version"))
    if isinstance(version, int) and version >= STYLEGAN2:
        return "stylegan2"
    names = {STYLEGAN: "stylegan", PGGAN: "pggan"}
    if version not in names:
        raise ArtifactError(
            f"a TensorFlow network of format version {version}",
            "versions 2 (PGGAN), 3 (StyleGAN) and 4 or more (StyleGAN2) are supported",
        )
    return names[version]


def read_network(file: ForeignFile, record: Record) -> Network:
    """Variables of a network under `component/name`."""
    network = Network(kwargs=_table(file.plain(record.state["static_kwargs"])))
    _collect(file, record, "", network, 0)
    return network


def _collect(file: ForeignFile, record: Record, prefix: str, network: Network, depth: int) -> None:
    if depth > 4 or len(prefix) > 4 * MAX_NAME:
        raise ArtifactError(f"{file.path}: network components nested too deeply", "no generator is built so")
    source = file.shallow(record.state.get("build_module_src"))
    if isinstance(source, str):
        name = str(file.plain(record.state.get("build_func_name")))[:80]
        network.sources[name] = hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest()
    variables = file.shallow(record.state["variables"])
    if not isinstance(variables, (list, tuple)):
        raise ArtifactError(f"{file.path}: variables that are {describe(variables)}", "the file was modified")
    network.count += 1 + len(variables)
    if network.count > MAX_VARIABLES:
        raise ArtifactError(f"{file.path}: more than {MAX_VARIABLES} variables", "no generator has so many")
    for raw in variables:
        pair = file.shallow(raw)
        named = isinstance(pair, (list, tuple)) and len(pair) == 2 and isinstance(pair[0], str)
        if not named or len(pair[0]) > MAX_NAME:
            raise ArtifactError(f"{file.path}: a variable that is {describe(pair)}", "the file was modified")
        network.tensors[prefix + pair[0]] = file.tensor(pair[1], prefix + pair[0])
    if "components" not in record.state:
        return
    for name, raw in file.mapping(record.state["components"], "components").items():
        component = file.shallow(raw)
        if not isinstance(component, Record) or not is_network(component):
            raise ArtifactError(f"{file.path}: component '{name}' is {describe(component)}", "the file was modified")
        options = _table(file.plain(component.state["static_kwargs"]))
        network.kwargs = {**options, **network.kwargs}
        _collect(file, component, f"{prefix}{name}/", network, depth + 1)


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def read_tensorflow(file: ForeignFile, record: Record) -> Found:
    """The generator of a TensorFlow-era pickle.

    Raises:
        ArtifactError: a version or a network that is not supported; says which.
    """
    generator = generator_of(file, record)
    network = read_network(file, record)
    if generator == "stylegan":
        found = grown.stylegan_from_tensorflow(network.tensors, network.kwargs)
    elif generator == "pggan":
        found = grown.pggan_from_tensorflow(network.tensors, network.kwargs)
    else:
        if any("ToRGB_lod" in name for name in network.tensors):
            raise ArtifactError(f"{file.path}: a growing StyleGAN2 (config A to D)", "configs E and F are supported")
        found = stylegan2.from_tensorflow(network.tensors, network.kwargs)
    return replace(found, sources=network.sources)
