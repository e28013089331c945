"""Stored parts (state.safetensors beside component.json): saving, finding, loading."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from gsegkit.errors import ArtifactError
from gsegkit.reading.scaling import DEFAULT_SCALING, check_scaling
from gsegkit.records.memory import Budget
from gsegkit.records.parts import Component, check_restored
from gsegkit.records.tensors import write_tensors
from gsegkit.records.text import MAX_SHOWN, cut
from gsegkit.rundir import CONFIG_FILE, last_round
from gsegkit.storage import atomic_file, atomic_write_json, file_hash, read_json
from gsegkit.tensors import load_state, read_safetensors

if TYPE_CHECKING:
    from gsegkit.interfaces import ModulePart

STATE_FILE = "state.safetensors"
COMPONENT_FILE = "component.json"
SCALING = "scaling"  # among the facts: that of `ModulePart`
CARD_FILE = "card.json"  # of weights that were imported, or ship with a plugin: where they come from


@dataclass(frozen=True)
class PartRecord:
    """What component.json says of a stored part, or what a run's plan says of a generator that it did not train.

    Attributes:
        source: where the record was found.
        folder: where the tensors lie; None when there are none: the part is what its options make it.
        kind: component kind.
        name: component name.
        config: its options, under the names of the time when it was stored.
        facts: see `ModulePart.facts`.
        sha256: of state.safetensors.
    """

    source: Path
    folder: Path | None
    kind: str
    name: str
    config: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    sha256: str = ""

    def tensors(self) -> dict[str, Tensor]:
        """The stored tensors; ArtifactError when they are missing, damaged, or not those of the record."""
        if self.folder is None:
            raise ArtifactError(f"'{self.source}' holds no tensors", "give the folder of a trained part")
        path = self.folder / STATE_FILE
        state, _ = read_safetensors(path)
        if self.sha256 != file_hash(path):
            raise ArtifactError(
                f"'{path}' does not match the hash in the record beside it", "one of the two files was changed"
            )
        return state


def save_part(part: ModulePart, folder: Path, kind: str, name: str) -> None:
    """Store a part: state.safetensors (its tensors), then component.json (kind, name, config, facts, hash)."""
    save_state(part.state_dict(), folder, kind, name, part.config.model_dump(mode="json"), all_facts(part))


def all_facts(part: ModulePart) -> dict[str, Any]:
    """What a part says of itself, and what photographs it learned from; `restore` takes it back."""
    return {**part.facts(), SCALING: part.scaling}


def save_state(
    state: Mapping[str, Tensor], folder: Path, kind: str, name: str, config: Mapping[str, Any], facts: Mapping[str, Any]
) -> None:
    """Store tensors as a part; see `save_part`."""
    with atomic_file(folder / STATE_FILE) as file:
        write_tensors(file, state)
    sha256 = file_hash(folder / STATE_FILE)
    record = {"kind": kind, "name": name, "config": dict(config), "facts": dict(facts), "sha256": sha256}
    atomic_write_json(folder / COMPONENT_FILE, record)


def load_part(part: ModulePart, folder: Path) -> None:
    """Load into a freshly constructed part what `save_part` stored.

    Raises:
        ArtifactError: files missing or damaged, or tensors that do not fit; names the first differences.
    """
    record = _read_record(folder)
    state = record.tensors()
    restore(part, record.facts, state, str(folder))
    load_state(part, state, str(folder / STATE_FILE))


def restore(part: ModulePart, facts: Mapping[str, Any], state: Mapping[str, Tensor], source: str) -> None:
    """Take back `all_facts` out of a file: ArtifactError when they do not describe a part with this state."""
    try:
        part.scaling = check_scaling(facts.get(SCALING, DEFAULT_SCALING))
        with Budget.of(state.values(), source):
            part.restore({name: value for name, value in facts.items() if name != SCALING})
        check_restored(part)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError) as error:
        first = cut((str(error).splitlines() or [""])[0], MAX_SHOWN)
        raise ArtifactError(
            f"the record of '{source}' does not describe a {type(part).__name__}: {type(error).__name__}: {first}",
            "it was changed, or belongs to another version; make it again",
        ) from None


# ---- finding -------------------------------------------------------------------------------------------------------


def holds_parts(path: Path) -> bool:
    """Whether `find_part` is the one to ask: a folder of gsegkit's, or the state file in one."""
    folder = path.parent if path.name == STATE_FILE else path
    own = (folder / COMPONENT_FILE).exists() or ((folder / CARD_FILE).exists() and (folder / STATE_FILE).exists())
    return own or (path.is_dir() and (bool(_plan(path)) or last_round(path, "generator", COMPONENT_FILE) is not None))


def find_part(folder: str | Path, kind: str) -> PartRecord:
    """The part of a kind that a folder holds.

    Args:
        folder: a part's own folder (of a round of a run, of `train-generator`, `train` or `import`, or of weights
            that ship with a plugin), its state.safetensors, or a run folder. Of a run it is the part of the last
            finished round; the generator of a run that did not train one is what its plan says.
        kind: component kind.

    Raises:
        ArtifactError: no such folder, no such part in it, a part of another kind, or a damaged record.
    """
    folder = Path(folder)
    if folder.name == STATE_FILE and not folder.is_dir():
        folder = folder.parent
    if (folder / COMPONENT_FILE).exists() or (folder / CARD_FILE).exists():
        record = _read_record(folder)
        if record.kind != kind:
            raise ArtifactError(f"'{folder}' holds a {record.kind}, not a {kind}", f"give a folder with a {kind}")
        return record
    plan = _plan(folder)
    if kind == "generator" and plan and not plan.get("train_generator"):
        return _generator_of_plan(folder, plan["gen"])
    more = (plan.get("selftrain") or {}).get("rounds", 0) if kind == "segmenter" else 0
    last = last_round(folder, kind, COMPONENT_FILE, int(plan.get("rounds", 1)) + int(more) if plan else None)
    if last is None:
        what = f"holds no trained {kind}" if folder.exists() else "does not exist"
        raise ArtifactError(f"'{folder}' {what}", "give a folder made by gsegkit run, train or train-generator")
    return _read_record(last)


def _plan(folder: Path) -> dict[str, Any]:
    """The plan of a run folder; {} when it is none (a config.json may be anything's)."""
    if not (folder / CONFIG_FILE).is_file():
        return {}
    plan = read_json(folder / CONFIG_FILE)
    whole = isinstance(plan, dict) and isinstance(plan.get("gen"), dict) and isinstance(plan.get("rounds", 1), int)
    return plan if whole else {}


def _generator_of_plan(folder: Path, spec: Mapping[str, Any]) -> PartRecord:
    name, options = spec.get("name"), spec.get("options", {})
    if not isinstance(name, str) or not isinstance(options, dict):
        raise ArtifactError(f"'{folder / CONFIG_FILE}' names no generator", "it was changed; make the run again")
    return PartRecord(folder, None, "generator", name, options)


def _read_record(folder: Path) -> PartRecord:
    component = (folder / COMPONENT_FILE).exists() or not (folder / CARD_FILE).exists()
    path = folder / (COMPONENT_FILE if component else CARD_FILE)
    table = read_json(path)
    if isinstance(table, dict) and not component:  # an import made before component.json was written beside the card
        facts = {name: table[name] for name in ("arch", "licence", "fit_rule") if name in table}
        table = {"kind": "generator", "name": table.get("generator"), "facts": facts, "sha256": table.get("sha256")}
    found = Component.parse(table, path)
    return PartRecord(path, folder, found.kind, found.name, found.config, found.facts, found.sha256)
