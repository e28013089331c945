"""What a run folder says of itself. Anything may be missing or damaged: then it is left out, and said so."""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

from gsegkit.context import read_metrics
from gsegkit.engine.next_steps import Found, in_a_line, next_commands
from gsegkit.engine.plan import PART_KINDS
from gsegkit.errors import ArtifactError
from gsegkit.parts import COMPONENT_FILE
from gsegkit.progress import duration, number
from gsegkit.rundir import (
    CONFIG_FILE,
    METRICS_FILE,
    RUN_FILE,
    STAGE_FILE,
    WORK_FILE,
    RunFolder,
    split_round,
    stage_folders,
)
from gsegkit.storage import read_json

HEADLINES = ("miou", "miou_greedy", "iou_foreground", "accuracy")  # the first that is there goes to the top
MOST_PARTS = 32  # of a legend
MOST_CLASSES = 255
IN_WORDS = {"miou": "mean IoU", "miou_greedy": "mean IoU", "iou_foreground": "IoU of the foreground"}
_BASELINE = re.compile(r"baseline_(.+)_iou")  # foreground IoU of a trivial predictor, shown beside the run's own


@dataclass
class Source:
    """A run folder, and what was found to be wrong with it while it was read."""

    folder: Path
    problems: list[str] = field(default_factory=list)

    def json(self, *parts: str) -> dict[str, Any]:
        """A JSON object; {} when the file is missing, or damaged (which is noted)."""
        path = self.folder.joinpath(*parts)
        if not path.exists():
            return {}
        try:
            return as_dict(read_json(path))
        except ArtifactError as error:
            self.problems.append(error.message)
            return {}


def as_dict(value: Any) -> dict[str, Any]:
    """`value` if it is a dictionary, else {}: files may hold anything."""
    return value if isinstance(value, dict) else {}


def as_list(value: Any) -> list[Any]:
    """`value` if it is a list, else []."""
    return value if isinstance(value, list) else []


def is_number(value: Any) -> TypeGuard[int | float]:
    """True for int and float, not for bool."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def show(value: Any) -> str:
    """A value for people."""
    if value is None:
        return "—"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return number(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


# ---- what was run ------------------------------------------------------------------------------------------------


def overview(source: Source) -> dict[str, Any]:
    """Title, status, command, parts with their options, environment."""
    config, made = _config(source)
    record = source.json(RUN_FILE)
    command, found = record.get("command", ""), _found(source, record)
    parts = [_part(kind, as_dict(config.get(where))) for where, kind in PART_KINDS.items() if config.get(where)]
    refiners = [_part("refiner", as_dict(spec)) for spec in as_list(config.get("refine"))]
    at = next((i for i, part in enumerate(parts) if part["kind"] == "segmenter"), len(parts))
    shown = {"generator", "extractor", "segmenter"}
    skipped = {*PART_KINDS, "refine", "classes"}
    environment = {
        "status",
        "command",
        "warnings",
        "licences",
        "error",
        "updated",
        "seconds",
        "started",
        "learned",
        "classes",
        "found",
        "colours",
    }
    return {
        "title": " → ".join(part["name"] for part in parts if part["kind"] in shown) or source.folder.name,
        "name": source.folder.resolve().name,
        "status": show(record.get("status", "unknown")),
        "error": show(record["error"]) if record.get("error") else "",
        "updated": show(record.get("updated")),
        "command": command if isinstance(command, str) else " ".join(map(str, as_list(command))),
        "replay": shlex.join(made),
        "generated": made[1] == "run",
        "parts": parts[:at] + refiners + parts[at:],
        "settings": [(name, show(value)) for name, value in config.items() if name not in skipped]
        + (_names(config) or _names(record)),
        "environment": [(name, show(value)) for name, value in record.items() if name not in environment],
        "evaluate": shlex.join(["gsegkit", "evaluate", str(source.folder), "--data", "FOLDER"]),
        "draw": shlex.join(["gsegkit", "report", str(source.folder)]),
        "scored_photographs": bool(config.get("data")),
        "classes": [show(name) for name in found.get("classes", ())][:MOST_CLASSES],
        "photographs": bool(config.get("data") or config.get("images") or config.get("photos") or found.get("samples")),
        "found": in_a_line(found) if found else "",
        "shown_parts": [show(name) for name in found.get("parts", ())][:MOST_PARTS],
        "next": next_commands(str(source.folder), found) if found else [],
        "device": show(record.get("device", config.get("device"))),
        "seconds": record.get("seconds"),
        "learned": as_dict(record.get("learned")),
        "licences": _licences(record),
        "warnings": [show(warning) for warning in as_list(record.get("warnings"))],
    }


def _config(source: Source) -> tuple[dict[str, Any], list[str]]:
    """The plan of a run, or what made the one part in a folder of `gsegkit fit`; and the command that repeats it."""
    folder = source.folder
    if (folder / CONFIG_FILE).exists() or not (folder / COMPONENT_FILE).exists():
        again = ["gsegkit", "run", "--config", f"{folder}/{CONFIG_FILE}", "--out", "NEW_FOLDER"]
        return RunFolder(folder).read_config(), again
    part, work = source.json(COMPONENT_FILE), as_dict(source.json(WORK_FILE).get("work"))
    own = {name: work[name] for name in ("seed", "labels") if work.get(name)}
    photographs = source.json(RUN_FILE).get("photographs")
    own |= {"photos": photographs} if isinstance(photographs, str) else {}
    data = ["--data", own["photos"]] if "photos" in own else []
    flags = [word for name in ("labels", "seed") if name in own for word in (f"--{name}", show(own[name]))]
    again = ["gsegkit", "fit", show(part.get("name")), *data, *flags, "--out", "NEW_FOLDER"]
    options = as_dict(part.get("config"))
    again += [
        word for name, value in options.items() if value is not None for word in ("-o", f"seg.{name}={show(value)}")
    ]
    return {"seg": {"name": part.get("name"), "options": options}, **own}, again


def _found(source: Source, record: Mapping[str, Any]) -> dict[str, Any]:
    """What the run found; {} when it is missing or damaged (which is noted)."""
    if not record.get("found"):
        return {}
    try:
        return Found.parse(record["found"], source.folder / RUN_FILE).model_dump()
    except ArtifactError as error:
        source.problems.append(error.message)
        return {}


def _part(kind: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    options = [(name, show(value)) for name, value in as_dict(spec.get("options")).items()]
    return {"kind": kind, "name": show(spec.get("name")), "options": options}


def _names(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The class names of a run as one setting; [] without."""
    record = as_dict(config.get("classes"))
    classes = [as_dict(entry) for entry in as_list(record.get("classes"))]
    if not classes:
        return []
    parts = [f"{show(c.get('name'))} <- {', '.join(map(show, as_list(c.get('clusters'))))}" for c in classes]
    used = as_list(record.get("labels_used"))
    return [("classes", "; ".join(parts) + (f" (decided on {len(used)} annotated images)" if used else ""))]


def _licences(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = [row for row in as_list(record.get("licences")) if isinstance(row, list) and len(row) == 2]
    return [(show(what), show(licence) if licence else "not stated") for what, licence in rows]


# ---- stages ------------------------------------------------------------------------------------------------------


def latest(folder: Path, base: str) -> Path:
    """The folder of a stage's last round."""
    rounds = [path for path in stage_folders(folder) if split_round(path.name)[0] == base]
    return rounds[-1] if rounds else folder / base


def timings(source: Source) -> list[dict[str, Any]]:
    """Seconds and facts of every stage, with its share of the whole."""
    rows: list[dict[str, Any]] = []
    for path in stage_folders(source.folder):
        record = source.json(path.name, STAGE_FILE)
        seconds = record.get("seconds")
        facts = [(name, show(value)) for name, value in as_dict(record.get("facts")).items()]
        seconds = float(seconds) if is_number(seconds) and seconds >= 0 else 0.0
        rows.append({"name": path.name, "done": bool(record), "seconds": seconds, "facts": facts})
    total = sum(row["seconds"] for row in rows) or 1.0
    for row in rows:
        row["share"] = round(100 * row["seconds"] / total, 1)
        row["time"] = duration(row["seconds"]) if row["done"] else "not finished"
    return rows


def curves(source: Source) -> list[tuple[str, dict[str, dict[str, list[tuple[float, float]]]]]]:
    """Per stage: chart name -> line name -> points. `val_loss` is drawn with `loss`."""
    found = []
    for path in stage_folders(source.folder):
        charts: dict[str, dict[str, list[tuple[float, float]]]] = {}
        try:
            rows = [as_dict(row) for row in read_metrics(path / METRICS_FILE)]
        except (OSError, ValueError) as error:
            source.problems.append(f"{path.name}/{METRICS_FILE} cannot be read: {error}")
            continue
        for row in rows:
            step = row.get("step")
            for name, value in row.items():
                if name != "step" and is_number(step) and is_number(value) and math.isfinite(step + value):
                    chart = charts.setdefault(re.sub(r"^(val|valid|train)_", "", name), {})
                    chart.setdefault(name, []).append((float(step), float(value)))
        if charts:
            found.append((path.name, charts))
    return found


# ---- numbers -----------------------------------------------------------------------------------------------------


def metrics(source: Source) -> dict[str, Any] | None:
    """The evaluation: rows with definitions and baselines, classes, images; None when nothing was scored."""
    record = source.json("report", "metrics.json")
    if not record:
        return None
    definitions = as_dict(record.get("definitions"))
    baselines = {name: as_dict(row) for name, row in as_dict(record.get("baselines")).items()}
    notes = [show(note) for note in as_list(record.get("notes"))]
    names = [name for name, value in record.items() if value is None or is_number(value)]
    for name in [name for name in names if _BASELINE.fullmatch(name)]:
        names.remove(name)
        label = _BASELINE.fullmatch(name)[1].replace("_", " ")  # type: ignore[index]
        baselines.setdefault(label, {})["iou_foreground"] = record[name]
        if name in definitions:
            notes.append(f"{label}: {show(definitions[name])}")
    rows = [
        {
            "name": name,
            "value": show(record[name]),
            "baselines": [show(row.get(name)) if name in row else "" for row in baselines.values()],
            "definition": show(definitions.get(name, "")),
        }
        for name in names
    ]
    headline = next((name for name in (*HEADLINES, *names) if is_number(record.get(name))), None)
    per_image = {name: as_dict(row) for name, row in as_dict(record.get("per_image")).items()}
    return {
        "rows": rows,
        "baselines": list(baselines),
        "headline": (headline, record[headline]) if headline else None,
        "numbers": {name: record[name] for name in names},
        "trivial": {label: row.get("iou_foreground") for label, row in baselines.items()},
        "per_class": _per_class(as_dict(record.get("per_class"))),
        "per_image": per_image,
        "notes": notes,
    }


def _per_class(record: Mapping[str, Any]) -> dict[str, Any]:
    rows = {name: as_dict(row) for name, row in record.items()}
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    table = [(name, [show(row.get(column)) for column in columns]) for name, row in rows.items()]
    return {"columns": columns, "rows": table}


def image_columns(per_image: Mapping[str, Mapping[str, Any]]) -> dict[str, list[float]]:
    """Metric name -> its finite values over the images."""
    columns: dict[str, list[float]] = {}
    for row in per_image.values():
        for name, value in row.items():
            if is_number(value) and math.isfinite(value):
                columns.setdefault(name, []).append(float(value))
    return columns
