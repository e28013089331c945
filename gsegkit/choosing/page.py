"""The page on which a person chooses: one file that needs no server and no network."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from gsegkit.choosing.candidates import Candidate
from gsegkit.choosing.choice import FORMAT
from gsegkit.colours import display_palette
from gsegkit.comparing.material import Material
from gsegkit.comparing.methods import LeftOut
from gsegkit.images import shrunk_size
from gsegkit.report.pictures import image_uri, mask_uri
from gsegkit.storage import atomic_write

PAGE_FILE = "index.html"
SHOWN = 12  # photographs
SIDE = 160  # pixels of the longer side


def write_page(
    folder: Path, material: Material, candidates: Sequence[Candidate], left_out: Sequence[LeftOut], command: str
) -> Path:
    """Draw every candidate's answer to the same twelve photographs.

    Args:
        folder: where the page goes.
        material: the photographs.
        candidates: the best method first.
        left_out: methods that are not shown, and why.
        command: what to type when choice.json is saved.

    Returns:
        The page.
    """
    script = _asset("choose.js")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    style = files("gsegkit").joinpath("style.css").read_text(encoding="utf-8") + _asset("page.css")
    data = json.dumps(page_data(material, candidates, command), ensure_ascii=False).replace("<", "\\u003c")
    text = environment.from_string(_asset("page.html.j2")).render(
        style=Markup(style), script=Markup(script), data=Markup(data), version=version("gsegkit"),
        left_out=left_out, script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )  # fmt: skip
    atomic_write(folder / PAGE_FILE, text.encode())
    return folder / PAGE_FILE


def page_data(material: Material, candidates: Sequence[Candidate], command: str) -> dict[str, Any]:
    """What the page's script works on; JSON-ready."""
    places = [i * len(material) // SHOWN for i in range(SHOWN)] if len(material) > SHOWN else range(len(material))
    return {
        "format": FORMAT,
        "comparison": material.identity,
        "command": command,
        "photographs": [_photograph(material, i) for i in places],
        "candidates": [_candidate(one, places) for one in candidates],
    }


def _photograph(material: Material, place: int) -> dict[str, Any]:
    pixels = material.pixels[place]
    height, width = pixels.shape[1:]
    return {"name": material.names[place], "image": image_uri(pixels, SIDE), "width": width, "height": height}


def _candidate(candidate: Candidate, places: Sequence[int]) -> dict[str, Any]:
    masks = [candidate.mask(i) for i in places]
    counts = sum(torch.bincount(mask.flatten().long(), minlength=len(candidate.classes)) for mask in masks)
    assert isinstance(counts, torch.Tensor)
    return {
        "id": candidate.id, "title": candidate.title, "view": candidate.view, "labels": candidate.labels,
        "classes": list(candidate.classes), "colours": _colours(len(candidate.classes)),
        "shares": [round(float(share), 4) for share in counts / counts.sum()],
        "masks": [_mask(mask) for mask in masks],
    }  # fmt: skip


def _mask(mask: torch.Tensor) -> str:
    size = shrunk_size(mask.shape[0], mask.shape[1], SIDE)
    return mask_uri(F.interpolate(mask[None, None].float(), size=size, mode="nearest-exact")[0, 0].to(torch.uint8))


def _colours(count: int) -> list[str]:
    """CSS colours of the classes, as the masks have them: the background has none."""
    return [
        "transparent" if value == 0 else "#" + "".join(f"{part:02x}" for part in display_palette()[value].tolist())
        for value in range(count)
    ]


def _asset(name: str) -> str:
    return files("gsegkit.choosing").joinpath(name).read_text(encoding="utf-8")
