"""Draws the page: one file, no network, no script but its own."""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from importlib.metadata import version
from importlib.resources import files
from itertools import islice
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from torch import Tensor

from gsegkit.classes.class_map import ClassMap, train_command, use_command
from gsegkit.classes.colours import GREY, distinct_colours, filled
from gsegkit.classes.page.look import Shown, View
from gsegkit.images import png_bytes, resize_pixels, shrunk_size

PICTURE_SIDE = 192  # longer side of the embedded images


def render_page(shown: Shown, run: str, names: ClassMap | None = None, automatic: bool = False) -> str:
    """The page.

    Args:
        shown: images and levels.
        run: the run folder as it stands in commands.
        names: names to begin with; None, or names of another fit = every cluster is a class of its own.
        automatic: nobody gave these names, so they do not reach the clusters of finer levels.
    """
    script = _asset("names.js") + _asset("page.js")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    style = files("gsegkit").joinpath("style.css").read_text(encoding="utf-8") + _asset("page.css")
    return environment.from_string(_asset("page.html.j2")).render(
        style=Markup(style),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        data=Markup(json.dumps(page_data(shown, run, names, automatic), ensure_ascii=False).replace("<", "\\u003c")),
        version=version("gsegkit"),
        run=run,
        count=len(shown.seeds),
        photographs=len(shown.photographs),
    )


def page_data(shown: Shown, run: str, names: ClassMap | None = None, automatic: bool = False) -> dict[str, Any]:
    """What the page's script works on; JSON-ready."""
    maps = shown.levels[0].maps
    known = names is not None and names.extractor == shown.fingerprint
    start = _start(names, automatic) if known and names else None
    clusters = {cluster for view in shown.levels for cluster in view.ids}
    return {
        "commands": [use_command(run), train_command(run)],
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
        "colours": {str(cluster): shown.colours[cluster] for cluster in sorted(clusters) if cluster in shown.colours},
        "palette": palette(1 + len(clusters)),  # grey is for the background alone
        "start": start,
    }


def palette(count: int) -> list[str]:
    """Colours for what has none of its own: grey, then those of classes 1, 2, 3 ... of any mask."""
    return [GREY, *islice(distinct_colours(), count - 1)]


def _start(names: ClassMap, automatic: bool) -> dict[str, Any]:
    """Names to begin with, each with the colour that the report and predictions give it."""
    colours = {0: GREY, **filled(names.colours(names.names), len(names.names))}
    found = names.model_dump(mode="json", exclude={"extractor", "labels_used"})
    classes = [{**entry, "colour": colours[value]} for value, entry in enumerate(found["classes"])]
    return {**found, "classes": classes, "automatic": automatic}


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
        "above": list(view.above),
        "maps": [packed(values) for values in view.maps],
    }


def _small(pixels: Tensor) -> Tensor:
    height, width = pixels.shape[1:]
    return resize_pixels(pixels[None], shrunk_size(height, width, PICTURE_SIDE))[0]


def _uri(data: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def _asset(name: str) -> str:
    return files("gsegkit.classes.page").joinpath(name).read_text(encoding="utf-8")
