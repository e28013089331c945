"""Weights that gsegkit itself wrote: canonical names, with the card or component record beside the tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gsegkit_foreign import ForeignFile
from torch import Tensor, nn

from gsegkit.errors import ArtifactError
from gsegkit.parts import COMPONENT_FILE, STATE_FILE
from gsegkit.storage import read_json
from gsegkit_stylegan.config import Arch, PGGANArch, StyleGAN2Arch, StyleGANArch
from gsegkit_stylegan.networks.pggan import PGGANNetwork
from gsegkit_stylegan.networks.stylegan import StyleGANNetwork
from gsegkit_stylegan.networks.stylegan2 import StyleGAN2Network
from gsegkit_stylegan.readers.found import Found
from gsegkit_stylegan.readers.rules import SAME, Rule, read_layout
from gsegkit_stylegan.readers.shapes import check_fits, make_arch

CARD_FILE = "card.json"
_FAMILY: dict[str, tuple[type[Arch], Callable[[Any], nn.Module]]] = {
    "stylegan2": (StyleGAN2Arch, StyleGAN2Network),
    "stylegan": (StyleGANArch, StyleGANNetwork),
    "pggan": (PGGANArch, PGGANNetwork),
}


def has_record(file: ForeignFile) -> bool:
    """Whether a safetensors file lies beside a record of gsegkit."""
    folder = file.path.parent
    if file.container != "safetensors" or file.path.name != STATE_FILE:
        return False
    return (folder / CARD_FILE).exists() or (folder / COMPONENT_FILE).exists()


def read_own(file: ForeignFile) -> Found:
    """Read weights by the record beside them.

    Raises:
        ArtifactError: the record is of another file or another kind, or the tensors do not fit it.
    """
    folder = file.path.parent
    card = folder / CARD_FILE
    record = read_json(card if card.exists() else folder / COMPONENT_FILE)
    table = record if isinstance(record, dict) else {}
    inner = table.get("facts")
    facts = table if card.exists() else {**(inner if isinstance(inner, dict) else {}), "generator": table.get("name")}
    if table.get("sha256") != file.sha256:
        raise ArtifactError("the tensors do not match the hash in the record beside them", "one of the two was changed")
    generator = facts.get("generator")
    if generator not in _FAMILY or not isinstance(facts.get("arch"), dict):
        raise ArtifactError(f"the record beside it is of '{str(generator)[:40]}'", "a generator of the StyleGAN family")
    arch_class, network = _FAMILY[generator]
    arch = make_arch(arch_class, **facts["arch"])
    state = _finite(file.tensors(file.root))
    check_fits(state, lambda: network(arch), f"{generator} of gsegkit")
    return Found(generator, f"{generator} (gsegkit)", arch, state)


def _finite(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return read_layout(tensors, tensors, lambda name: Rule(name, SAME), lambda name: False, "file of gsegkit")
