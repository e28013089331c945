"""All checks that need no torch: do the parts exist, fit together, and have what they need? (levels 0 and 1)."""

from __future__ import annotations

import os
from pathlib import Path

from gsegkit.engine.choices import Choices, Problem
from gsegkit.engine.plan import Plan
from gsegkit.errors import CapabilityError
from gsegkit.plugins import Entry


def check(choices: Choices, out: Path | None = None) -> list[Problem]:
    """Run levels 0 (names, capabilities, inputs, folders) and 1 (options); returns ALL problems, not the first."""
    plan = choices.plan
    problems = list(choices.problems)
    for choice in choices.every:
        problems += _check_modules(choice.where, choice.entry)
    entries = {choice.where: choice.entry for choice in choices.every}
    problems += _check_capabilities(plan, entries)
    problems += _check_inputs(plan, entries)
    if plan.classes is not None and plan.classes.cut is not None and plan.rounds > 1:
        message = "class names belong to one fit of the extractor, and every round fits it anew"
        problems.append(Problem("classes", message, "name the clusters with --rounds 1"))
    if plan.shipped is not None and plan.train_generator:
        message = f"the names '{plan.shipped}' belong to generator weights as they ship, and this run trains its own"
        problems.append(Problem("classes", message, "omit --train-generator, or --classes"))
    problems += _check_folders(plan, out)
    return problems


def _check_modules(where: str, entry: Entry) -> list[Problem]:
    missing = entry.missing_modules()
    if not missing:
        return []
    remedy = f"pip install '{entry.component.extra or entry.dist}'"
    return [
        Problem(where, f"'{entry.component.name}' needs the package '{missing[0]}', which is not installed", remedy)
    ]


def _check_capabilities(plan: Plan, entries: dict[str, Entry]) -> list[Problem]:
    if "gen" not in entries:
        return []
    generator = entries["gen"].component
    problems = []
    for where, entry in entries.items():
        lacking = [need for need in entry.component.requires if need not in generator.provides]
        if where != "gen" and lacking:
            message = (
                f"{entry.component.kind} '{entry.component.name}' needs a generator with '{lacking[0]}', "
                f"and '{generator.name}' does not provide it"
            )
            problems.append(Problem(where, message, "gsegkit list shows what each generator provides"))
    if "seg" in entries and (told := _without_pairs(entries["seg"])):
        problems.append(Problem("seg", *told))
    if plan.train_generator and not _trainable(entries["gen"]):
        message = f"generator '{generator.name}' cannot be trained"
        problems.append(Problem("gen", message, "leave out --train-generator, or choose a trainable one"))
    return problems


def check_trainable(entry: Entry) -> None:
    """CapabilityError for a generator that cannot be trained."""
    if not _trainable(entry):
        message = f"generator '{entry.component.name}' cannot be trained"
        raise CapabilityError(message, "gsegkit list shows which ones are trainable")


def check_learns_from_pairs(entry: Entry) -> None:
    """CapabilityError for a segmenter that learns from photographs alone, or from nothing."""
    if told := _without_pairs(entry):
        raise CapabilityError(*told)


def _without_pairs(entry: Entry) -> tuple[str, str] | None:
    name = entry.component.name
    if "without-pairs" not in entry.component.provides:
        return None
    return f"segmenter '{name}' does not learn from pairs", f"gsegkit fit {name} --data PHOTOS --out FOLDER"


def _trainable(entry: Entry) -> bool:
    return "trainable" in entry.component.provides


def _check_inputs(plan: Plan, entries: dict[str, Entry]) -> list[Problem]:
    if plan.images is not None:
        return []
    problems = []
    for where, entry in entries.items():
        if "images" in entry.component.inputs:
            message = f"{entry.component.kind} '{entry.component.name}' needs a folder of photographs"
            problems.append(Problem(where, message, "give one with --images FOLDER"))
    if plan.train_generator:
        problems.append(Problem("gen", "training the generator needs photographs", "give them with --images FOLDER"))
    return problems


def _check_folders(plan: Plan, out: Path | None) -> list[Problem]:
    problems = []
    for name, folder in (("images", plan.images), ("data", plan.data), ("photos", plan.photos)):
        if folder is None or folder.is_dir():
            continue
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        problems.append(Problem(name, f"folder '{folder}' {what}", "check the path"))
    if plan.selftrain is not None and plan.photos is None:
        message = "options of the self-training were given, but no photographs to train on"
        problems.append(Problem("selftrain", message, "give them with --photos FOLDER"))
    if out is not None:
        problems += _check_writable(out)
    return problems


def _check_writable(out: Path) -> list[Problem]:
    """The nearest existing parent decides whether the run folder can be made."""
    parent = out
    while not parent.exists() and parent != parent.parent:
        parent = parent.parent
    if not parent.is_dir():
        return [Problem("out", f"'{out}' cannot be a run folder: '{parent}' is a file", "choose another --out")]
    if not os.access(parent, os.W_OK | os.X_OK):
        return [Problem("out", f"run folder '{out}' cannot be written", "choose another --out")]
    return []
