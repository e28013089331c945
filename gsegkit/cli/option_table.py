"""What options a component has, as people read it: name, type with bounds, default, help."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_origin

from pydantic import BaseModel

from gsegkit.config import Config


@dataclass(frozen=True)
class Option:
    """One row of an option table."""

    name: str
    type: str
    default: str
    help: str


def option_table(cls: type[Config]) -> list[Option]:
    """Describe every option of a model: name, type with bounds, default, help."""
    schema = cls.model_json_schema()
    rows = []
    for name, info in cls.model_fields.items():
        default = "required" if info.is_required() else _show(info.get_default(call_default_factory=True))
        kind = _type_name(schema["properties"][name], schema.get("$defs", {}), info.annotation)
        rows.append(Option(name, kind, default, info.description or ""))
    return rows


def _show(value: Any) -> str:
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    if isinstance(value, Path):
        value = str(value)
    return value if isinstance(value, str) and value else json.dumps(value, default=str)


_BOUNDS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}


def _type_name(schema: Mapping[str, Any], defs: Mapping[str, Any], annotation: Any = None) -> str:
    if "$ref" in schema:
        return _type_name(defs[schema["$ref"].rsplit("/", 1)[-1]], defs)
    if "enum" in schema or "const" in schema:
        return " | ".join(str(value) for value in schema.get("enum", [schema.get("const")]))
    if "anyOf" in schema:
        names = [_type_name(one, defs) for one in schema["anyOf"]]
        return " or ".join("none" if name == "null" else name for name in names)
    kind = str(schema.get("type", "any"))
    if kind == "array" and get_origin(annotation) is not None:
        items = schema.get("items")
        kind = f"list of {_type_name(items, defs)}" if isinstance(items, dict) else "list"
    bounds = [f"{sign} {schema[key]:g}" for key, sign in _BOUNDS.items() if key in schema]
    return f"{kind} {' and '.join(bounds)}".strip()
