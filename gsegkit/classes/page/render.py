"""Draws the page: one file, no network, no script but its own."""

from __future__ import annotations

import base64
import colorsys
import hashlib
import json
import zlib
from importlib.metadata import version
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from torch import Tensor

from gsegkit.classes.class_map import ClassMap, next_command
from gsegkit.classes.page.look import Shown, View
from gsegkit.colours import BRIGHT
from gsegkit.images import png_bytes, resize_pixels, shrunk_size

PICTURE_SIDE = 192  # longer side of the embedded images
GREY = "#8d939b"  # first class, which is not coloured in the end
GOLDEN = 0.381966  # turn of the hue between colours when the hand-made ones are used up


def render_page(shown: Shown, run: str, names: ClassMap | None = None) -> str:
    """The page.

    Args:
        shown: images and levels.
        run: the run folder as it stands in commands.
        names: names to begin with; None, or names of another fit = every cluster is a class of its own.
    """
    script = _asset("page.js")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    style = files("gsegkit").joinpath("style.css").read_text(encoding="utf-8") + _asset("page.css")
    return environment.from_string(_asset("page.html.j2")).render(
        style=Markup(style),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        data=Markup(json.dumps(page_data(shown, run, names), ensure_ascii=False).replace("<", "\\u003c")),
        version=version("gsegkit"),
        run=run,
        count=len(shown.seeds),
        photographs=len(shown.photographs),
    )


def page_data(shown: Shown, run: str, names: ClassMap | None = None) -> dict[str, Any]:
    """What the page's script works on; JSON-ready."""
    maps = shown.levels[0].maps
    known = names is not None and names.extractor == shown.fingerprint
    start = names.model_dump(mode="json", exclude={"extractor", "labels_used"}) if known and names else None
    return {
        "command": next_command(run),
        "extractor": shown.fingerprint,
        "hasLevels": shown.has_levels,
        "cut": shown.k,
        "coarse": shown.coarse,
        "names": list(shown.names),
        "pictures": [_uri(png_bytes(_small(picture))) for picture in shown.pixels],
        "seeds": [str(seed) for seed in shown.seeds],
        "photographs": list(shown.photographs),
        "mapSize": [maps.shape[2], maps.shape[1]],  # width, height
        "levels": [_level(view) for view in shown.levels],
        "palette": palette(1 + max(view.k for view in shown.levels)),  # grey is for the background alone
        "start": start,
    }


def palette(count: int) -> list[str]:
    """Colours to begin with: grey, the bright ones of images, then turns of the hue."""
    colours = [GREY, *(f"#{colour}" for colour in BRIGHT)]
    for i in range(max(0, count - len(colours))):
        red, green, blue = colorsys.hls_to_rgb(i * GOLDEN % 1, (0.62, 0.4)[i % 2], 0.6)
        colours.append(f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}")
    return colours[:count]


def packed(values: Tensor) -> str:
    """[h, w] uint8, row by row, deflated, as base64.

    Not an image: what a script reads back from a canvas is altered by browsers that hide their user's fingerprint.
    """
    return base64.b64encode(zlib.compress(values.contiguous().numpy().tobytes(), 9)).decode()


def _level(view: View) -> dict[str, Any]:
    return {
        "k": view.k,
        "ids": list(view.ids),
        "shares": list(view.shares),
        "facts": dict(view.facts),
        "maps": [packed(values) for values in view.maps],
    }


def _small(pixels: Tensor) -> Tensor:
    height, width = pixels.shape[1:]
    return resize_pixels(pixels[None], shrunk_size(height, width, PICTURE_SIDE))[0]


def _uri(data: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def _asset(name: str) -> str:
    return files("gsegkit.classes.page").joinpath(name).read_text(encoding="utf-8")
