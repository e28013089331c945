"""Commands that look: list, show, samples, doctor."""

from __future__ import annotations

import dataclasses
import difflib
import importlib.util
import shutil
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from gsegkit.cli.option_table import option_table
from gsegkit.cli.options import AsJson, console, print_json
from gsegkit.cli.terminal import make_table, size
from gsegkit.engine.environment import environment
from gsegkit.errors import GsegkitError, UnknownPluginError, plural
from gsegkit.plugins import KIND_ALIASES, KINDS, KNOWN_PLUGINS, SHORT_KINDS, Entry, Registry, installed
from gsegkit.records.files import read_json

PACKAGES = ("torch", "torchvision", "timm", "segmentation_models_pytorch", "kornia", "faiss", "sklearn", "onnxruntime")


def list_components(
    kind: Annotated[str | None, typer.Argument(help="Only this kind.")] = None,
    all: Annotated[bool, typer.Option("--all", help="Also first-party parts that are not installed.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the installed parts, and the plugins that failed to load."""
    registry = installed()
    kinds = [KIND_ALIASES.get(kind, kind)] if kind else list(KINDS)
    if kind and kinds[0] not in KINDS:
        raise GsegkitError(f"no component kind '{kind}'", f"kinds: {', '.join(KINDS)}")
    if as_json:
        print_json(_listing(registry, kinds, all))
        return
    for name in kinds:
        entries = registry.of_kind(name)
        absent = _absent(registry, name) if all else []
        if not entries and not absent:
            continue
        table = make_table(Text.assemble((name, "bold"), "  ", (KINDS[name], "dim")), "", "", "", "")
        table.show_header = False
        for entry in entries:
            table.add_row(f"  {entry.component.name}", entry.component.summary, _state(entry), Text(entry.dist, "dim"))
        for missing, dist in absent:
            cells = (f"  {missing}", "not installed", f"pip install {dist}")
            table.add_row(*(Text(cell, "dim") for cell in cells), "")
        console.print(table)
    for (clash_kind, clash), group in registry.conflicts().items():
        names = " or ".join(entry.full_name for entry in group)
        console.print(Text("clash:", "yellow"), f"{clash_kind} '{clash}' is provided twice; write {names}")
    for failure in registry.failures:
        console.print(Text("broken:", "red"), f"{failure.dist} ({failure.entry_point}): {failure.reason}")
    if registry.failures:
        console.print("gsegkit doctor shows their tracebacks")


def show(
    kind: Annotated[str, typer.Argument(metavar="[KIND]", help="generator, extractor, refiner, segmenter ...")],
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Name of the component.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Describe one part: what it does, its paper and licence, what it needs, and all its options."""
    registry = installed()
    entry = registry.find(kind, name) if name is not None else _only(registry, kind)
    options = option_table(entry.config_class())
    component = entry.component
    card = _card(entry)
    if as_json:
        shown = {**_row(entry), "options": [dataclasses.asdict(option) for option in options]}
        print_json({**shown, "card": card} if card else shown)
        return
    console.print(Text(component.name, "bold"), f" {component.kind} of {entry.dist} {entry.version}")
    facts: dict[str, str] = {
        "": component.summary,
        "paper": component.paper,
        "licence": component.licence,
        "provides": ", ".join(component.provides),
        "needs": ", ".join((*component.requires, *component.inputs)),
        "missing": ", ".join(entry.missing_modules()),
    }
    for label, text in facts.items():
        if text:
            console.print(f"  {label + ':' if label else ''} {text}")
    for label, value in card.items():
        if isinstance(value, str | int | float):
            console.print(Text(f"  {label.replace('_', ' ')}: {value}"))
    if options:
        table = make_table("", "option", "type", "default", "meaning")
        for option in options:
            table.add_row(option.name, option.type, option.default, option.help)
        console.print(table)
        prefix = SHORT_KINDS.get(component.kind, component.kind)
        prefix = f"refine.{component.name}" if component.kind == "refiner" else prefix
        prefix = "data_reader" if component.kind == "dataset" else prefix
        chosen = f"-o {prefix}.name={component.name} " if component.kind == "dataset" else ""
        console.print(f"set one with {chosen}-o {prefix}.{options[0].name}=VALUE")


def _card(entry: Entry) -> dict[str, Any]:
    """The card of weights that ship with a plugin: data, attribution, training; {} for other parts."""
    if entry.component.kind != "weights":
        return {}
    from gsegkit.parts import CARD_FILE  # imports torch

    path = entry.build().folder() / CARD_FILE
    card = read_json(path) if path.exists() else None
    said = ("format", "name", "licence")  # by the component
    return {name: value for name, value in card.items() if name not in said} if isinstance(card, dict) else {}


def _only(registry: Registry, name: str) -> Entry:
    """The component of that name, of the first kind that has one; the others are named."""
    base = name.partition("@")[0]
    there = {entry.component.kind for entry in registry.entries if entry.component.name == base}
    kinds = [kind for kind in KINDS if kind in there]
    for kind in kinds[1:]:
        console.print(f"also: gsegkit show {kind} {base}")
    if not kinds:
        near = difflib.get_close_matches(base, sorted({entry.component.name for entry in registry.entries}), n=1)
        hint = f"did you mean '{near[0]}'?" if near else "gsegkit list shows what is"
        raise UnknownPluginError(f"no component '{name}' is installed", hint)
    return registry.find(kinds[0], name)


def samples(
    name: Annotated[str | None, typer.Argument(help="Which photographs; without it, what there is.")] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="FOLDER", help="Where to copy them.")] = None,
    as_json: AsJson = False,
) -> None:
    """Copy photographs that ship with the zoo, to try a segmenter on. Without a name: list them."""
    if name is None:
        list_components("samples", as_json=as_json)
        return
    if out is None:
        raise GsegkitError("where the photographs go was not given", f"gsegkit samples {name} --out photos")
    from gsegkit import api

    copied = api.copy_samples(name, out)
    if as_json:
        print_json({"folder": str(out), "photographs": [str(path) for path in copied]})
        return
    console.print(
        f"{plural(len(copied), 'photograph')} in {out}; {out}/ATTRIBUTION.txt says whose they are", soft_wrap=True
    )
    console.print(f"next: gsegkit predict RUN {out} --out masks", soft_wrap=True)


def doctor(as_json: AsJson = False) -> None:
    """Report on this installation: versions, devices, disk, broken plugins with their tracebacks."""
    registry = installed()
    facts: dict[str, Any] = {**environment(), **_packages(), **_devices()}
    facts["free disk here"] = size(shutil.disk_usage(".").free)
    broken = [
        {"dist": f.dist, "entry point": f.entry_point, "error": "".join(traceback.format_exception(f.error))}
        for f in registry.failures
    ]
    unusable = [
        {"kind": e.component.kind, "name": e.component.name, "missing": e.missing_modules()}
        for e in registry.entries
        if e.missing_modules()
    ]
    if as_json:
        print_json({**facts, "plugins": len(registry.entries), "broken": broken, "unusable": unusable})
        return
    for name, value in facts.items():
        console.print(f"{name:28} {value}")
    for item in unusable:
        console.print(f"{item['kind']} {item['name']} lacks {', '.join(item['missing'])}")
    for plugin in broken:
        console.print(Text("broken:", "red"), f"{plugin['dist']} ({plugin['entry point']})")
        console.print(plugin["error"])
    if not broken:
        console.print(f"all {len(registry.entries)} components of the installed plugins were loaded")


def _listing(registry: Registry, kinds: list[str], all: bool) -> dict[str, Any]:
    listing: dict[str, Any] = {
        "components": [_row(entry) for kind in kinds for entry in registry.of_kind(kind)],
        "clashes": [[kind, name] for kind, name in registry.conflicts()],
        "broken": [{"dist": f.dist, "entry_point": f.entry_point, "reason": f.reason} for f in registry.failures],
    }
    if all:
        listing["not_installed"] = [
            {"kind": kind, "name": name, "dist": dist} for kind in kinds for name, dist in _absent(registry, kind)
        ]
    return listing


def _row(entry: Entry) -> dict[str, Any]:
    row = dataclasses.asdict(entry.component)
    return {**row, "dist": entry.dist, "version": entry.version, "missing": entry.missing_modules()}


def _absent(registry: Registry, kind: str) -> list[tuple[str, str]]:
    have = {entry.component.name for entry in registry.of_kind(kind)}
    return sorted((name, dist) for (k, name), dist in KNOWN_PLUGINS.items() if k == kind and name not in have)


def _state(entry: Entry) -> Text:
    missing = entry.missing_modules()
    if missing:
        return Text(f"needs {missing[0]}", "yellow")
    return Text(", ".join(entry.component.provides), "dim")


def _packages() -> dict[str, str]:
    from importlib import metadata

    by_package = metadata.packages_distributions()
    found = {}
    for name in PACKAGES:
        dists = by_package.get(name, [])
        if importlib.util.find_spec(name) is None or not dists:
            found[name] = "not installed"
        else:
            found[name] = ", ".join(sorted({f"{dist} {metadata.version(dist)}" for dist in dists}))
    return found


def _devices() -> dict[str, Any]:
    try:
        import torch

        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        return {"cuda devices": ", ".join(names) or "none", "cpu threads": torch.get_num_threads()}
    except Exception as error:  # a broken torch must not break the command that diagnoses it
        return {"torch": f"broken: {type(error).__name__}: {error}"}
