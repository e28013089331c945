"""Claiming a folder: it must be new, or hold what the same work made. Imports no torch.

One notion of "the same work" for all commands that write a folder: its record (options, seeds) and the hashes of what
it reads. Another record, or other contents, is refused by name, and made again with --update.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import StrictStr

from gsegkit.engine.choices import Choices, choose
from gsegkit.engine.plan import NATIVE, Plan, differences, renew
from gsegkit.errors import ArtifactError, ConfigError, DataError, and_more
from gsegkit.exports.places import refuse_stage
from gsegkit.plugins import Registry
from gsegkit.records.files import Record, damaged_file
from gsegkit.rundir import (
    CHECKPOINT_FILE,
    CONFIG_FILE,
    HASHES_FILE,
    IMAGES_FILE,
    JOBS_FOLDER,
    LOCK_FILE,
    METRICS_FILE,
    PHOTOGRAPHS_FILE,
    RECIPE_FILE,
    WORK_FILE,
    RunFolder,
    stage_folders,
)
from gsegkit.storage import atomic_write_json, is_temporary, read_json

MAX_DIFFERENCES = 5  # shown in the error
TRAINED = ("component.json", "state.safetensors", CHECKPOINT_FILE, METRICS_FILE)  # what a training leaves
TRAINING_MARKS = (WORK_FILE, "component.json", CHECKPOINT_FILE)  # one of them shows that a folder is a training's
Renew = Callable[[Mapping[str, Any]], Mapping[str, Any]]


def check_own(out: Path, marks: tuple[str, ...], what: str) -> None:
    """Look at an output folder before anything is written or removed there.

    Args:
        out: the folder.
        marks: files of which one shows that it is ours.
        what: it then is, for the message.

    Raises:
        DataError: it is a file, belongs to a run's stage, or holds something else.
    """
    refuse_stage(out)
    if out.exists() and not out.is_dir():
        raise DataError(f"'{out}' is a file, not a folder", "choose another --out")
    if not out.exists() or any((out / mark).is_file() for mark in marks):
        return
    ours = (LOCK_FILE, HASHES_FILE, JOBS_FOLDER)
    if any(child.name not in ours and not is_temporary(child) for child in out.iterdir()):
        raise DataError(f"folder '{out}' is not empty and not {what}", "choose another --out")


# ---- runs ----------------------------------------------------------------------------------------------------------


def check_own_run(out: Path) -> None:
    """See `check_own`; a config.json must be a plan's, since other software writes files of this name too."""
    check_own(out, (CONFIG_FILE,), "a run folder")
    if (out / CONFIG_FILE).is_file():
        stored = read_json(out / CONFIG_FILE)
        if not isinstance(stored, dict) or not all(isinstance(stored.get(part), dict) for part in ("gen", "seg")):
            raise DataError(f"'{out / CONFIG_FILE}' is not the plan of a run", "choose another --out")


def claim_run(folder: RunFolder, choices: Choices, registry: Registry, update: bool) -> Choices:
    """Write config.json, unless the folder holds something else.

    Returns:
        The choices under which the folder's stages are kept: as they are stored there, where that means the same.

    Raises:
        ConfigError: the folder holds a run of another plan, and `update` is false.
        DataError: it is not empty and not a run folder.
    """
    check_own_run(folder.path)
    if (folder.path / CONFIG_FILE).exists():
        stored = folder.read_config()
        choices = choices.as_recorded(stored, registry.available)
        new = renew(choices.plan.record(), choices.find)
        same = update or renew(stored, choices.find) == new
        unsaid = {"format": NATIVE}  # where a plan does not name it
        changed = [] if same else differences(unsaid | _written_out(stored, registry), unsaid | new)
        if changed:
            raise ConfigError(
                f"run folder '{folder.path}' was made with other options ({and_more(changed, MAX_DIFFERENCES)})",
                "choose another --out, or add --update to remake what depends on the changed options",
            )
    folder.write_config(choices.plan.record())
    return choices


def _written_out(stored: Mapping[str, Any], registry: Registry) -> dict[str, Any]:
    """A stored plan in today's names, options that are new since then with their defaults."""
    return choose(Plan.from_record(stored, registry), registry).plan.record()


def claim_images(folder: RunFolder, contents: Mapping[str, str], update: bool) -> str:
    """Write images.json: which images the run is fitted to, each with the hash of its bytes.

    Returns:
        The revision of the contents, for the keys of the stages. It is "" for a run that an earlier version made,
        whose keys hold names and sizes only, until one of its images changes.

    Raises:
        ConfigError: the run was made with others, or one of them has changed since, and `update` is false.
    """
    path = folder.path / IMAGES_FILE
    new = hashlib.sha256(json.dumps(sorted(contents.items())).encode()).hexdigest()[:16]
    record = _earlier(path, update, {"files": {}, "revision": ""})
    old, revision = (record.get("files"), record.get("revision")) if isinstance(record, dict) else (None, None)
    if isinstance(old, dict) and isinstance(revision, str):
        changed = check_contents(f"run '{folder.path}'", "images", old, contents, update)
        revision = new if changed else revision
    else:
        revision = "" if stage_folders(folder.path) else new
    atomic_write_json(path, {"revision": revision, "files": dict(contents)})
    return revision


class _Images(Record):
    """images.json, of which others than its writer need this."""

    revision: StrictStr


def images_revision(folder: RunFolder) -> str:
    """What `claim_images` returned to the process that keeps the run; ArtifactError when it did not."""
    return _Images.read(folder.path / IMAGES_FILE).revision


def _earlier(path: Path, update: bool, lost: Mapping[str, Any]) -> Any:
    """What an earlier call wrote; {} where it wrote nothing, and with `update` `lost` where it cannot be read.

    Raises:
        ArtifactError: it cannot be read, and `update` is false.
    """
    if not path.exists():
        return {}
    remedy = "choose another --out, or add --update to make again what depends on it"
    try:
        with damaged_file(path, remedy):
            return read_json(path)
    except ArtifactError:
        if not update:
            raise
        return lost


class _Photographs(Record):
    """photographs.json: name of a photograph -> hash of its bytes."""

    hashes: dict[StrictStr, StrictStr]


def claim_photographs(folder: RunFolder, contents: Mapping[str, str], update: bool) -> None:
    """Write photographs.json: which photographs the run's segmenter learns from, each with the hash of its bytes.

    Raises:
        ConfigError: the run was made with others, or one of them has changed since, and `update` is false.
    """
    path = folder.path / PHOTOGRAPHS_FILE
    old = _Photographs.parse({"hashes": _earlier(path, update, {})}, path).hashes
    if old:
        check_contents(f"run '{folder.path}'", "photographs", old, contents, update)
    atomic_write_json(path, dict(contents))


def check_contents(
    whose: str, what: str, old: Mapping[str, str], contents: Mapping[str, str], update: bool
) -> list[str]:
    """How contents differ from those of before, in words; ConfigError unless they are the same or `update` is true."""
    changed = [f"'{name}' has changed" for name in sorted(contents) if old.get(name, contents[name]) != contents[name]]
    changed += [f"'{name}' is new" for name in sorted({*contents} - {*old})]
    changed += [f"'{name}' is gone" for name in sorted({*old} - {*contents})]
    if changed and not update:
        raise ConfigError(
            f"the {what} are not those that {whose} was made with: {and_more(changed, MAX_DIFFERENCES)}",
            "put them back, choose another --out, or add --update to make again what depends on them",
        )
    return changed


# ---- trained parts ---------------------------------------------------------------------------------------------------


def claim_work(
    folder: RunFolder, work: Mapping[str, Any], contents: Mapping[str, str], update: bool, renew: Renew = dict
) -> str:
    """Write work.json, unless the folder holds a part that was trained otherwise: that is never continued.

    Args:
        folder: of the trained part; see `check_own`.
        work: JSON-ready: the part, its options, the seed.
        contents: name -> hash of the data that it learns from.
        update: drop what was trained otherwise, and train anew.
        renew: brings a stored record to today's names of options.

    Returns:
        A warning, or "".

    Raises:
        ConfigError: it was made otherwise, or nothing says how, and `update` is false.
    """
    path = folder.path / WORK_FILE
    record = _earlier(path, update, {})
    old, files = (record.get("work"), record.get("contents")) if isinstance(record, dict) else (None, None)
    finished, begun = ((folder.path / name).exists() for name in ("component.json", CHECKPOINT_FILE))
    warning = ""
    if isinstance(old, dict) and isinstance(files, dict):
        changed = differences(dict(renew(old)), json.loads(json.dumps(work)))
        if changed and not update:
            raise ConfigError(
                f"'{folder.path}' was trained with other options ({and_more(changed, MAX_DIFFERENCES)})",
                "choose another --out, or add --update to train anew",
            )
        changed += check_contents(f"'{folder.path}'", "data", files, contents, update)
    else:
        changed = ["unknown"] if finished or (begun and update) else []
        if begun and not finished and not update:  # perhaps days of work, and nothing says that it is another's
            warning = f"'{folder.path}' holds a training of an earlier version, which noted neither data nor options"
        if changed and not update:
            raise ConfigError(
                f"'{folder.path}' does not say what it was trained on (an earlier version made it)",
                "choose another --out, or add --update to train anew",
            )
    if changed:  # before the new record: a kill in between leaves the old record without its files
        for name in TRAINED:
            (folder.path / name).unlink(missing_ok=True)
    atomic_write_json(path, {"work": dict(work), "contents": dict(contents)})
    return warning


def claim_dataset(out: Path, recipe: Mapping[str, Any], update: bool = False) -> None:
    """Write recipe.json, unless the folder holds something else; two data sets are never mixed.

    Raises:
        ConfigError: the folder holds a data set of another recipe, and `update` is false.
        DataError: it is not empty and holds no data set.
    """
    check_own(out, (RECIPE_FILE,), "a folder of pairs")
    path = out / RECIPE_FILE
    if path.exists():
        old = _earlier(path, update, {})
        old = {"format": NATIVE} | (old if isinstance(old, dict) else {})  # an earlier version does not say
        new = {name: value for name, value in recipe.items() if name in old or name != "generator"}  # older: without
        changed = differences(old, json.loads(json.dumps(new)))
        if changed and not update:
            raise ConfigError(
                f"'{out}' holds a data set made with other options ({and_more(changed, MAX_DIFFERENCES)})",
                "choose another --out, or add --update to make it again",
            )
        for shard in out.glob("shard-*") if changed else ():
            shard.unlink()
    atomic_write_json(path, dict(recipe))
