"""Claiming a folder: it must be new, or hold what the same plan made. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gsegkit.engine.choices import Choices, choose
from gsegkit.engine.plan import Plan, differences, renew
from gsegkit.errors import ConfigError, DataError, and_more
from gsegkit.plugins import Registry
from gsegkit.rundir import CONFIG_FILE, LOCK_FILE, PHOTOGRAPHS_FILE, RECIPE_FILE, RunFolder
from gsegkit.storage import atomic_write_json, read_json

MAX_DIFFERENCES = 5  # shown in the error


def claim_run(folder: RunFolder, choices: Choices, registry: Registry, update: bool) -> Choices:
    """Write config.json, unless the folder holds something else.

    Returns:
        The choices under which the folder's stages are kept: as they are stored there, where that means the same.

    Raises:
        ConfigError: the folder holds a run of another plan, and `update` is false.
        DataError: it is not empty and not a run folder.
    """
    if (folder.path / CONFIG_FILE).exists():
        stored = folder.read_config()
        choices = choices.as_recorded(stored, registry.available)
        new = renew(choices.plan.record(), choices.find)
        same = update or renew(stored, choices.find) == new
        changed = [] if same else differences(_written_out(stored, registry), new)
        if changed:
            raise ConfigError(
                f"run folder '{folder.path}' was made with other options ({and_more(changed, MAX_DIFFERENCES)})",
                "choose another --out, or add --update to remake what depends on the changed options",
            )
    elif any(child.name != LOCK_FILE for child in folder.path.iterdir()):
        raise DataError(f"folder '{folder.path}' is not empty and not a run folder", "choose another --out")
    folder.write_config(choices.plan.record())
    return choices


def _written_out(stored: Mapping[str, Any], registry: Registry) -> dict[str, Any]:
    """A stored plan in today's names, options that are new since then with their defaults."""
    return choose(Plan.from_record(stored, registry), registry).plan.record()


def claim_photographs(folder: RunFolder, contents: Mapping[str, str], update: bool) -> None:
    """Write photographs.json: which photographs the run's segmenter learns from, each with the hash of its bytes.

    Raises:
        ConfigError: the run was made with others, or one of them has changed since, and `update` is false.
    """
    path = folder.path / PHOTOGRAPHS_FILE
    old = read_json(path) if path.exists() else {}
    if old and not update:
        changed = [
            f"'{name}' has changed" for name in sorted(contents) if old.get(name, contents[name]) != contents[name]
        ]
        changed += [f"'{name}' is new" for name in sorted({*contents} - {*old})]
        changed += [f"'{name}' is gone" for name in sorted({*old} - {*contents})]
        if changed:
            raise ConfigError(
                f"the photographs are not those that run '{folder.path}' was made with: "
                f"{and_more(changed, MAX_DIFFERENCES)}",
                "put them back, or add --update to label them again and train on them",
            )
    atomic_write_json(path, dict(contents))


def claim_dataset(out: Path, recipe: Mapping[str, Any]) -> None:
    """Write recipe.json, unless the folder holds something else; two data sets are never mixed.

    Raises:
        ConfigError: the folder holds a data set of another recipe.
        DataError: it is not empty and holds no data set.
    """
    path = out / RECIPE_FILE
    if path.exists():
        if read_json(path) != recipe:
            raise ConfigError(f"'{out}' holds a data set made with other options", "choose another --out")
    elif out.exists() and any(out.iterdir()):
        raise DataError(f"folder '{out}' is not empty", "choose another --out")
    atomic_write_json(path, dict(recipe))
