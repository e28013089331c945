"""The page of a comparison: one file, no network, no script."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from gsegkit.comparing.material import Material
from gsegkit.comparing.methods import LeftOut
from gsegkit.comparing.scores import Row
from gsegkit.comparing.validated import CRITERIA, RESULT, SETS, SORTED_BY
from gsegkit.comparing.verdict import taken
from gsegkit.report.pictures import image_uri, legend, pair_of
from gsegkit.storage import atomic_write

PAGE_FILE = "index.html"
SHOWN = 12  # photographs
SIDE = 160  # pixels of the longer side


def write_page(
    folder: Path, material: Material, rows: Sequence[Row], left_out: Sequence[LeftOut], says: Sequence[str],
    notes: Sequence[str],
) -> Path:  # fmt: skip
    """Draw the same photographs under every method.

    Args:
        folder: where the page goes.
        material: the photographs.
        rows: the best first.
        left_out: what is not compared.
        says: sentences for the top.
        notes: what else is worth knowing.

    Returns:
        The page.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    source = files("gsegkit.comparing").joinpath("page.html.j2").read_text(encoding="utf-8")
    style = files("gsegkit").joinpath("style.css").read_text(encoding="utf-8")
    text = environment.from_string(source).render(
        style=Markup(style), version=version("gsegkit"), says=list(says), rows=[_line(row, rows) for row in rows],
        left_out=left_out, notes=notes, shown=_photographs(material, rows), truth=bool(material.masks),
        parts=any(row.miou is not None for row in rows), count=len(material), labelled=len(material.few),
        criteria=CRITERIA, sorted_by=SORTED_BY, sets=SETS, result=RESULT,
        legend_entries=legend(material.classes) if material.masks else [],
    )  # fmt: skip
    path = folder / PAGE_FILE
    atomic_write(path, text.encode())
    return path


def _line(row: Row, rows: Sequence[Row]) -> dict[str, Any]:
    """A row of the table of numbers, as texts."""
    return {
        "name": row.name, "taken": row is taken(rows), "ours": row.ours, "labels": row.labels,
        "seconds": f"{row.seconds:.3f}",
        "foreground": _text(row.foreground), "below_half": _percent(row.below_half), "miou": _text(row.miou),
        "criteria": {name: _text(row.criteria.get(name)) for name in CRITERIA},
    }  # fmt: skip


def _photographs(material: Material, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The shown photographs, each with the answers in the order of the rows."""
    places = material.scored or tuple(range(len(material)))
    places = tuple(places[i * len(places) // SHOWN] for i in range(SHOWN)) if len(places) > SHOWN else places
    found = []
    for i in places:
        pixels = material.pixels[i]
        answers = [pair_of(pixels, row.places[i], SIDE) for row in rows]
        truth = pair_of(pixels, material.masks[i], SIDE).mask if material.masks else None
        found.append({
            "name": material.names[i], "image": image_uri(pixels, SIDE), "truth": truth,
            "masks": [pair.mask for pair in answers], "width": answers[0].width, "height": answers[0].height,
        })  # fmt: skip
    return found


def _text(value: float | None) -> str:
    return "—" if value is None else f"{value:.3f}"


def _percent(value: float | None) -> str:
    return "—" if value is None else f"{100 * value:.0f} %"
