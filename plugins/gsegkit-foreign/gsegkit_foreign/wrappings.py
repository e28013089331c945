"""What training scripts wrap a network in: `{"G_ema": ...}`, `{"models": {"generator": ...}}`, `module.`, modules.

A state dict may lie under any key or path, in a list or an object, carry a prefix, or be a pickled module. `networks`
finds all of them, the most likely generator first; a checkpoint reader takes the first one whose tensor names it knows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from gsegkit.checkpoints import CheckpointFile
from gsegkit.errors import ArtifactError
from gsegkit_foreign.limits import printable
from gsegkit_foreign.modules import ModuleTree, is_module, read_modules
from gsegkit_foreign.nodes import Opaque, Record, describe
from gsegkit_foreign.reader import ForeignFile, read_foreign

MAX_DEPTH = 8  # of tables in tables
MAX_TABLES = 2_000
#: Put in front of every name by DataParallel, torch.compile, and wrappers of one model.
PREFIXES = ("module.", "_orig_mod.")
_AVERAGED = re.compile(r"(^|[^a-z])(ema|smooth|average|averaged|avg|swa|gs)([^a-z]|$)")
_GENERATOR = re.compile(r"(^|[^a-z])(g|gen|netg|modelg|generator|decoder|gs)([^a-z]|$)")
_OTHER = re.compile(
    r"(^|[^a-z])(d|dis|disc|netd|discriminator|critic|encoder|e|optim\w*|opt|sched\w*|scaler|lpips|vgg\w*)([^a-z]|$)"
)


@dataclass(frozen=True)
class Network:
    """A network somewhere in a file: a table of tensors, a pickled module, or an object of an unknown class.

    Attributes:
        file: the file.
        path: keys that lead to it, joined by dots; "" is the file itself.
        record: the object, when it is one.
        beside: raw values that lie beside it in the same table.
        table: raw values by name (without prefixes), when it is a table.
    """

    file: ForeignFile
    path: str
    table: Mapping[str, Any]
    record: Record | None
    beside: Mapping[str, Any]

    @property
    def averaged(self) -> bool:
        """Whether its path says that its weights are averages."""
        return _AVERAGED.search(_words(self.path)) is not None

    @property
    def role(self) -> str:
        """What the path says that it is: "generator", "other" (discriminator, optimiser ...), or "" for nothing."""
        words = _words(self.path)
        if _GENERATOR.search(words):
            return "generator"
        return "other" if _OTHER.search(words) else ""

    @cached_property
    def module(self) -> ModuleTree | None:
        """The pickled module as a tree of tensors and attributes; None for anything else."""
        return read_modules(self.file, self.record) if self.record is not None and is_module(self.record) else None

    @cached_property
    def names(self) -> frozenset[str]:
        """Names of its tensors, and of values that stand where tensors are expected."""
        return frozenset(self.table if self.record is None else self.tensors)

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """Name -> tensor, without the prefixes of wrappers.

        Raises:
            ArtifactError: something that is neither a tensor nor plain data stands among them.
        """
        if self.record is not None:
            tree = self.module
            return _unprefixed(tree.tensors) if tree is not None else {}
        return {name: self.file.tensor(raw, name) for name, raw in self.table.items()}

    def __str__(self) -> str:
        return f"'{self.path}'" if self.path else "the file itself"


def opened(file: CheckpointFile) -> ForeignFile:
    """The file as `read_foreign` reads it, once for all readers."""
    return file.once(_open)


def networks(file: CheckpointFile) -> list[Network]:
    """Every network in a file, averaged generators first; [] for a folder.

    Raises:
        ArtifactError: the file is damaged, hostile, or of another kind (which is named).
    """
    return file.once(_networks)


def taken_note(taken: Network, known: Sequence[Network]) -> tuple[str, ...]:
    """A note that says which of several networks was taken; () when there was no choice."""
    if len(known) < 2:
        return ()
    why = "whose weights are averages" if taken.averaged else "the first generator; none is called an average"
    return (
        f"the file holds {len(known)} networks of this kind ({', '.join(map(str, known))}): {taken} was taken, {why}",
    )


def source_of(file: ForeignFile) -> dict[str, Any]:
    """Where weights come from, for `Checkpoint.source`."""
    return {
        "file": file.path.name,
        "sha256": file.sha256,
        "num_bytes": file.num_bytes,
        "container": file.container,
    }


def _open(file: CheckpointFile) -> ForeignFile:
    return read_foreign(file.path)


def _networks(file: CheckpointFile) -> list[Network]:
    if Path(file.path).is_dir():
        return []
    foreign = opened(file)
    found = list(_walk(foreign, foreign.root, "", {}, 0, [0]))
    file.seen.append(_describe(foreign, found))
    found += [part for network in found for part in _parts(network, 0)]
    found.sort(key=lambda network: (network.role == "other", not network.averaged, network.role != "generator"))
    return found


def _walk(
    file: ForeignFile, raw: Any, path: str, beside: Mapping[str, Any], depth: int, count: list[int]
) -> Iterator[Network]:
    count[0] += 1
    if count[0] > MAX_TABLES:
        raise ArtifactError(f"{file.path}: more than {MAX_TABLES} tables", "no checkpoint has so many")
    value = file.shallow(raw)
    if isinstance(value, Record):
        yield Network(file, path, {}, value, beside)
    elif isinstance(value, dict):
        table = {name: item for name, item in _named(value) if _may_be_tensor(file.shallow(item))}
        if table:
            yield Network(file, path, _unprefixed(table), None, beside)
    if depth > MAX_DEPTH:
        return
    inside = dict(_inside(file, value))
    for name, item in inside.items():
        inner = file.shallow(item)
        if isinstance(inner, Opaque) and _GENERATOR.search(_words(name)) and "." not in name:
            what = f"'{name[:80]}' should be a network but is {describe(inner)}"
            raise ArtifactError(f"{file.path}: {printable(what)}", "it was made by modified code; nothing was run")
        if isinstance(inner, dict | Record | list | tuple):
            yield from _walk(file, item, f"{path}.{name[:80]}" if path else name[:80], inside, depth + 1, count)


def _inside(file: ForeignFile, value: Any) -> Iterator[tuple[str, Any]]:
    """What may hold networks in a table, a list or an object, under names."""
    if isinstance(value, dict):
        yield from _named(value)
    elif isinstance(value, list | tuple):
        yield from ((str(i), item) for i, item in enumerate(value) if not isinstance(item, int | float | str))
    elif isinstance(value, Record) and is_module(value):  # a GAN: its tensors are in it, its generator is a part
        children = file.shallow(value.state["_modules"])
        names = _named(children) if isinstance(children, dict) else ()
        yield from ((name, item) for name, item in names if name == "module" or _may_generate(name))
    elif isinstance(value, Record) and "static_kwargs" not in value.state:  # TensorFlow's networks are read as a whole
        yield from _named(value.state)


def _named(table: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    return ((str(name), item) for name, item in table.items() if isinstance(name, str | int))


def _may_be_tensor(value: Any) -> bool:
    """Not plain data, and not a table or an object of its own: a tensor, or something that pretends to be one."""
    return not isinstance(value, dict | Record | list | tuple | str | bytes | int | float | None)


def _unprefixed(table: Mapping[str, Any]) -> dict[str, Any]:
    names = {name: name for name in table if name != "n_averaged"}  # a counter of torch's AveragedModel
    for _ in range(3):
        for prefix in PREFIXES:
            if names and all(name.startswith(prefix) for name in names.values()):
                names = {theirs: name.removeprefix(prefix) for theirs, name in names.items()}
    return {name: table[theirs] for theirs, name in names.items()}


def _parts(network: Network, depth: int) -> Iterator[Network]:
    """Networks under prefixes of a flat table: one that all names share, and those of generators beside other parts.

    As in `model.main.0.weight`, or `generator.main.0.weight` beside `discriminator.main.0.weight`.
    """
    groups: dict[str, dict[str, Any]] = {}
    for name, raw in network.table.items():
        head, dot, rest = name.partition(".")
        groups.setdefault(head if dot else "", {})[rest] = raw
    for head, table in groups.items():
        if head and (len(groups) == 1 or _may_generate(head)):
            path = f"{network.path}.{head}" if network.path else head
            part = replace(network, path=path, table=_unprefixed(table))
            yield part
            if depth < MAX_DEPTH:
                yield from _parts(part, depth + 1)


def _may_generate(name: str) -> bool:
    """Whether a name is that of a generator, or of an average."""
    words = _words(name)
    return bool(_GENERATOR.search(words) or _AVERAGED.search(words))


def _words(path: str) -> str:
    """A path as lower-case words: `models.generator_smooth` and `netG_state_dict` fall into their parts."""
    return re.sub(r"(?<=[a-z])([A-Z])(?=[a-z])", r"_\1", path.removesuffix("state_dict")).lower()


def _describe(file: ForeignFile, found: Sequence[Network]) -> str:
    """What a file holds, in one short line."""
    tables = [network for network in found if network.record is None]
    if not found:
        root = file.shallow(file.root)
        what = describe(root)
        if isinstance(root, dict) and root:
            what = f"a table of {', '.join(sorted(map(str, root))[:6])}"
        elif isinstance(root, list | tuple):
            what = f"a list of {len(root)}"
        return printable(f"{file.container}: {what}"[:300])
    shown = []
    for network in tables[:4]:
        names = ", ".join(sorted(network.table)[:3])
        shown.append(f"{len(network.table)} tensors in {network} ({names} ...)")
    shown += [f"{describe(network.record)} in {network}" for network in found if network.record is not None][:2]
    return printable(f"{file.container}: {'; '.join(shown)}"[:500])
